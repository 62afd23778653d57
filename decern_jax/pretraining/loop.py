"""Runs the epochs of a pre-training, with checkpoints also inside an epoch."""

from collections.abc import Callable, Generator, Iterator
import contextlib
import dataclasses
import functools
import itertools
import time
from typing import Any

from absl import logging
from etils import epath
import jax
from jax.sharding import Mesh
import numpy as np
import tqdm

from decern_jax import models
from decern_jax.data import pipeline
from decern_jax.data.dataset import Split
from decern_jax.distributed import processes, sharding
from decern_jax.io import checkpoint
from decern_jax.ops import keys
from decern_jax.pretraining import journal, step
from decern_jax.pretraining.methods import Network, Options
from decern_jax.pretraining.step import PretrainState
from decern_jax.pretraining.views import Views, make_views
from decern_jax.training.recipe import Recipe, learning_rates

FOLDER = "checkpoints"
# Number of images whose views are made in advance, besides the batches on the
# devices.
_IMAGES_AHEAD = 256


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setup:
  """What is trained, on what data, and how.

  Attributes:
    backbone: The backbone to start from.
    network: The network with this backbone.
    options: The options of the loss.
    recipe: How to train. It sets `steps_per_epoch`, and the batch size is a
      multiple of the number of devices.
    views: How the views are made.
    train: The images; their labels are never read.
    seed: Seed of the run.
    probe: Maps variables of the backbone to metrics, or None.
    probe_epochs: Epochs between two probes.
    mesh: The mesh that batches are split over.
    num_workers: Threads that make views.
    checkpoint_seconds: Time between two checkpoints.
  """

  backbone: models.Backbone
  network: Network
  options: Options
  recipe: Recipe
  views: Views
  train: Split
  seed: int
  probe: Callable[[Any], dict[str, float]] | None
  probe_epochs: int
  mesh: Mesh
  num_workers: int
  checkpoint_seconds: float


def run(
  setup: Setup,
  workdir: epath.PathLike,
  *,
  on_epoch: Callable[[journal.EpochRecord], None] = lambda record: None,
) -> PretrainState:
  """Runs the remaining steps of a pre-training.

  The state after a step and the views of a batch depend only on the seed and
  the number of the step. A resumed run therefore ends exactly, bit for bit,
  like an uninterrupted one. The record of an epoch is written before the state
  that follows it.

  Args:
    setup: What is trained.
    workdir: Folder of the run.
    on_epoch: Called with the record of every epoch, including those of the
      interrupted run.

  Returns:
    The state after the last step.

  Raises:
    RuntimeError: If the loss is not finite.
    processes.PreemptedError: If the process received SIGTERM; the state is
      saved.
  """
  with checkpoint.open_manager(epath.Path(workdir) / FOLDER) as manager:
    state, records = _restore(setup, workdir, manager)
    for record in records:
      on_epoch(record)
    save = _Saver(setup, manager)
    with (
      contextlib.closing(_batches(setup, int(state.step))) as batched,
      _step_bar(setup.recipe, int(state.step)) as bar,
    ):
      for epoch in range(len(records), setup.recipe.num_epochs + 1):
        state, record = _run_epoch(setup, state, epoch, batched, bar, save)
        records.append(record)
        processes.on_process_zero(
          functools.partial(journal.write, workdir, records)
        )
        on_epoch(record)
        save.if_due(state)
  return state


def variables_of(state: PretrainState) -> dict[str, Any]:
  """Returns the variables of the backbone, in the form of `models.create`."""
  variables = {"params": state.params["backbone"]}
  if state.batch_stats["backbone"]:
    variables["batch_stats"] = state.batch_stats["backbone"]
  return variables


class _Saver:
  """Saves states when a checkpoint is due, or when the run must end."""

  def __init__(self, setup: Setup, manager):
    self._setup, self._manager = setup, manager
    self._last = time.monotonic()

  def if_due(self, state: PretrainState) -> None:
    is_stopping = processes.is_stopping()
    age = time.monotonic() - self._last
    # Processes must agree, so the clock of process zero decides.
    is_due = bool(
      processes.from_process_zero(
        np.array(age >= self._setup.checkpoint_seconds)
      )
    )
    if is_stopping or is_due:
      _check_losses(np.asarray(state.losses))
      checkpoint.save(self._manager, int(state.step), state)
      # The next training step reuses the memory of the state.
      self._manager.wait_until_finished()
      self._last = time.monotonic()
    if is_stopping:
      raise processes.PreemptedError


def _restore(
  setup: Setup, workdir: epath.PathLike, manager
) -> tuple[PretrainState, list[journal.EpochRecord]]:
  """Returns the state to continue from, and the records before it."""
  initial = step.create(
    keys.seed_key(setup.seed, "params"),
    setup.backbone,
    setup.network,
    options=setup.options,
    recipe=setup.recipe,
  )
  found = journal.read(workdir)
  per_epoch = setup.recipe.epoch_steps
  state = checkpoint.restore_latest(
    manager,
    sharding.replicate(initial, setup.mesh),
    max_step=len(found) * per_epoch - 1,
  )
  done = int(state.step)
  if done:
    logging.info(
      "Continues after step %d of epoch %d.", done, done // per_epoch
    )
  return state, found[: done // per_epoch + 1]


def _batches(
  setup: Setup, first: int
) -> Generator[tuple[jax.Array, ...], None, None]:
  """Yields the views of the steps from `first` on, on the devices."""

  def seeds(epoch: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    order, views = (
      keys.host_seed(setup.seed, purpose, epoch)
      for purpose in ("order", "views")
    )
    return order, views

  return pipeline.device_batches(
    setup.train,
    lambda: pipeline.plan_batches(
      np.arange(len(setup.train.ids)),
      batch_size=setup.recipe.batch_size,
      seeds=seeds,
      first=first,
      num_steps=setup.recipe.num_steps,
    ),
    functools.partial(make_views, views=setup.views),
    batch_size=setup.recipe.batch_size,
    mesh=setup.mesh,
    num_workers=setup.num_workers,
    num_ahead=_IMAGES_AHEAD,
    has_labels=False,
  )


def _run_epoch(
  setup: Setup,
  state: PretrainState,
  epoch: int,
  batched: Iterator[tuple[jax.Array, ...]],
  bar: tqdm.tqdm,
  save: _Saver,
) -> tuple[PretrainState, journal.EpochRecord]:
  """Makes the remaining steps of an epoch; epoch 0 has none."""
  per_epoch = setup.recipe.epoch_steps
  start, num_left = time.monotonic(), epoch * per_epoch - int(state.step)
  key, waiting = keys.seed_key(setup.seed, "steps"), None
  left = itertools.islice(batched, num_left)
  for index, (views,) in enumerate(left, start=1):
    state, loss = step.pretrain_step(
      key,
      state,
      views,
      network=setup.network,
      options=setup.options,
      recipe=setup.recipe,
      mesh=setup.mesh,
    )
    # Waiting for the previous batch while the device works on this one keeps
    # batches from piling up in its memory.
    if waiting is not None:
      waiting.block_until_ready()
    waiting = loss
    bar.update()
    if index < num_left:
      save.if_due(state)
  jax.block_until_ready(state)
  seconds = time.monotonic() - start
  return state, _make_record(setup, state, epoch, num_left, seconds)


def _make_record(
  setup: Setup, state: PretrainState, epoch: int, num_steps: int, seconds: float
) -> journal.EpochRecord:
  """Returns the record of an epoch.

  Its times cover only this process, which may have started inside the epoch.
  """
  recipe, record = setup.recipe, journal.EpochRecord(epoch=epoch)
  if epoch:
    losses = np.asarray(state.losses)
    _check_losses(losses)
    record |= {
      "loss": float(losses[epoch - 1]),
      "learning_rate": float(
        learning_rates(recipe, state.step - 1, by_step=True)
      ),
      "images_per_second": num_steps * setup.recipe.batch_size / seconds,
    }
  costs = {"train": seconds}
  is_due = epoch % setup.probe_epochs == 0 or epoch == recipe.num_epochs
  if setup.probe is not None and is_due:
    start = time.monotonic()
    record["probe"] = setup.probe(variables_of(state))
    costs["probe"] = time.monotonic() - start
  return {**record, "seconds": costs}


def _check_losses(losses: np.ndarray) -> None:
  """Refuses a training that has diverged."""
  bad = np.flatnonzero(~np.isfinite(losses))
  if bad.size:
    raise RuntimeError(
      f"The loss became {losses[bad[0]]} in epoch {bad[0] + 1}; a lower"
      " `train.learning_rate`, or a longer warm-up, may help."
    )


def _step_bar(recipe: Recipe, first: int) -> tqdm.tqdm:
  # `disable=None` keeps the bar out of files and pipes.
  return tqdm.tqdm(
    initial=first,
    total=recipe.num_steps,
    desc=f"{recipe.num_epochs} epochs",
    unit="step",
    disable=None,
  )
