"""Tests of what decern_jax/runs/round.py shows a strategy."""

import dataclasses
from dataclasses import replace

import numpy as np
import pytest

from decern_jax.runs.round import Task, draw_first_state, run_round
from decern_jax.training import learner, rounds
from tests import tasks
from tests.table import each
from tests.tasks import BUDGET, INITIAL, NUM_ROUNDS, POOL, Spy, advance


@pytest.fixture(scope="module")
def task() -> Task:
  return tasks.make_task()


@pytest.fixture(scope="module")
def parts() -> dict[str, learner.PlacedSplit]:
  return tasks.make_parts()


@pytest.fixture(scope="module")
def states(task, parts) -> list[rounds.RoundState]:
  return tasks.run(task, parts, "random")[0]


class TestNeeds:
  """What `advance` computes for a strategy that declares its needs."""

  @each(
    "needs, asks_for_candidates, asks_for_labeled",
    [
      ((), False, False),
      (("head",), False, False),
      (("probs",), True, False),
      (("features", "labels"), True, True),
    ],
  )
  def test_bound_what_is_embedded_and_shown(
    self, task, parts, needs, asks_for_candidates, asks_for_labeled
  ):
    asked, spy = [], Spy()
    made = tasks.make_learner(task, parts)

    def embed(model, wanted):
      asked.append(wanted)
      found = dict(parts)
      if not wanted.any():
        del found["train"]
      return found

    state = draw_first_state(task, seed=1)
    run_round(
      task,
      state,
      seed=1,
      learner=dataclasses.replace(made, embed=embed),
      select=spy,
      needs=needs,
    )
    (wanted,) = asked
    assert (wanted[~state.labeled] == asks_for_candidates).all()
    assert (wanted[state.labeled] == asks_for_labeled).all()
    ((_, pool, _),) = spy.seen
    shown = {name for name in pool._fields if getattr(pool, name) is not None}
    assert shown == {"candidates", *needs}


class TestCandidates:
  """What `advance` makes of `num_candidates`."""

  def draw(self, task, parts, state, *, seed=1) -> np.ndarray:
    spy = Spy()
    advance(task, parts, state, spy, seed=seed)
    ((_, pool, _),) = spy.seen
    return np.asarray(pool.candidates)[:POOL]

  @pytest.fixture
  def few(self, task):
    return replace(task, num_candidates=20)

  def test_are_so_many_unlabeled_examples(self, few, parts, states):
    for state in states[: NUM_ROUNDS - 1]:
      candidates = self.draw(few, parts, state)
      assert candidates.sum() == 20
      assert not (candidates & state.labeled).any()

  def test_are_drawn_anew_by_round_and_seed(self, few, parts):
    labeled_at = np.where(np.arange(POOL) < INITIAL, 0, rounds.NOT_LABELED)
    draws = {
      tuple(self.draw(few, parts, rounds.make_state(i, labeled_at), seed=seed))
      for i in (0, 1, 2)
      for seed in (1, 2)
    }
    assert len(draws) == 6

  def test_are_the_same_when_drawn_again(self, few, parts, states):
    draws = [self.draw(few, parts, states[1]) for _ in range(2)]
    np.testing.assert_array_equal(*draws)

  @each("num_candidates", [None, POOL - INITIAL, 1000])
  def test_are_all_where_there_are_no_more(self, task, parts, num_candidates):
    state = draw_first_state(task, seed=1)
    changed = replace(task, num_candidates=num_candidates)
    candidates = self.draw(changed, parts, state)
    np.testing.assert_array_equal(candidates, ~state.labeled)

  @each("strategy", tasks.SOME_STRATEGIES)
  def test_are_all_that_a_strategy_selects_from(
    self, few, parts, states, strategy
  ):
    tight, state = (
      replace(few, num_candidates=BUDGET + 1),
      states[1],
    )
    candidates = self.draw(tight, parts, state)
    after, record = tasks.make_advance(tight, parts, strategy)(state)
    selected = np.asarray(after.labeled_at) == 2
    assert selected.sum() == BUDGET
    assert not (selected & ~candidates).any()
    if strategy in ("decern", "margin"):
      assert len(record["scores"]) == BUDGET
