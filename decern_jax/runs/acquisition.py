"""A round of active learning: train, evaluate, select, label."""

from collections.abc import Callable, Collection
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from decern_jax.distributed import processes
from decern_jax.distributed.sharding import place_pool, take_replicated, to_host
from decern_jax.features import embedding
from decern_jax.ops import keys
from decern_jax.ops.head import LinearHead
from decern_jax.strategies import NEEDS, Pool, Selection
from decern_jax.training import evaluation, rounds
from decern_jax.training.learner import Fit, Learner, Part

Explain = Callable[
  [Fit, dict[str, Part], rounds.RoundState, np.ndarray], dict[str, Any]
]
"""Maps a model, the data as it sees them, the state and the selected positions
to what a record tells of the selection."""


class Task(NamedTuple):
  """How many labels of what may be bought.

  Attributes:
    ids: Stable name of each training example.
    initial_budget: Labels of the random initial set.
    budget: Labels of every later selection.
    num_rounds: Rounds of the whole run; the last one selects nothing.
    num_candidates: Unlabeled examples, drawn at random in every round, that a
      selection chooses from; None: all.
    label_counts: int [classes], training examples that carry each label, where
      an example may have several; else None.
    max_labels: Labels of the last round where the budgets do not tell, as
      people answer more or less than they are asked; None: they do.
  """

  ids: tuple[str, ...]
  initial_budget: int
  budget: int
  num_rounds: int
  num_candidates: int | None = None
  label_counts: np.ndarray | None = None
  max_labels: int | None = None

  @property
  def capacity(self) -> int:
    """Labels of the last round."""
    if self.max_labels is not None:
      return self.max_labels
    return self.initial_budget + (self.num_rounds - 1) * self.budget


def init(task: Task, *, seed: int) -> rounds.RoundState:
  """Returns the state with a random initial set.

  Args:
    task: The task.
    seed: Seed of the run.

  Returns:
    The state before the first round.
  """
  pool = len(task.ids)
  order = jax.random.permutation(keys.seed_key(seed, "initial"), pool)
  return rounds.make_first_state(pool, np.asarray(order)[: task.initial_budget])


def init_by_strategy(
  task: Task, part: Part, *, seed: int, select: Callable[..., Selection]
) -> rounds.RoundState:
  """Returns the state with an initial set that a strategy selects.

  Args:
    task: The task.
    part: The training examples, as the model sees them before any label.
    seed: Seed of the run.
    select: Maps `(key, pool, *, budget)` to a `Selection`; it reads features
      alone, and labels of which there is none.

  Returns:
    The state before the first round.
  """
  size = len(task.ids)
  mesh = part.valid.sharding.mesh
  pool = Pool(
    candidates=place_pool(np.ones(size, bool), mesh),
    features=part.features,
    labels=jnp.full_like(part.valid, -1, jnp.int32),
  )
  key = keys.seed_key(seed, "initial")
  selection = select(key, pool, budget=task.initial_budget)
  return rounds.make_first_state(size, to_host(selection.positions))


def advance(
  task: Task,
  state: rounds.RoundState,
  *,
  seed: int,
  learner: Learner,
  select: Callable[..., Selection],
  needs: Collection[str] = NEEDS,
  on_model: Callable[[Fit, bool], None] = lambda model, is_last: None,
  explain: Explain | None = None,
) -> tuple[rounds.RoundState, dict[str, Any]]:
  """Trains, evaluates, selects and labels; the last round selects nothing.

  Args:
    task: The task.
    state: The state before the round.
    seed: Seed of the run.
    learner: How the model is trained.
    select: Maps `(key, pool, *, budget)` to a `Selection`.
    needs: What it reads of the pool; nothing else is computed.
    on_model: Called with the model of the round, and whether it is the last.
    explain: What else the record is to tell of the selected examples, or None.

  Returns:
    The state after the round, and its record: "round", "num_labeled", "train"
    with its loss and those of all epochs, metrics of "test" and "val", the
    "selected" ids with their "scores" (null where the strategy has none), and
    "seconds" by stage.

  Raises:
    RuntimeError: If the training loss is not finite.
    processes.PreemptedError: If SIGTERM has asked the run to end.
  """
  is_last = int(state.round) == task.num_rounds - 1
  clock = _Clock()
  is_compared = "previous_probs" in needs and int(state.round) > 0
  # Before this round's model, as a learner may remember its last one alone.
  previous = (
    learner.fit(state.before()) if is_compared and not is_last else None
  )
  model = learner.fit(state)
  clock.lap("train")
  # The state before this round is saved, and nothing of the round need be.
  processes.end_if_stopping()
  candidates = np.zeros(len(task.ids), bool)
  if not is_last:
    candidates = _draw_candidates(task, state, seed)
  wanted = _wanted(state, candidates, needs)
  parts = learner.embed(model, wanted)
  clock.lap("embed")
  metrics = _evaluate(task, model.head, parts)
  clock.lap("evaluate")
  processes.end_if_stopping()
  positions, scores = np.zeros(0, int), None
  on_model(model, is_last)
  if not is_last:
    pool = _make_pool(parts, model.head, state, candidates, needs)
    if previous is not None:
      before = learner.embed(previous, wanted)["train"]
      pool = pool._replace(previous_probs=_predict(previous.head, before))
    positions, scores = _select(pool, task, state, seed, select)
  clock.lap("select")
  record = {
    "round": int(state.round),
    "num_labeled": int(state.labeled.sum()),
    "train": _describe_losses(model.losses),
    **metrics,
    "selected": [task.ids[position] for position in positions],
    "scores": scores,
    "seconds": clock.laps,
  }
  if explain is not None:
    record |= explain(model, parts, state, positions)
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


def _describe_losses(losses: np.ndarray) -> dict[str, Any]:
  """Returns the last loss of a training, and those of all epochs."""
  epochs = [float(loss) for loss in losses]
  return {"loss": epochs[-1], "epoch_losses": epochs}


def _draw_candidates(
  task: Task, state: rounds.RoundState, seed: int
) -> np.ndarray:
  """Returns the mask of the examples that this round may select."""
  if task.num_candidates is None:
    return ~state.labeled
  key = keys.round_key(seed, "candidates", int(state.round))
  # Of the whole pool: its length, and so the program, is that of every round.
  order = np.asarray(jax.random.permutation(key, len(task.ids)))
  mask = np.zeros(len(task.ids), bool)
  mask[order[~state.labeled[order]][: task.num_candidates]] = True
  return mask


def _wanted(
  state: rounds.RoundState, candidates: np.ndarray, needs: Collection[str]
) -> np.ndarray:
  """Returns the mask of the training examples whose features are read."""
  if not candidates.any() or not set(needs) - {"head"}:
    return np.zeros_like(candidates)
  return candidates | state.labeled if "labels" in needs else candidates


def _evaluate(
  task: Task, head: LinearHead, parts: dict[str, Part]
) -> dict[str, dict[str, Any]]:
  """Returns the metrics of every held-out part."""
  return {
    name: evaluation.evaluate(head, parts[name], label_counts=task.label_counts)
    for name in ("val", "test")
    if name in parts
  }


def _make_pool(
  parts: dict[str, Part],
  head: LinearHead,
  state: rounds.RoundState,
  candidates: np.ndarray,
  needs: Collection[str],
) -> Pool:
  """Returns what a strategy needs of the training examples."""
  mesh = next(iter(parts.values())).valid.sharding.mesh
  train = parts.get("train")
  pool = Pool(candidates=place_pool(candidates, mesh))
  if "labels" in needs:
    labeled = place_pool(state.labeled, mesh)
    labeled = labeled.reshape(-1, *[1] * (train.labels.ndim - 1))
    pool = pool._replace(labels=jnp.where(labeled, train.labels, -1))
  if "features" in needs:
    pool = pool._replace(features=train.features)
  if "probs" in needs:
    pool = pool._replace(probs=_predict(head, train))
  if "predicted_losses" in needs:
    pool = pool._replace(predicted_losses=train.predicted_losses)
  return pool._replace(head=head) if "head" in needs else pool


def _predict(head: LinearHead, part: Part) -> jax.Array:
  """Returns the probabilities of one part of the data."""
  return embedding.predict(
    head, part.features, is_multi_label=part.labels.ndim > 1
  )


def _select(
  pool: Pool,
  task: Task,
  state: rounds.RoundState,
  seed: int,
  select: Callable[..., Selection],
) -> tuple[np.ndarray, list[float] | None]:
  """Returns the selected positions and their scores."""
  selection = select(
    keys.round_key(seed, "query", int(state.round)),
    pool,
    budget=task.budget,
  )
  positions = to_host(selection.positions)
  if selection.scores is None:
    return positions, None
  scores = take_replicated(selection.scores, positions)
  return positions, [float(score) for score in scores]
