"""What a round trains, and what it then sees of the images."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh
import numpy as np

from decern_jax.data.dataset import Split
from decern_jax.distributed.rows import HostRows, InMemory, Source
from decern_jax.distributed.sharding import (
  local_rows,
  place_on_host,
  place_pool,
  place_rows,
)
from decern_jax.ops.head import LinearHead
from decern_jax.training.loss_module import LossModule, predict_pool
from decern_jax.training.rounds import RoundState

# Rows that are checked at once.
CHECKED_ROWS = 8192


class Part(NamedTuple):
  """One part of the data on the devices, padded to equal shards.

  Attributes:
    features: float32 [rows, dim], or rows that stay on the host.
    labels: int32 [rows], or [rows, classes] of 0 and 1.
    valid: bool [rows], False in padding.
    predicted_losses: float32 [rows], of the training part where a module
      predicts them, else None.
  """

  features: jax.Array | HostRows
  labels: jax.Array
  valid: jax.Array
  predicted_losses: jax.Array | None = None


class Fit(NamedTuple):
  """A trained model.

  Attributes:
    variables: Collections of the backbone's arrays.
    head: The linear head on its features.
    losses: float32 [epochs], the mean training loss of each.
    loss_module: What predicts losses, where a strategy needs it, else None.
  """

  variables: Any
  head: LinearHead
  losses: np.ndarray
  loss_module: LossModule | None = None


class Learner(NamedTuple):
  """How models come from labels.

  Attributes:
    fit: Trains on the examples that a state has labels of, always from the same
      initial parameters.
    embed: Maps a model and a mask, bool [train], to the parts of the data as
      that model sees them: "train", "test" and, if there is one, "val". The
      features of training examples outside the mask may hold anything finite.
  """

  fit: Callable[[RoundState], Fit]
  embed: Callable[[Fit, np.ndarray], dict[str, Part]]


def remember_last(learner: Learner) -> Learner:
  """Returns a learner that keeps its last model.

  So a round that asks for the model of the round before trains it only where
  the run has just been resumed.

  Args:
    learner: The learner.
  """
  last: list[tuple[tuple[int, bytes], Fit]] = []

  def fit(state: RoundState) -> Fit:
    asked = int(state.round), np.asarray(state.labeled_at).tobytes()
    if not last or last[0][0] != asked:
      last[:] = [(asked, learner.fit(state))]
    return last[0][1]

  return learner._replace(fit=fit)


def place(
  rows: np.ndarray | Source, split: Split, mesh: Mesh, *, on_host: bool = False
) -> Part:
  """Puts one part of the data on the devices.

  Args:
    rows: float32 [examples, dim], the features; every process reads those of
      its own devices alone.
    split: The examples.
    mesh: The mesh of the run.
    on_host: Whether the features stay where they are, and are read block by
      block.

  Returns:
    The part.

  Raises:
    ValueError: If a feature is not finite.
  """
  source = InMemory(rows) if isinstance(rows, np.ndarray) else rows
  _check_finite(source, split, mesh)
  if on_host:
    features = place_on_host(source, mesh)
  else:
    features = place_rows(
      lambda start, stop: source.take(np.arange(start, stop)),
      source.shape,
      mesh,
    )
  return Part(
    features=features,
    labels=place_pool(np.asarray(split.labels, np.int32), mesh),
    valid=place_pool(np.ones(len(split.ids), bool), mesh),
  )


def _check_finite(source: Source, split: Split, mesh: Mesh) -> None:
  """Refuses features of this process that are not finite."""
  own = local_rows(len(split.ids), mesh)
  bad = []
  for start in range(0, len(own), CHECKED_ROWS):
    where = own[start : start + CHECKED_ROWS]
    bad += where[~np.isfinite(source.take(where)).all(axis=1)].tolist()
  if bad:
    raise ValueError(
      f"Expected finite features, got NaN or infinity for {len(bad)} examples,"
      f" the first {split.ids[bad[0]]!r}."
    )


def with_predictions(
  parts: dict[str, Part], module: LossModule | None
) -> dict[str, Part]:
  """Returns parts whose training examples have predicted losses.

  Args:
    parts: "train" and others.
    module: What predicts losses from features; None leaves the parts alone.

  Returns:
    The parts.
  """
  if module is None:
    return parts
  train = parts["train"]
  predicted = predict_pool(module, train.features)
  return {**parts, "train": train._replace(predicted_losses=predicted)}


def check_losses(losses: np.ndarray, round_num: int) -> None:
  """Refuses a training that has diverged.

  Args:
    losses: float32 [epochs].
    round_num: The round.

  Raises:
    RuntimeError: If a loss is not finite.
  """
  bad = np.flatnonzero(~np.isfinite(losses))
  if bad.size:
    raise RuntimeError(
      f"The training loss became {losses[bad[0]]} in epoch {bad[0]} of round"
      f" {round_num}; a lower `train.learning_rate` may help."
    )
