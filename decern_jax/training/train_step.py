"""One step of fine-tuning: a batch of images, a step of Adam."""

from collections.abc import Callable, Mapping
import functools
from typing import Any, ClassVar

import flax
from flax import traverse_util
import jax
import jax.numpy as jnp
import optax

from decern_jax.features import embedding
from decern_jax.ops.head import LinearHead, logits
from decern_jax.training.loss_module import (
  LossModule,
  limit_gradient,
  ranking_loss,
)
from decern_jax.training.training import (
  Recipe,
  cross_entropy,
  epoch_learning_rates,
  example_losses,
)

Params = Mapping[str, Any]


@flax.struct.dataclass
class TrainState:
  """All that changes while a model is fine-tuned.

  What stays as it is has no place here, and so neither gradients nor moments.

  Attributes:
    backbone: The parameters of the backbone that train, nested.
    head: The linear head, which always trains.
    batch_stats: Running statistics of the batch normalisation; empty for a
      model without.
    opt_state: State of the optimiser for `trained`.
    losses: float32 [epochs], the mean loss of each epoch so far.
    epoch: int32 [], the epochs completed.
    batch: int32 [], batches of the next epoch that are done.
    loss_module: None; `LossTrainState` has one.
  """

  backbone: Any
  head: LinearHead
  batch_stats: Any
  opt_state: Any
  losses: jax.Array
  epoch: jax.Array
  batch: jax.Array
  # No field: a state without a module is saved without a place for it.
  loss_module: ClassVar[LossModule | None] = None

  @property
  def trained(self) -> tuple[Any, ...]:
    """All that the optimiser moves."""
    return (self.backbone, self.head)


@flax.struct.dataclass
class LossTrainState(TrainState):
  """A state with a module that learns, beside the model, to predict losses.

  Attributes:
    loss_module: The module.
  """

  loss_module: LossModule | None = None

  @property
  def trained(self) -> tuple[Any, ...]:
    """All that the optimiser moves."""
    return (self.backbone, self.head, self.loss_module)


def partition(params: Params, mask: Params) -> tuple[Params, Params]:
  """Splits parameters into those inside a mask and those outside.

  Args:
    params: Nested parameters.
    mask: A bool for each.

  Returns:
    Two nested parts, without what is in the other one.
  """
  flat, is_inside = map(traverse_util.flatten_dict, (params, mask))
  inside = {path: flat[path] for path in flat if is_inside[path]}
  outside = {path: flat[path] for path in flat if not is_inside[path]}
  return traverse_util.unflatten_dict(inside), traverse_util.unflatten_dict(
    outside
  )


def merge(first: Params, second: Params) -> Params:
  """Puts together what `partition` has split."""
  return traverse_util.unflatten_dict(
    {
      **traverse_util.flatten_dict(first),
      **traverse_util.flatten_dict(second),
    }
  )


def create(
  backbone: Params,
  head: LinearHead,
  batch_stats: Any,
  *,
  recipe: Recipe,
  loss_module: LossModule | None = None,
) -> TrainState:
  """Returns the state before the first epoch, on arrays of its own.

  Args:
    backbone: The parameters of the backbone that train.
    head: A fresh head.
    batch_stats: The running statistics that the weights came with, or {}.
    recipe: How to train.
    loss_module: A fresh module that is to predict losses; None: there is none.

  Returns:
    The state, a `LossTrainState` with a module; it can be donated without
    touching the arguments.
  """
  backbone, head, batch_stats, loss_module = jax.tree.map(
    jnp.copy, (backbone, head, batch_stats, loss_module)
  )
  has_module = loss_module is not None
  make = LossTrainState if has_module else TrainState
  state = make(
    backbone=backbone,
    head=head,
    batch_stats=batch_stats,
    opt_state=None,
    losses=jnp.zeros(recipe.num_epochs, jnp.float32),
    epoch=jnp.zeros((), jnp.int32),
    batch=jnp.zeros((), jnp.int32),
    **({"loss_module": loss_module} if has_module else {}),
  )
  return state.replace(opt_state=_optimizer(recipe).init(state.trained))


@functools.partial(
  jax.jit,
  static_argnames=("apply", "use_batch_statistics", "in_chunks", "recipe"),
  donate_argnames="state",
)
def train_step(
  state: TrainState,
  fixed: Params,
  images: jax.Array,
  labels: jax.Array,
  num_batches: jax.Array,
  *,
  apply: Callable[..., Any],
  use_batch_statistics: bool,
  in_chunks: bool,
  recipe: Recipe,
) -> tuple[TrainState, jax.Array]:
  """Makes one step of Adam on one batch.

  The gradient is taken of the training parameters alone: the pass backwards
  ends at the first of them. On inputs that are split over a mesh the loss, the
  gradients and the statistics of the batch are those of the whole batch.

  With a loss module its `ranking_loss` on the batch is added to the loss of the
  examples, which is its target, and the loss that is told stays that of the
  examples. In the first 60 % of the epochs the module moves the backbone too.

  Args:
    state: The state; donated.
    fixed: The other parameters of the backbone.
    images: uint8 [batch, height, width, channels].
    labels: int32 [batch], the classes, or [batch, classes], 0 or 1.
    num_batches: float32 [], batches of an epoch.
    apply: With `use_batch_statistics`, a backbone's `train_apply`; else its
      `apply`. With a loss module, `stage_train_apply` and `stage_apply`.
    use_batch_statistics: Whether batch normalisation goes by the statistics of
      the batch, and moves the running ones.
    in_chunks: Whether the backbone sees a few images at a time, as is faster on
      one CPU; only where it treats each image by itself.
    recipe: How to train.

  Returns:
    The next state, and the loss of the batch.
  """

  def compute_loss(trained):
    backbone, head, *module = trained
    variables = {"params": merge(backbone, fixed)}
    if state.batch_stats:
      variables["batch_stats"] = state.batch_stats
    batch_stats = state.batch_stats
    if use_batch_statistics:
      outputs, batch_stats = apply(variables, images)
    elif in_chunks:
      outputs = embedding.apply_in_chunks(apply, variables, images)
    else:
      outputs = apply(variables, images)
    counted = jnp.ones(len(labels), bool)
    if not module:
      loss = cross_entropy(head, outputs, labels, counted)
      return loss, (loss, batch_stats)
    outputs, stages = outputs
    loss = cross_entropy(head, outputs, labels, counted)
    ranking = ranking_loss(
      *module,
      limit_gradient(stages, state.epoch, num_epochs=recipe.num_epochs),
      example_losses(logits(head, outputs), labels),
    )
    return loss + ranking, (loss, batch_stats)

  trained = state.trained
  (_, (loss, batch_stats)), gradient = jax.value_and_grad(
    compute_loss, has_aux=True
  )(trained)
  rate = epoch_learning_rates(recipe)[state.epoch]
  hyperparams = {**state.opt_state.hyperparams, "learning_rate": rate}
  opt_state = state.opt_state._replace(hyperparams=hyperparams)
  # Adam in optax raises a float to the power of an integer.
  with jax.numpy_dtype_promotion("standard"):
    update, opt_state = _optimizer(recipe).update(gradient, opt_state)
  backbone, head, *module = optax.apply_updates(trained, update)
  following = state.replace(
    backbone=backbone,
    head=head,
    batch_stats=batch_stats,
    opt_state=opt_state,
    losses=state.losses.at[state.epoch].add(loss / num_batches),
    batch=state.batch + 1,
    **({"loss_module": module[0]} if module else {}),
  )
  return following, loss


def _optimizer(recipe: Recipe) -> optax.GradientTransformation:
  return optax.inject_hyperparams(optax.adam)(
    learning_rate=recipe.learning_rate
  )
