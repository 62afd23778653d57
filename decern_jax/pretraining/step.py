"""One step of pre-training: a batch of views, a step of the optimiser."""

import functools
from typing import Any, NamedTuple

import flax
import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec
import optax

from decern_jax import models
from decern_jax.pretraining.methods import (
  METHODS,
  Inputs,
  Network,
  Options,
  Outcome,
)
from decern_jax.pretraining.objectives import normalize

OPTIMIZERS = ("adamw", "lars")


class Recipe(NamedTuple):
  """How a network is trained.

  Attributes:
    optimizer: One of `OPTIMIZERS`.
    learning_rate: The peak rate.
    weight_decay: Of kernels; biases and normalisations have none.
    num_epochs: Passes over the images.
    warmup_epochs: Of them, those in which the rate rises linearly from 0.
    steps_per_epoch: Batches of an epoch.
  """

  optimizer: str
  learning_rate: float
  weight_decay: float
  num_epochs: int
  warmup_epochs: int
  steps_per_epoch: int

  @property
  def num_steps(self) -> int:
    """The steps of all epochs."""
    return self.num_epochs * self.steps_per_epoch


@flax.struct.dataclass
class PretrainState:
  """All that changes in pre-training.

  Attributes:
    params: Parameters of "backbone" and "projector".
    batch_stats: Running statistics of "backbone"; {} without normalisation.
    opt_state: State of the optimiser.
    momentum: {}, or with MoCo v2 "params" and "batch_stats" of the momentum
      network, and "queue", float32 [queue, dim].
    losses: float32 [epochs], the mean loss of each; of the one that runs, its
      part so far.
    step: int32 [], the steps made.
  """

  params: Any
  batch_stats: Any
  opt_state: Any
  momentum: Any
  losses: jax.Array
  step: jax.Array


def create(
  key: jax.Array,
  backbone: models.Backbone,
  network: Network,
  *,
  options: Options,
  recipe: Recipe,
) -> PretrainState:
  """Returns the state before the first step, on arrays of its own.

  Args:
    key: Random key of the projector and of the queue.
    backbone: The backbone to start from.
    network: The network with this backbone.
    options: What the loss depends on.
    recipe: How to train.

  Returns:
    The state; it can be donated without touching the backbone.
  """
  projector_key, queue_key = jax.random.split(key)
  variables = jax.tree.map(jnp.copy, dict(backbone.variables))
  projector = jax.jit(network.projector.init)(
    projector_key, jnp.zeros((2, backbone.dim), jnp.float32)
  )
  params = {"backbone": variables["params"], "projector": projector["params"]}
  batch_stats = {"backbone": variables.get("batch_stats", {})}
  momentum = {}
  if options.objective == "moco_v2":
    shape = (options.queue_size, network.projector.widths[-1])
    momentum = {
      "params": jax.tree.map(jnp.copy, params),
      "batch_stats": jax.tree.map(jnp.copy, batch_stats),
      "queue": normalize(jax.random.normal(queue_key, shape)),
    }
  return PretrainState(
    params=params,
    batch_stats=batch_stats,
    opt_state=_optimizer(recipe).init(params),
    momentum=momentum,
    losses=jnp.zeros(recipe.num_epochs, jnp.float32),
    step=jnp.zeros((), jnp.int32),
  )


def learning_rate(recipe: Recipe, step: jax.typing.ArrayLike) -> jax.Array:
  """Returns the rate of a step: a linear rise from 0, then half a cosine to 0.

  Args:
    recipe: How to train.
    step: The steps before.

  Returns:
    float32 [].
  """
  step = jnp.asarray(step, jnp.float32)
  warmup = float(recipe.warmup_epochs * recipe.steps_per_epoch)
  decay = max(1.0, recipe.num_steps - warmup)
  rise = (step + 1.0) / max(1.0, warmup)
  fraction = jnp.clip((step - warmup) / decay, 0.0, 1.0)
  fall = 0.5 * (1.0 + jnp.cos(jnp.pi * fraction))
  return recipe.learning_rate * jnp.where(step < warmup, rise, fall)


def loss_and_gradient(
  key: jax.Array,
  state: PretrainState,
  views: jax.Array,
  *,
  network: Network,
  options: Options,
) -> tuple[tuple[jax.Array, Outcome], Any]:
  """Computes the loss of a batch, and its gradient.

  On views that are split over a mesh, the loss, the statistics, the negatives
  and the gradient are those of the whole batch. Not under `shard_map`.

  Args:
    key: Random key of the run; the step draws its own from it.
    state: The state.
    views: uint8 [batch, 2, height, width, channels].
    network: The network.
    options: What the loss depends on.

  Returns:
    The loss and what else comes of the batch, and the gradient.
  """
  inputs = Inputs(
    views=views,
    batch_stats=state.batch_stats,
    momentum=state.momentum,
    step=state.step,
    key=jax.random.fold_in(key, state.step),
  )
  method = METHODS[options.objective]
  return jax.value_and_grad(method, has_aux=True)(
    state.params, inputs, network, options
  )


@functools.partial(
  jax.jit,
  static_argnames=("network", "options", "recipe", "mesh"),
  donate_argnames="state",
)
def pretrain_step(
  key: jax.Array,
  state: PretrainState,
  views: jax.Array,
  *,
  network: Network,
  options: Options,
  recipe: Recipe,
  mesh: Mesh,
) -> tuple[PretrainState, jax.Array]:
  """Makes one step on one batch.

  Args:
    key: As in `loss_and_gradient`.
    state: The state, on every device; donated.
    views: As in `loss_and_gradient`.
    network: The network.
    options: What the loss depends on.
    recipe: How to train.
    mesh: The mesh that the views are split over.

  Returns:
    The next state, on every device, and the loss of the batch.
  """
  (loss, outcome), gradient = loss_and_gradient(
    key, state, views, network=network, options=options
  )
  # Optimisers of optax raise a float to the power of an integer.
  with jax.numpy_dtype_promotion("standard"):
    update, opt_state = _optimizer(recipe).update(
      gradient, state.opt_state, state.params
    )
  epoch = state.step // recipe.steps_per_epoch
  following = state.replace(
    params=optax.apply_updates(state.params, update),
    batch_stats=outcome.batch_stats,
    opt_state=opt_state,
    momentum=outcome.momentum,
    losses=state.losses.at[epoch].add(loss / recipe.steps_per_epoch),
    step=state.step + 1,
  )
  everywhere = NamedSharding(mesh, PartitionSpec())
  return jax.lax.with_sharding_constraint(following, everywhere), loss


def _optimizer(recipe: Recipe) -> optax.GradientTransformation:
  make = {"adamw": _adamw, "lars": _lars}[recipe.optimizer]
  return make(functools.partial(learning_rate, recipe), recipe.weight_decay)


def _adamw(schedule, weight_decay: float) -> optax.GradientTransformation:
  return optax.adamw(schedule, weight_decay=weight_decay, mask=_are_kernels)


def _lars(schedule, weight_decay: float) -> optax.GradientTransformation:
  return optax.lars(
    schedule,
    weight_decay=weight_decay,
    weight_decay_mask=_are_kernels,
    trust_ratio_mask=_are_kernels,
  )


def _are_kernels(params: Any) -> Any:
  """Tells kernels from biases and from gains of normalisations."""
  return jax.tree.map(lambda leaf: leaf.ndim > 1, params)
