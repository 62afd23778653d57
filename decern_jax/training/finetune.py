"""Fine-tuning: the backbone and the head train on images in every round."""

from collections.abc import Callable, Generator, Iterator, Mapping
import contextlib
import dataclasses
import functools
import itertools
import time
from typing import Any, NoReturn

from absl import logging
from etils import epath
from flax import struct, traverse_util
import jax
import jax.numpy as jnp
from jax.sharding import Mesh
import numpy as np
import tqdm

from decern_jax.data import pipeline
from decern_jax.data.dataset import Split
from decern_jax.distributed import processes
from decern_jax.distributed.sharding import replicate
from decern_jax.features import embedding
from decern_jax.io import checkpoint, storage
from decern_jax.models import Backbone
from decern_jax.ops import keys
from decern_jax.ops.head import LinearHead, logits
from decern_jax.strategies.base import Auxiliary
from decern_jax.training import auxiliary as auxiliary_lib
from decern_jax.training import learner, rounds
from decern_jax.training.head import cross_entropy, example_losses, init_head
from decern_jax.training.recipe import (
  Recipe,
  apply_gradient,
  learning_rates,
  make_optimizer,
)

# Holds the states of unfinished rounds, each in a folder named by its round.
FOLDER = "training"

Params = Mapping[str, Any]


class TrainState(struct.PyTreeNode):
  """Everything that changes during fine-tuning.

  Frozen parameters are not part of it, so they get no gradients and no moments.

  Attributes:
    backbone: The trainable parameters of the backbone, nested.
    head: The linear head, which always trains.
    batch_stats: Running statistics of batch normalization; empty for a model
      without it.
    opt_state: State of the optimizer for `trained`.
    losses: float32 [epochs], the mean loss of each epoch so far.
    epoch: int32 [], completed epochs.
    batch: int32 [], completed batches of the current epoch.
    auxiliary: Parameters of the strategy's auxiliary module; {} without one.
  """

  backbone: Any
  head: LinearHead
  batch_stats: Any
  opt_state: Any
  losses: jax.Array
  epoch: jax.Array
  batch: jax.Array
  auxiliary: Any

  @property
  def trained(self) -> tuple[Any, ...]:
    """All parameters that the optimizer updates."""
    return (self.backbone, self.head, self.auxiliary)


def partition(params: Params, mask: Params) -> tuple[Params, Params]:
  """Splits parameters into those inside a mask and those outside."""
  flat, is_inside = map(traverse_util.flatten_dict, (params, mask))
  inside = {path: flat[path] for path in flat if is_inside[path]}
  outside = {path: flat[path] for path in flat if not is_inside[path]}
  return traverse_util.unflatten_dict(inside), traverse_util.unflatten_dict(
    outside
  )


def merge(first: Params, second: Params) -> Params:
  """Merges what `partition` has split."""
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
  auxiliary: Any = None,
) -> TrainState:
  """Returns the state before the first epoch, on arrays of its own.

  Returns:
    The state; it can be donated without touching the arguments.
  """
  if auxiliary is None:
    auxiliary = {}
  backbone, head, batch_stats, auxiliary = jax.tree.map(
    jnp.copy, (backbone, head, batch_stats, auxiliary)
  )
  state = TrainState(
    backbone=backbone,
    head=head,
    batch_stats=batch_stats,
    opt_state=None,
    losses=jnp.zeros(recipe.num_epochs, jnp.float32),
    epoch=jnp.zeros((), jnp.int32),
    batch=jnp.zeros((), jnp.int32),
    auxiliary=auxiliary,
  )
  return state.replace(opt_state=make_optimizer(recipe).init(state.trained))


@functools.partial(
  jax.jit,
  static_argnames=(
    "apply",
    "use_batch_statistics",
    "in_chunks",
    "recipe",
    "auxiliary",
  ),
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
  auxiliary: Auxiliary | None = None,
) -> tuple[TrainState, jax.Array]:
  """Makes one optimizer step on one batch.

  The gradient is that of the trainable parameters only: the backward pass ends
  at the first of them. On inputs that are split over a mesh, the loss, the
  gradients and the batch statistics are those of the whole batch.

  The loss of an auxiliary module is added to the minimized loss, but not to the
  reported one.

  Args:
    state: The state; donated.
    fixed: The frozen parameters of the backbone.
    images: uint8 [batch, height, width, channels].
    labels: int32 [batch], the classes, or [batch, classes], 0 or 1.
    num_batches: float32 [], batches of an epoch.
    apply: With `use_batch_statistics`, a backbone's `train_apply`, otherwise
      its `apply`. With an auxiliary module, `stage_train_apply` and
      `stage_apply`.
    use_batch_statistics: Whether batch normalization uses the statistics of the
      batch, and updates the running ones.
    in_chunks: Whether the backbone gets a few images at a time, which is faster
      on one CPU. Ignored with `use_batch_statistics`.
    recipe: How to train.
    auxiliary: The strategy's auxiliary module, whose parameters are in the
      state, or None.

  Returns:
    The next state, and the loss of the batch.
  """

  def compute_loss(trained):
    backbone, head, params = trained
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
    if auxiliary is None:
      loss = cross_entropy(head, outputs, labels, counted)
      return loss, (loss, batch_stats)
    outputs, stages = outputs
    loss = cross_entropy(head, outputs, labels, counted)
    own = auxiliary.loss(
      params,
      stages,
      example_losses(logits(head, outputs), labels),
      epoch=state.epoch,
      num_epochs=recipe.num_epochs,
    )
    return loss + own, (loss, batch_stats)

  trained = state.trained
  (_, (loss, batch_stats)), gradient = jax.value_and_grad(
    compute_loss, has_aux=True
  )(trained)
  rates = learning_rates(recipe, jnp.arange(recipe.num_epochs))
  (backbone, head, params), opt_state = apply_gradient(
    recipe, trained, state.opt_state, gradient, rates[state.epoch]
  )
  following = state.replace(
    backbone=backbone,
    head=head,
    batch_stats=batch_stats,
    opt_state=opt_state,
    losses=state.losses.at[state.epoch].add(loss / num_batches),
    batch=state.batch + 1,
    auxiliary=params,
  )
  return following, loss


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setup:
  """What is fine-tuned, on what data, and how.

  Attributes:
    backbone: The model, with the variables that every round starts from.
    mask: A bool for each of its parameters, True for the trainable ones.
    use_batch_statistics: Whether batch normalization uses the statistics of the
      batch, and updates the running ones.
    num_classes: Number of classes.
    train: The training examples.
    augment: Maps a decoded image and a `numpy.random.Generator` to uint8
      [size, size, channels].
    recipe: How to train.
    mesh: The mesh that batches are split over.
    num_workers: Threads that decode images.
    checkpoint_seconds: Time between two checkpoints inside a round.
    auxiliary: The module that trains together with the model, on the outputs of
      the backbone's stages, if any.
  """

  backbone: Backbone
  mask: Any
  use_batch_statistics: bool
  num_classes: int
  train: Split
  augment: Callable[[np.ndarray, np.random.Generator], np.ndarray]
  recipe: Recipe
  mesh: Mesh
  num_workers: int
  checkpoint_seconds: float
  auxiliary: Auxiliary | None = None

  @property
  def apply(self) -> Callable[..., Any]:
    """The function that computes features in a training step."""
    backbone = self.backbone
    if self.auxiliary is not None:
      forms = backbone.stage_apply, backbone.stage_train_apply
    else:
      forms = backbone.apply, backbone.train_apply
    return forms[self.use_batch_statistics]


def make_learner(
  setup: Setup,
  embed: Callable[..., dict[str, learner.PlacedSplit]],
  *,
  seed: int,
  workdir: epath.PathLike,
) -> learner.Learner:
  """Makes a learner of whole models.

  A long training is checkpointed inside the round: at the end of an epoch, so
  that a kill costs about `checkpoint_seconds`, and after the current batch when
  SIGTERM comes. The orders and the augmentation of an epoch depend only on the
  seed, the round and the epoch, so that a resumed round ends exactly, bit for
  bit, like an uninterrupted one.

  Args:
    setup: What is fine-tuned.
    embed: Maps variables and a mask, bool [train], to the data splits, as
      `Learner.embed` does. It also gets an auxiliary module's parameters.
    seed: Seed of the run.
    workdir: Directory of the run.
  """

  def fit(state: rounds.RoundState) -> learner.Fit:
    round_num = int(state.round)
    parent = storage.as_path(workdir) / FOLDER
    _clear(parent, before=round_num)
    with checkpoint.open_manager(parent / str(round_num)) as manager:
      trained = _train(setup, state, seed, manager)
    losses = np.asarray(trained.losses)
    _, fixed = partition(setup.backbone.variables["params"], setup.mask)
    variables = {"params": merge(trained.backbone, fixed)}
    if trained.batch_stats:
      variables["batch_stats"] = trained.batch_stats
    return learner.Fit(
      variables, trained.head, losses, trained.auxiliary or None
    )

  def embed_model(model: learner.Fit, wanted: np.ndarray):
    params = () if model.auxiliary is None else (model.auxiliary,)
    return embed(model.variables, wanted, *params)

  return learner.Learner(fit=fit, embed=embed_model)


def finish(workdir: epath.PathLike) -> None:
  """Removes the checkpoints that only an interrupted round needs."""
  folder = storage.as_path(workdir) / FOLDER
  if folder.exists():
    folder.rmtree()


def _clear(parent: epath.Path, *, before: int) -> None:
  """Removes the checkpoints of earlier rounds, which are finished."""

  def remove() -> None:
    for folder in parent.iterdir() if parent.exists() else ():
      if int(folder.name) < before:
        folder.rmtree()

  processes.on_process_zero(remove)


def _train(
  setup: Setup, state: rounds.RoundState, seed: int, manager
) -> TrainState:
  """Runs the remaining epochs of a round."""
  round_num, recipe = int(state.round), setup.recipe
  initial, fixed = _start(setup, seed)
  current = checkpoint.restore_latest(manager, initial)
  first, done = int(current.epoch), int(current.batch)
  if first or done:
    logging.info(
      "Round %d continues after epoch %d and %d batches.",
      *(round_num, first, done),
    )
  indices = np.flatnonzero(state.labeled)
  num_batches = recipe.steps_per_epoch or max(
    len(indices) // recipe.batch_size, 1
  )
  steps = (first * num_batches + done, recipe.num_epochs * num_batches)
  last_save = time.monotonic()
  with (
    contextlib.closing(
      _device_batches(setup, indices, seed, round_num, steps)
    ) as pairs,
    _epoch_bar(round_num, first, recipe.num_epochs) as bar,
  ):
    for epoch in range(first, recipe.num_epochs):
      left = itertools.islice(pairs, num_batches - int(current.batch))
      current = _run_epoch(setup, current, fixed, left, num_batches, manager)
      bar.update()
      # Processes must agree, so the clock of process zero decides.
      elapsed = processes.from_process_zero(
        np.array(time.monotonic() - last_save)
      )
      if elapsed >= setup.checkpoint_seconds:
        learner.check_losses(np.asarray(current.losses), round_num)
        _save(manager, (epoch + 1) * num_batches, current)
        last_save = time.monotonic()
  learner.check_losses(np.asarray(current.losses), round_num)
  return current


def _start(setup: Setup, seed: int) -> tuple[TrainState, Params]:
  """Returns the state that a round starts from, and the frozen parameters."""
  variables = setup.backbone.variables
  backbone, fixed = partition(variables["params"], setup.mask)
  head = init_head(
    keys.seed_key(seed, "params"),
    dim=setup.backbone.dim,
    num_classes=setup.num_classes,
  )
  initial = create(
    backbone,
    head,
    variables.get("batch_stats", {}),
    recipe=setup.recipe,
    auxiliary=auxiliary_lib.init(
      setup.auxiliary, seed, stage_dims=setup.backbone.stage_dims
    ),
  )
  return replicate((initial, fixed), setup.mesh)


def _device_batches(
  setup: Setup,
  indices: np.ndarray,
  seed: int,
  round_num: int,
  steps: tuple[int, int],
) -> Generator[tuple[jax.Array, ...], None, None]:
  """Yields images and labels of the steps in the range `steps`."""

  def seeds(number: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    entropy = (*keys.host_seed(seed, "epochs", round_num), number)
    return entropy, entropy

  size, (first, num_steps) = setup.recipe.batch_size, steps
  return pipeline.device_batches(
    setup.train,
    lambda: pipeline.plan_batches(
      indices,
      batch_size=size,
      seeds=seeds,
      first=first,
      num_steps=num_steps,
    ),
    setup.augment,
    batch_size=min(size, len(indices)),
    mesh=setup.mesh,
    num_workers=setup.num_workers,
  )


def _run_epoch(
  setup: Setup,
  state: TrainState,
  fixed: Params,
  pairs: Iterator[tuple[jax.Array, ...]],
  num_batches: int,
  manager,
) -> TrainState:
  """Makes a step on each remaining batch of an epoch."""
  waiting = None
  for images, labels in pairs:
    if processes.is_stopping():
      _save_and_end(manager, state, num_batches)
    state, loss = train_step(
      state,
      fixed,
      images,
      labels,
      np.float32(num_batches),
      apply=setup.apply,
      use_batch_statistics=setup.use_batch_statistics,
      in_chunks=setup.mesh.size == 1,
      recipe=setup.recipe,
      auxiliary=setup.auxiliary,
    )
    # Waiting for the previous batch while the device works on this one keeps
    # batches from piling up in its memory.
    if waiting is not None:
      waiting.block_until_ready()
    waiting = loss
  return state.replace(
    epoch=state.epoch + 1, batch=jax.numpy.zeros_like(state.batch)
  )


def _save_and_end(manager, state: TrainState, num_batches: int) -> NoReturn:
  """Saves the state in the middle of an epoch, and ends the run."""
  step = int(state.epoch) * num_batches + int(state.batch)
  # Without a new step since the last checkpoint there is nothing to save.
  if step and step != manager.latest_step():
    _save(manager, step, state)
  raise processes.PreemptedError


def _epoch_bar(round_num: int, first: int, num_epochs: int) -> tqdm.tqdm:
  # `disable=None` keeps the bar out of files and pipes.
  return tqdm.tqdm(
    initial=first,
    total=num_epochs,
    desc=f"epochs of round {round_num}",
    unit="epoch",
    leave=False,
    disable=None,
  )


def _save(manager, step: int, state: TrainState) -> None:
  """Saves a state, and returns when it is on the disk."""
  checkpoint.save(manager, step, state)
  # The next training step reuses the memory of the state.
  manager.wait_until_finished()
