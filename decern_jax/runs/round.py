"""One round of active learning: train, evaluate, select, label."""

from collections.abc import Callable, Collection
import dataclasses
import time
import typing
from typing import Any, cast

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding
import numpy as np

from decern_jax.distributed import processes
from decern_jax.distributed.sharding import place_pool, take_replicated, to_host
from decern_jax.features import embedding
from decern_jax.ops import keys
from decern_jax.ops.head import LinearHead
from decern_jax.strategies import NEEDS, Pool, Selection
from decern_jax.training import evaluation
from decern_jax.training.learner import Fit, Learner, PlacedSplit
from decern_jax.training.rounds import RoundState, make_first_state

Select = Callable[..., Selection]
"""Maps `(key, pool, *, budget)` to the selected examples."""

Explain = Callable[
  [Fit, dict[str, PlacedSplit], RoundState, np.ndarray], dict[str, Any]
]
"""Maps a model, the splits with its features, the state and the selected
indices to further entries of the round's record."""


@dataclasses.dataclass(frozen=True)
class Task:
  """The training examples, and the labeling budgets of a run.

  Attributes:
    ids: Stable name of each training example.
    initial_budget: Number of labels of the initial set.
    budget: Number of labels of every later selection.
    num_rounds: Number of rounds; the last one selects nothing.
    num_candidates: Number of unlabeled examples, drawn at random in every
      round, that a selection chooses from; None for all.
    label_counts: int [classes], number of training examples with each label;
      None unless examples may have several labels.
    min_capacity: Smallest `capacity`. People may give more labels than the
      budgets ask for.
  """

  ids: tuple[str, ...]
  initial_budget: int
  budget: int
  num_rounds: int
  num_candidates: int | None = None
  label_counts: np.ndarray | None = None
  min_capacity: int = 0

  @property
  def capacity(self) -> int:
    """Number of labels that every round has room for in its arrays."""
    budgets = self.initial_budget + (self.num_rounds - 1) * self.budget
    return max(budgets, self.min_capacity)


def draw_first_state(task: Task, *, seed: int) -> RoundState:
  """Returns the state before the first round, with a random initial set."""
  pool = len(task.ids)
  order = jax.random.permutation(keys.seed_key(seed, "initial"), pool)
  return make_first_state(pool, np.asarray(order)[: task.initial_budget])


def select_first_state(
  task: Task, train: PlacedSplit, *, seed: int, select: Select
) -> RoundState:
  """Returns the state before the first round, with a selected initial set.

  Args:
    task: The task.
    train: The training examples, with features of the untrained model.
    seed: Seed of the run.
    select: A strategy that needs no model, only features. No example has a
      label yet.
  """
  size = len(task.ids)
  pool = Pool(
    candidates=place_pool(np.ones(size, bool), _mesh_of(train)),
    # Features stay on the host only for a strategy that streams.
    features=typing.cast(jax.Array, train.features),
    labels=jnp.full_like(train.valid, -1, jnp.int32),
  )
  key = keys.seed_key(seed, "initial")
  selection = select(key, pool, budget=task.initial_budget)
  return make_first_state(size, to_host(selection.indices))


def run_round(
  task: Task,
  state: RoundState,
  *,
  seed: int,
  learner: Learner,
  select: Select,
  needs: Collection[str] = NEEDS,
  on_model: Callable[[Fit, bool], None] = lambda model, is_last: None,
  explain: Explain | None = None,
) -> tuple[RoundState, dict[str, Any]]:
  """Trains, evaluates, selects and labels; the last round selects nothing.

  Args:
    task: The task.
    state: The state before the round.
    seed: Seed of the run.
    learner: How the model is trained.
    select: The strategy.
    needs: What the strategy reads from the pool; nothing else is computed.
    on_model: Called with the model of the round, and whether it is the last.
    explain: Returns further entries of the record, or None.

  Returns:
    The state after the round, and its record: "round", "num_labeled", "train"
    with its loss and those of all epochs, metrics of "test" and "val", the
    "selected" ids with their "scores" (None where the strategy has none), and
    "seconds" by stage.

  Raises:
    RuntimeError: If the training loss is not finite.
    processes.PreemptedError: If the process received SIGTERM.
  """
  round_num = int(state.round)
  is_last = round_num == task.num_rounds - 1
  clock = _Clock()
  previous = None
  if "previous_probs" in needs and round_num and not is_last:
    # Fitted first, because a learner may keep only its latest model.
    previous = learner.fit(state.before())
  model = learner.fit(state)
  clock.lap("train")
  # Safe here: the state before this round is saved, and no output is pending.
  processes.end_if_stopping()
  candidates = np.zeros(len(task.ids), bool)
  if not is_last:
    candidates = _draw_candidates(task, state, seed)
  wanted = _wanted(state, candidates, needs)
  splits = learner.embed(model, wanted)
  clock.lap("embed")
  metrics = {
    name: evaluation.evaluate(
      model.head, splits[name], label_counts=task.label_counts
    )
    for name in ("val", "test")
    if name in splits
  }
  clock.lap("evaluate")
  processes.end_if_stopping()
  on_model(model, is_last)
  selected, scores = np.zeros(0, int), None
  if not is_last:
    pool = _make_pool(splits, model.head, state, candidates, needs)
    if previous is not None:
      before = learner.embed(previous, wanted)["train"]
      probs = _predict(previous.head, before)
      pool = dataclasses.replace(pool, previous_probs=probs)
    key = keys.round_key(seed, "query", round_num)
    selection = select(key, pool, budget=task.budget)
    selected = to_host(selection.indices)
    if selection.scores is not None:
      scores = take_replicated(selection.scores, selected).tolist()
  clock.lap("select")
  losses = model.losses.tolist()
  record = {
    "round": round_num,
    "num_labeled": int(state.labeled.sum()),
    "train": {"loss": losses[-1], "epoch_losses": losses},
    **metrics,
    "selected": [task.ids[index] for index in selected],
    "scores": scores,
    "seconds": clock.laps,
  }
  if explain is not None:
    record |= explain(model, splits, state, selected)
  return state.label(selected), record


class _Clock:
  """Measures the seconds between calls of `lap`."""

  def __init__(self):
    self.laps: dict[str, float] = {}
    self._last = time.monotonic()

  def lap(self, name: str) -> None:
    """Records the seconds since the previous lap under a name."""
    now = time.monotonic()
    self.laps[name] = round(now - self._last, 4)
    self._last = now


def _draw_candidates(task: Task, state: RoundState, seed: int) -> np.ndarray:
  """Returns the mask of the examples that this round may select."""
  if task.num_candidates is None:
    return ~state.labeled
  key = keys.round_key(seed, "candidates", int(state.round))
  # Permute the whole pool, so that all rounds share one compiled program.
  order = np.asarray(jax.random.permutation(key, len(task.ids)))
  mask = np.zeros(len(task.ids), bool)
  mask[order[~state.labeled[order]][: task.num_candidates]] = True
  return mask


def _wanted(
  state: RoundState, candidates: np.ndarray, needs: Collection[str]
) -> np.ndarray:
  """Returns the mask of the training examples whose features are needed."""
  if not candidates.any() or not set(needs) - {"head"}:
    return np.zeros_like(candidates)
  return candidates | state.labeled if "labels" in needs else candidates


def _make_pool(
  splits: dict[str, PlacedSplit],
  head: LinearHead,
  state: RoundState,
  candidates: np.ndarray,
  needs: Collection[str],
) -> Pool:
  """Returns what a strategy needs of the training examples."""
  mesh = _mesh_of(next(iter(splits.values())))
  fields: dict[str, Any] = {"candidates": place_pool(candidates, mesh)}
  if "head" in needs:
    fields["head"] = head
  train = splits.get("train")
  if train is None:  # The strategy needs no features.
    return Pool(**fields)
  if "labels" in needs:
    labeled = place_pool(state.labeled, mesh)
    labeled = labeled.reshape(-1, *[1] * (train.labels.ndim - 1))
    fields["labels"] = jnp.where(labeled, train.labels, -1)
  if "features" in needs:
    fields["features"] = train.features
  if "probs" in needs:
    fields["probs"] = _predict(head, train)
  if "auxiliary" in needs:
    fields["auxiliary"] = train.auxiliary
  return Pool(**fields)


def _mesh_of(split: PlacedSplit) -> Mesh:
  """Returns the mesh that a split is placed on."""
  return cast(Mesh, cast(NamedSharding, split.valid.sharding).mesh)


def _predict(head: LinearHead, split: PlacedSplit) -> jax.Array:
  """Returns the class probabilities of a split."""
  return embedding.predict(
    head, split.features, is_multi_label=split.labels.ndim > 1
  )
