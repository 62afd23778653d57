"""Learning on images: backbone and head are fine-tuned in every round."""

from collections.abc import Callable, Iterator
import contextlib
import itertools
import time
from typing import Any, NamedTuple, NoReturn

from absl import logging
from etils import epath
import jax
from jax.sharding import Mesh
import numpy as np
import tqdm

from decern_jax.data import batches
from decern_jax.data.dataset import Split
from decern_jax.distributed import processes
from decern_jax.distributed.sharding import replicate
from decern_jax.io import checkpoint, storage
from decern_jax.models import Backbone
from decern_jax.ops import keys
from decern_jax.training import (
  learner,
  loss_module,
  rounds,
  train_step,
  training,
)

# The state in the middle of a round, under the number of the round.
FOLDER = "training"


class Setup(NamedTuple):
  """What is fine-tuned, on what, and how.

  Attributes:
    backbone: The model, with the variables that every round starts from.
    mask: A bool for each of its parameters, True for those that train.
    use_batch_statistics: Whether batch normalisation goes by the statistics of
      the batch, and moves its running ones.
    num_classes: Number of classes.
    train: The training examples.
    augment: Maps a decoded image and a `numpy.random.Generator` to uint8
      [size, size, channels].
    recipe: How to train.
    mesh: Batches are split over it.
    num_workers: Threads that decode images.
    checkpoint_seconds: Time between two savings inside a round.
    predicts_losses: Whether a module learns to predict losses beside the model,
      from the outputs of the backbone's stages.
  """

  backbone: Backbone
  mask: Any
  use_batch_statistics: bool
  num_classes: int
  train: Split
  augment: Callable[[np.ndarray, np.random.Generator], np.ndarray]
  recipe: training.Recipe
  mesh: Mesh
  num_workers: int
  checkpoint_seconds: float
  predicts_losses: bool = False

  @property
  def apply(self) -> Callable[..., Any]:
    """What computes features in a step of training."""
    backbone = self.backbone
    if self.predicts_losses:
      forms = backbone.stage_apply, backbone.stage_train_apply
    else:
      forms = backbone.apply, backbone.train_apply
    return forms[self.use_batch_statistics]


def make_learner(
  setup: Setup,
  embed: Callable[..., dict[str, learner.Part]],
  *,
  seed: int,
  workdir: epath.PathLike,
) -> learner.Learner:
  """Makes a learner of whole models.

  Long trainings are saved inside the round, at the end of an epoch, so that a
  kill costs about `checkpoint_seconds`, and after the batch in which SIGTERM
  comes. The orders and the augmentation of an epoch follow from the seed, the
  round and the epoch alone, so that the resumed round ends as the uninterrupted
  one, bit for bit.

  Args:
    setup: What is fine-tuned.
    embed: Maps variables and a mask, bool [train], to the parts of the data, as
      `Learner.embed` does; with `predicts_losses` it is given the module too.
    seed: Seed of the run.
    workdir: Directory of the run.

  Returns:
    The learner.
  """

  def fit(state: rounds.RoundState) -> learner.Fit:
    round_num = int(state.round)
    parent = storage.as_path(workdir) / FOLDER
    _clear(parent, before=round_num)
    with checkpoint.open_manager(parent / str(round_num)) as manager:
      trained = _train(setup, state, seed, manager)
    losses = np.asarray(trained.losses)
    _, fixed = train_step.partition(
      setup.backbone.variables["params"], setup.mask
    )
    variables = {"params": train_step.merge(trained.backbone, fixed)}
    if trained.batch_stats:
      variables["batch_stats"] = trained.batch_stats
    return learner.Fit(variables, trained.head, losses, trained.loss_module)

  def embed_model(model: learner.Fit, wanted: np.ndarray):
    module = () if model.loss_module is None else (model.loss_module,)
    return embed(model.variables, wanted, *module)

  return learner.Learner(fit=fit, embed=embed_model)


def finish(workdir: epath.PathLike) -> None:
  """Removes what only an interrupted round needs.

  Args:
    workdir: Directory of a run whose rounds are all saved.
  """
  folder = storage.as_path(workdir) / FOLDER
  if folder.exists():
    folder.rmtree()


def _clear(parent: epath.Path, *, before: int) -> None:
  """Removes the states of earlier rounds, which are over."""

  def remove() -> None:
    for folder in parent.iterdir() if parent.exists() else ():
      if int(folder.name) < before:
        folder.rmtree()

  processes.on_process_zero(remove)


def _train(
  setup: Setup, state: rounds.RoundState, seed: int, manager
) -> train_step.TrainState:
  """Runs the epochs that are left of a round."""
  round_num, recipe = int(state.round), setup.recipe
  initial, fixed = _start(setup, seed)
  current = checkpoint.restore_latest(manager, initial)
  first, done = int(current.epoch), int(current.batch)
  if first or done:
    logging.info(
      "Round %d continues after epoch %d and %d batches.",
      *(round_num, first, done),
    )
  positions = np.flatnonzero(state.labeled)
  num_batches = recipe.steps_per_epoch or max(
    len(positions) // recipe.batch_size, 1
  )
  steps = (first * num_batches + done, recipe.num_epochs * num_batches)
  last_save = time.monotonic()
  with (
    contextlib.closing(
      _device_batches(setup, positions, seed, round_num, steps)
    ) as pairs,
    _epoch_bar(round_num, first, recipe.num_epochs) as bar,
  ):
    for epoch in range(first, recipe.num_epochs):
      left = itertools.islice(pairs, num_batches - int(current.batch))
      current = _run_epoch(setup, current, fixed, left, num_batches, manager)
      bar.update()
      # By the clock of one process, lest they disagree.
      elapsed = processes.from_process_zero(
        np.array(time.monotonic() - last_save)
      )
      if elapsed >= setup.checkpoint_seconds:
        learner.check_losses(np.asarray(current.losses), round_num)
        _save(manager, (epoch + 1) * num_batches, current)
        last_save = time.monotonic()
  learner.check_losses(np.asarray(current.losses), round_num)
  return current


def _start(
  setup: Setup, seed: int
) -> tuple[train_step.TrainState, train_step.Params]:
  """Returns the state that a round starts from, and the fixed parameters."""
  variables = setup.backbone.variables
  backbone, fixed = train_step.partition(variables["params"], setup.mask)
  head = training.init_head(
    keys.seed_key(seed, "params"),
    dim=setup.backbone.dim,
    num_classes=setup.num_classes,
  )
  module = None
  if setup.predicts_losses:
    key = keys.seed_key(seed, loss_module.PURPOSE)
    module = loss_module.init(key, stage_dims=setup.backbone.stage_dims)
  initial = train_step.create(
    backbone,
    head,
    variables.get("batch_stats", {}),
    recipe=setup.recipe,
    loss_module=module,
  )
  return replicate((initial, fixed), setup.mesh)


def _device_batches(
  setup: Setup,
  positions: np.ndarray,
  seed: int,
  round_num: int,
  steps: tuple[int, int],
) -> Iterator[tuple[jax.Array, jax.Array]]:
  """Yields images and labels of the steps from the first to the last."""

  def seeds(number: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    entropy = (*keys.host_seed(seed, "epochs", round_num), number)
    return entropy, entropy

  size, (first, num_steps) = setup.recipe.batch_size, steps
  return batches.device_batches(
    setup.train,
    lambda: batches.plan_batches(
      positions,
      batch_size=size,
      seeds=seeds,
      first=first,
      num_steps=num_steps,
    ),
    setup.augment,
    batch_size=min(size, len(positions)),
    mesh=setup.mesh,
    num_workers=setup.num_workers,
  )


def _run_epoch(
  setup: Setup,
  state: train_step.TrainState,
  fixed: train_step.Params,
  pairs: Iterator[tuple[jax.Array, jax.Array]],
  num_batches: int,
  manager,
) -> train_step.TrainState:
  """Makes a step on each batch that is left of an epoch."""
  waiting = None
  for images, labels in pairs:
    if processes.is_stopping():
      _save_and_end(manager, state, num_batches)
    state, loss = train_step.train_step(
      state,
      fixed,
      images,
      labels,
      np.float32(num_batches),
      apply=setup.apply,
      use_batch_statistics=setup.use_batch_statistics,
      in_chunks=setup.mesh.size == 1,
      recipe=setup.recipe,
    )
    # The device works on this batch while the one before is waited for, so that
    # batches do not pile up in its memory.
    if waiting is not None:
      waiting.block_until_ready()
    waiting = loss
  return state.replace(
    epoch=state.epoch + 1, batch=jax.numpy.zeros_like(state.batch)
  )


def _save_and_end(
  manager, state: train_step.TrainState, num_batches: int
) -> NoReturn:
  """Saves what is trained so far, in the middle of an epoch."""
  step = int(state.epoch) * num_batches + int(state.batch)
  # Nothing is new where it was just restored or saved.
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


def _save(manager, step: int, state: train_step.TrainState) -> None:
  """Saves a state, and returns when it is on the disk.

  The next step of training takes over the memory of the state.
  """
  checkpoint.save(manager, step, state)
  manager.wait_until_finished()
