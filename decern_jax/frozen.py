"""Rounds of active learning on frozen features.

The features of every image are computed once; a round trains a fresh linear
head on them, which takes a second.
"""

from collections.abc import Callable
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
import numpy as np

from decern_jax import evaluation, features, rounds, training
from decern_jax.data.dataset import Split
from decern_jax.ops.head import LinearHead
from decern_jax.sharding import place_pool
from decern_jax.strategies import Pool, Selection


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


class Task(NamedTuple):
  """What is to be learned, and how many labels it may cost.

  Attributes:
    ids: Stable name of each training example.
    num_classes: Number of classes.
    parts: "train", the pool, "test" and, if there is one, "val".
    initial_budget: Labels of the random initial set.
    budget: Labels of every later selection.
  """

  ids: tuple[str, ...]
  num_classes: int
  parts: dict[str, Part]
  initial_budget: int
  budget: int


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


def init(task: Task, *, seed: int) -> rounds.RoundState:
  """Returns the state with a random initial set.

  Args:
    task: The task.
    seed: Seed of the run.

  Returns:
    The state before the first round.
  """
  pool = len(task.ids)
  order = jax.random.permutation(rounds.seed_key(seed, "initial"), pool)
  labeled_at = np.full(pool, rounds.NOT_LABELED, np.int32)
  labeled_at[np.asarray(order)[: task.initial_budget]] = 0
  return rounds.make_state(0, labeled_at)


def advance(
  task: Task,
  state: rounds.RoundState,
  *,
  seed: int,
  num_rounds: int,
  recipe: training.Recipe,
  select: Callable[..., Selection],
) -> tuple[rounds.RoundState, dict[str, Any]]:
  """Trains, evaluates, selects and labels; the last round selects nothing.

  Args:
    task: The task.
    state: The state before the round.
    seed: Seed of the run.
    num_rounds: Rounds of the whole run.
    recipe: How to train.
    select: Maps `(key, pool, *, budget)` to a `Selection`.

  Returns:
    The state after the round, and its record: "round", "num_labeled", losses
    and accuracies by part, the "selected" ids with their "scores" (null where
    the strategy has none), and "seconds" by stage.

  Raises:
    RuntimeError: If the training loss is not finite.
  """
  round_num = int(state.round)
  record = {"round": round_num, "num_labeled": int(state.labeled.sum())}
  clock = _Clock()
  head, loss = _fit(task, seed, state, num_rounds, recipe)
  record["train"] = {"loss": loss}
  clock.lap("train")
  for part in [name for name in ("val", "test") if name in task.parts]:
    totals = evaluation.evaluate_head(head, *task.parts[part])
    record[part] = evaluation.summarize(totals)
  clock.lap("evaluate")
  positions, scores = np.zeros(0, int), None
  if round_num < num_rounds - 1:
    positions, scores = _select(task, seed, state, head, select)
  clock.lap("select")
  ids = task.ids
  record["selected"] = [ids[position] for position in positions]
  record["scores"] = scores
  record["seconds"] = clock.laps
  return state.label(positions), record


class _Clock:
  """Seconds between named moments."""

  def __init__(self):
    self.laps: dict[str, float] = {}
    self._last = time.monotonic()

  def lap(self, name: str) -> None:
    """Keeps the seconds since the last moment under a name."""
    now = time.monotonic()
    self.laps[name] = round(now - self._last, 4)
    self._last = now


def _fit(
  task: Task,
  seed: int,
  state: rounds.RoundState,
  num_rounds: int,
  recipe: training.Recipe,
) -> tuple[LinearHead, float]:
  """Trains a fresh head on what is labeled; returns it and its last loss.

  Raises:
    RuntimeError: If the loss is not finite.
  """
  train = task.parts["train"]
  # As many rows as the last round has, so that all rounds share one program.
  capacity = task.initial_budget + (num_rounds - 1) * task.budget
  where = np.zeros(capacity, np.int32)
  positions = np.flatnonzero(state.labeled)
  where[: len(positions)] = positions
  head, losses = training.fit_head(
    rounds.round_key(seed, "order", int(state.round)),
    training.init_head(
      rounds.seed_key(seed, "params"),
      dim=train.features.shape[1],
      num_classes=task.num_classes,
    ),
    *_take(train.features, train.labels, where),
    jnp.asarray(len(positions)),
    recipe=recipe,
  )
  losses = np.asarray(losses)
  bad = np.flatnonzero(~np.isfinite(losses))
  if bad.size:
    raise RuntimeError(
      f"The training loss became {losses[bad[0]]} in epoch {bad[0]} of round"
      f" {int(state.round)}; a lower `train.learning_rate` may help."
    )
  return head, float(losses[-1])


@jax.jit
def _take(features, labels, where):
  return features[where], labels[where]


def _select(
  task: Task,
  seed: int,
  state: rounds.RoundState,
  head: LinearHead,
  select: Callable[..., Selection],
) -> tuple[np.ndarray, list[float] | None]:
  """Returns the selected positions and their scores."""
  train = task.parts["train"]
  mesh = train.features.sharding.mesh
  labeled = place_pool(state.labeled, mesh)
  pool = Pool(
    features=train.features,
    probs=features.predict(head, train.features),
    labels=jnp.where(labeled, train.labels, -1),
    candidates=train.valid & ~labeled,
    head=head,
  )
  selection = select(
    rounds.round_key(seed, "query", int(state.round)),
    pool,
    budget=task.budget,
  )
  positions = np.asarray(selection.positions)
  if selection.scores is None:
    return positions, None
  scores = np.asarray(selection.scores)[positions]
  return positions, [float(score) for score in scores]
