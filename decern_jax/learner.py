"""What a round trains, and what it then sees of the images."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh
import numpy as np

from decern_jax.data.dataset import Split
from decern_jax.ops.head import LinearHead
from decern_jax.rounds import RoundState
from decern_jax.sharding import place_pool


class Part(NamedTuple):
  """One part of the data on the devices, padded to equal shards.

  Attributes:
    features: float32 [rows, dim].
    labels: int32 [rows].
    valid: bool [rows], False in padding.
  """

  features: jax.Array
  labels: jax.Array
  valid: jax.Array


class Fit(NamedTuple):
  """A trained model.

  Attributes:
    variables: Collections of the backbone's arrays.
    head: The linear head on its features.
    losses: float32 [epochs], the mean training loss of each.
  """

  variables: Any
  head: LinearHead
  losses: np.ndarray


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


def place(rows: np.ndarray, split: Split, mesh: Mesh) -> Part:
  """Puts one part of the data on the devices.

  Args:
    rows: float32 [examples, dim], the features.
    split: The examples.
    mesh: The mesh of the run.

  Returns:
    The part.

  Raises:
    ValueError: If a feature is not finite.
  """
  bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
  if bad.size:
    raise ValueError(
      f"Expected finite features, got NaN or infinity for {bad.size} examples,"
      f" the first {split.ids[bad[0]]!r}."
    )
  return Part(
    features=place_pool(rows, mesh),
    labels=place_pool(np.asarray(split.labels, np.int32), mesh),
    valid=place_pool(np.ones(len(rows), bool), mesh),
  )


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
