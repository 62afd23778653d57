"""Tests of decern_jax/runs/round.py."""

from dataclasses import replace
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from decern_jax.ops import keys
from decern_jax.runs.round import (
  Task,
  draw_first_state,
  run_round,
  select_first_state,
)
from decern_jax.strategies import STRATEGIES, Selection
from decern_jax.training import learner
from decern_jax.training.rounds import NOT_LABELED, RoundState, make_state
from tests import tasks
from tests.table import each
from tests.tasks import (
  BUDGET,
  INITIAL,
  NUM_ROUNDS,
  NUM_VAL,
  POOL,
  RECIPE,
  Spy,
  advance,
)

# Labels of the last round of `make_task`: programs are compiled for so many.
CAPACITY = INITIAL + (NUM_ROUNDS - 1) * BUDGET
NEEDED = ("features", "probs", "labels", "head")


@pytest.fixture(scope="module")
def task() -> Task:
  return tasks.make_task()


@pytest.fixture(scope="module")
def parts() -> dict[str, learner.PlacedSplit]:
  return tasks.make_parts()


@pytest.fixture(scope="module")
def whole_run(task, parts):
  """The states and the records of a run of a strategy that has scores."""
  return tasks.run(task, parts, "margin")


@pytest.fixture(scope="module")
def states(whole_run) -> list[RoundState]:
  return whole_run[0]


def select_by_all(key, pool, *, budget) -> Selection:
  """Selects by all that it may read: of candidates and labeled examples."""
  candidates, labels = np.asarray(pool.candidates), np.asarray(pool.labels)
  features, probs = np.asarray(pool.features), np.asarray(pool.probs)
  anchor = features[labels >= 0].mean(0) + labels[labels >= 0].mean()
  scores = features @ anchor + probs @ np.asarray(pool.head.bias)
  order = np.argsort(np.where(candidates, -scores, np.inf), kind="stable")
  return Selection(jnp.asarray(order[:budget]), scores)


class TestTask:
  def test_capacity_is_the_labels_of_the_last_round(self, whole_run):
    task = tasks.make_task(initial_budget=7, budget=3, num_rounds=5)
    assert task.capacity == 7 + 4 * 3
    capacity = tasks.make_task().capacity
    assert whole_run[1][-1]["num_labeled"] == capacity


class TestSelectFirstState:
  def test_selects_without_any_label(self, task, parts):
    select = STRATEGIES["kmeans"].form(is_multi_label=False)
    assert select is not None
    state = select_first_state(task, parts["train"], seed=1, select=select)
    assert int(state.round) == 0
    assert state.labeled.sum() == INITIAL

  def test_shows_no_label(self, task, parts):
    spy = Spy()
    select_first_state(task, parts["train"], seed=1, select=spy)
    ((_, pool, budget),) = spy.seen
    assert budget == INITIAL
    assert set(np.asarray(pool.labels).tolist()) == {-1}
    assert np.asarray(pool.candidates).sum() == POOL


class TestDrawFirstState:
  def test_labels_the_initial_budget(self, task):
    state = draw_first_state(task, seed=1)
    assert int(state.round) == 0
    assert state.labeled.sum() == INITIAL
    assert set(np.asarray(state.labeled_at).tolist()) == {-1, 0}

  def test_depends_only_on_the_seed(self, task):
    changed = tasks.make_task(budget=1, num_rounds=2, num_candidates=3)
    again = draw_first_state(changed, seed=1)
    other = draw_first_state(task, seed=2)
    first = draw_first_state(task, seed=1)
    np.testing.assert_array_equal(first.labeled_at, again.labeled_at)
    assert (np.asarray(first.labeled_at) != np.asarray(other.labeled_at)).any()

  def test_larger_initial_set_has_the_smaller_in_it(self, task):
    few = draw_first_state(task, seed=1).labeled
    many = draw_first_state(replace(task, initial_budget=20), seed=1).labeled
    assert many[few].all()

  def test_draws_every_example_about_as_often(self, task):
    labeled = [draw_first_state(task, seed=s).labeled for s in range(150)]
    counts = np.sum(labeled, axis=0)
    expected = 150 * INITIAL / POOL
    # Five standard deviations of a binomial count.
    assert counts.max() < expected + 5 * np.sqrt(expected)

  def test_may_label_the_whole_pool(self, task):
    state = draw_first_state(replace(task, initial_budget=POOL), seed=1)
    assert state.labeled.all()


class TestRunRound:
  def test_labels_the_budget_in_every_round_but_the_last(self, whole_run):
    states, records = whole_run
    expected = [INITIAL + BUDGET * i for i in range(NUM_ROUNDS)]
    assert [record["num_labeled"] for record in records] == expected
    assert [int(s.labeled.sum()) for s in states] == [*expected, expected[-1]]
    assert [record["round"] for record in records] == [*range(NUM_ROUNDS)]
    assert [int(state.round) for state in states] == [*range(NUM_ROUNDS + 1)]

  def test_record_names_what_the_state_has(self, task, whole_run):
    states, records = whole_run
    labeled_at = np.asarray(states[-1].labeled_at)
    for record in records:
      at = np.flatnonzero(labeled_at == record["round"] + 1)
      assert sorted(record["selected"]) == [task.ids[i] for i in at]
      assert len(record["selected"]) == len(set(record["selected"]))

  def test_last_round_selects_nothing(self, whole_run):
    last = whole_run[1][-1]
    assert last["selected"] == []
    assert last["scores"] is None
    assert last["test"]["accuracy"] > 0

  def test_record_survives_json(self, whole_run):
    for record in whole_run[1]:
      text = json.dumps(record, allow_nan=False)
      assert json.loads(text) == record

  def test_record_has_metrics_and_seconds_by_stage(self, whole_run):
    for record in whole_run[1]:
      assert set(record) == {
        *("round", "num_labeled", "train", "test"),
        *("selected", "scores", "seconds"),
      }
      assert set(record["test"]) == {
        *("accuracy", "balanced_accuracy", "class_accuracy", "loss")
      }
      assert len(record["test"]["class_accuracy"]) == tasks.NUM_CLASSES
      assert record["test"]["loss"] > 0
      assert set(record["seconds"]) == {"train", "embed", "evaluate", "select"}
      assert all(value >= 0 for value in record["seconds"].values())

  def test_record_has_the_loss_of_every_epoch(self, task, parts, whole_run):
    states, records = whole_run
    made = tasks.make_learner(task, parts)
    for state, record in zip(states, records, strict=False):
      assert set(record["train"]) == {"loss", "epoch_losses"}
      losses = record["train"]["epoch_losses"]
      np.testing.assert_array_equal(np.float32(losses), made.fit(state).losses)
      assert record["train"]["loss"] == losses[-1]
      assert len(losses) == RECIPE.num_epochs
      assert 0 < losses[-1] < losses[0]

  def test_scores_stand_beside_their_ids(self, task, parts, whole_run):
    _, record = advance(task, parts, whole_run[0][0], Spy())
    positions = [task.ids.index(id_) for id_ in record["selected"]]
    assert positions == sorted(positions, reverse=True)
    assert record["scores"] == [position / 4 for position in positions]

  def test_strategy_sees_the_pool_as_it_is(self, task, parts, whole_run):
    state, spy = whole_run[0][2], Spy()
    advance(task, parts, state, spy)
    ((key, pool, budget),) = spy.seen
    labeled = np.zeros(64, bool)
    labeled[:POOL] = state.labeled
    valid = np.arange(64) < POOL
    assert budget == BUDGET
    np.testing.assert_array_equal(pool.candidates, valid & ~labeled)
    hidden = np.where(labeled, np.asarray(parts["train"].labels), -1)
    np.testing.assert_array_equal(pool.labels, hidden)
    np.testing.assert_allclose(np.asarray(pool.probs).sum(1), 1, rtol=1e-5)
    expected = jax.random.key_data(keys.round_key(1, "query", 2))
    np.testing.assert_array_equal(jax.random.key_data(key), expected)

  def test_reports_val_where_there_is_one(self):
    task = tasks.make_task(num_rounds=1, min_capacity=CAPACITY)
    _, records = tasks.run(task, tasks.make_parts(with_val=True), "random")
    assert 0 <= records[0]["val"]["accuracy"] <= 1
    assert records[0]["val"]["accuracy"] * NUM_VAL == pytest.approx(
      round(records[0]["val"]["accuracy"] * NUM_VAL)
    )

  @each("strategy", tasks.SOME_STRATEGIES)
  def test_every_strategy_labels_new_examples(self, task, parts, strategy):
    states, records = tasks.run(replace(task, num_rounds=3), parts, strategy)
    assert [int(state.labeled.sum()) for state in states] == [4, 9, 14, 14]
    has_scores = [record["scores"] is not None for record in records]
    is_scored = strategy == "margin"
    assert has_scores == [is_scored] * 2 + [False]
    for record in records[:2] if is_scored else ():
      assert len(record["scores"]) == BUDGET
      assert np.isfinite(record["scores"]).all()

  def test_labels_the_whole_pool_in_the_end(self, task, parts):
    exact = replace(task, initial_budget=13, budget=16, num_rounds=4)
    states, records = tasks.run(exact, parts, "random")
    assert states[-1].labeled.all()
    assert records[-1]["num_labeled"] == POOL

  def test_one_round_trains_and_evaluates(self, task, parts):
    single = replace(task, num_rounds=1, min_capacity=CAPACITY)
    states, records = tasks.run(single, parts, "margin")
    assert records[0]["selected"] == []
    np.testing.assert_array_equal(states[1].labeled_at, states[0].labeled_at)

  def test_one_label_is_enough_to_go_on(self, task, parts):
    few = replace(task, initial_budget=1, num_rounds=2, min_capacity=CAPACITY)
    states, _ = tasks.run(few, parts, "margin")
    assert states[-1].labeled.sum() == 1 + BUDGET

  def test_tells_of_every_model_and_which_is_the_last(self, task, parts):
    told = []
    short = replace(task, num_rounds=3, min_capacity=CAPACITY)
    states, _ = tasks.run(
      short, parts, "random", on_model=lambda *model: told.append(model)
    )
    assert [is_last for _, is_last in told] == [False, False, True]
    for (model, _), state in zip(told, states, strict=False):
      expected = tasks.make_learner(short, parts).fit(state)
      jax.tree.map(np.testing.assert_array_equal, model.head, expected.head)

  def test_shows_what_the_model_of_the_round_before_predicts(
    self, task, parts, states
  ):
    spy, needs = Spy(), (*NEEDED, "previous_probs")
    for state in states[:2]:
      advance(task, parts, state, spy, needs=needs)
    first, second = (pool for _, pool, _ in spy.seen)
    assert first.previous_probs is None
    before, now = np.asarray(first.probs), np.asarray(second.probs)
    np.testing.assert_allclose(second.previous_probs, before, atol=1e-6)
    assert np.abs(now - before).max() > 1e-3

  def test_records_what_is_explained(self, task, parts):
    short, asked = replace(task, num_rounds=2, min_capacity=CAPACITY), []

    def explain(model, parts, state, positions):
      asked.append((int(state.round), positions.tolist()))
      return {"why": "of " + str(len(positions))}

    _, found = tasks.run(short, parts, "random", explain=explain)
    assert [record["why"] for record in found] == [f"of {BUDGET}", "of 0"]
    ids = [short.ids[position] for position in asked[0][1]]
    assert ids == found[0]["selected"]

  @each("num_candidates", [None, 20])
  def test_asks_for_features_of_candidates_and_of_what_is_labeled(
    self, task, parts, num_candidates
  ):
    """Rows that are not asked for hold other features each time."""
    few = replace(
      task, num_rounds=3, num_candidates=num_candidates, min_capacity=CAPACITY
    )
    asked, made = [], tasks.make_learner(few, parts)

    def embed(model, wanted):
      asked.append(wanted)
      hidden = np.zeros(64, bool)
      hidden[:POOL] = ~wanted
      train = parts["train"]
      rows = np.where(hidden[:, None], len(asked), np.asarray(train.features))
      features = jax.device_put(np.float32(rows), train.features.sharding)
      return {**parts, "train": replace(train, features=features)}

    options = {"seed": 1, "select": select_by_all, "needs": NEEDED}
    state, states, records = draw_first_state(few, seed=1), [], []
    for _ in range(few.num_rounds):
      states.append(state)
      state, record = run_round(few, state, learner=made, **options)
      records.append(record)
    blind = replace(made, embed=embed)
    for state, record in zip(states, records, strict=False):
      _, found = run_round(few, state, learner=blind, **options)
      assert tasks.without_seconds([found]) == tasks.without_seconds([record])
    for state, wanted in zip(states[:2], asked[:2], strict=True):
      assert wanted.dtype == bool
      assert wanted.shape == (POOL,)
      assert wanted[state.labeled].all()
      count = POOL if num_candidates is None else state.labeled.sum() + 20
      assert wanted.sum() == count
    assert not asked[2].any()


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
      learner=replace(made, embed=embed),
      select=spy,
      needs=needs,
    )
    (wanted,) = asked
    assert (wanted[~state.labeled] == asks_for_candidates).all()
    assert (wanted[state.labeled] == asks_for_labeled).all()
    ((_, pool, _),) = spy.seen
    shown = {name for name, value in vars(pool).items() if value is not None}
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
    labeled_at = np.where(np.arange(POOL) < INITIAL, 0, NOT_LABELED)
    draws = {
      tuple(self.draw(few, parts, make_state(i, labeled_at), seed=seed))
      for i in (0, 1, 2)
      for seed in (1, 2)
    }
    assert len(draws) == 6

  def test_are_the_same_when_drawn_again(self, few, parts, states):
    first, second = (self.draw(few, parts, states[1]) for _ in range(2))
    np.testing.assert_array_equal(first, second)

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
    tight, state = (replace(few, num_candidates=BUDGET + 1), states[1])
    candidates = self.draw(tight, parts, state)
    after, record = tasks.make_advance(tight, parts, strategy)(state)
    selected = np.asarray(after.labeled_at) == 2
    assert selected.sum() == BUDGET
    assert not (selected & ~candidates).any()
    if strategy == "margin":
      assert len(record["scores"]) == BUDGET
