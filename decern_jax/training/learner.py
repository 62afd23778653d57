"""What a round trains, and the data splits with the features of the model."""

from collections.abc import Callable
import dataclasses
from typing import Any

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
from decern_jax.strategies.base import Auxiliary
from decern_jax.training.auxiliary import predict_pool
from decern_jax.training.rounds import RoundState

# Number of rows that are checked at once.
CHECKED_ROWS = 8192


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PlacedSplit:
  """A data split on the devices, padded to equal shards.

  Attributes:
    features: float32 [rows, dim], or rows that stay on the host.
    labels: int32 [rows], or [rows, classes] of 0 and 1.
    valid: bool [rows], False in padding.
    auxiliary: float32 [rows], the predictions of the strategy's auxiliary
      module for the training split, else None.
  """

  features: jax.Array | HostRows
  labels: jax.Array
  valid: jax.Array
  auxiliary: jax.Array | None = None


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Fit:
  """A trained model.

  Attributes:
    variables: The collections of the backbone's arrays.
    head: The linear head on the backbone's features.
    losses: float32 [epochs], the mean training loss of each epoch.
    auxiliary: Parameters of the strategy's auxiliary module, if it has one.
  """

  variables: Any
  head: LinearHead
  losses: np.ndarray
  auxiliary: Any = None


@dataclasses.dataclass(frozen=True)
class Learner:
  """How models are trained.

  Attributes:
    fit: Trains on the labeled examples of a state, always from the same initial
      parameters.
    embed: Maps a model and a mask, bool [train], to the data splits with the
      features of that model: "train", "test" and, if there is one, "val". The
      features of training examples outside the mask may hold any finite value.
  """

  fit: Callable[[RoundState], Fit]
  embed: Callable[[Fit, np.ndarray], dict[str, PlacedSplit]]


def remember_last(learner: Learner) -> Learner:
  """Returns a learner that keeps its last model.

  A round that needs the previous round's model then trains it again only after
  a restart.
  """
  last: list[tuple[tuple[int, bytes], Fit]] = []

  def fit(state: RoundState) -> Fit:
    asked = int(state.round), np.asarray(state.labeled_at).tobytes()
    if not last or last[0][0] != asked:
      last[:] = [(asked, learner.fit(state))]
    return last[0][1]

  return dataclasses.replace(learner, fit=fit)


def place(
  rows: np.ndarray | Source, split: Split, mesh: Mesh, *, on_host: bool = False
) -> PlacedSplit:
  """Places a data split on the devices.

  Args:
    rows: float32 [examples, dim], the features; each process reads only those
      of its own devices.
    split: The examples.
    mesh: The mesh of the run.
    on_host: Whether the features stay on the host, and are read block by block.

  Returns:
    The placed split.

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
  return PlacedSplit(
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
  splits: dict[str, PlacedSplit], auxiliary: Auxiliary | None, params: Any
) -> dict[str, PlacedSplit]:
  """Returns splits with an auxiliary module's predictions from features.

  Args:
    splits: "train" and others.
    auxiliary: The module, which predicts for "train". None changes nothing.
    params: Its parameters.
  """
  if auxiliary is None:
    return splits
  train = splits["train"]
  predicted = predict_pool(auxiliary, params, train.features)
  train = dataclasses.replace(train, auxiliary=predicted)
  return {**splits, "train": train}


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
