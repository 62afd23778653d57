"""Tests of decern_jax/runs/round.py."""

from dataclasses import replace
import functools
import json

import jax
import numpy as np
import pytest

from decern_jax.ops import keys
from decern_jax.runs.round import (
  Task,
  draw_first_state,
  run_round,
  select_first_state,
)
from decern_jax.strategies import STRATEGIES
from decern_jax.training import learner
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


@pytest.fixture(scope="module")
def task() -> Task:
  return tasks.make_task()


@pytest.fixture(scope="module")
def parts() -> dict[str, learner.PlacedSplit]:
  return tasks.make_parts()


@pytest.fixture(scope="module")
def decern_run(task, parts):
  return tasks.run(task, parts)


class TestTask:
  def test_capacity_is_the_labels_of_the_last_round(self, decern_run):
    task = tasks.make_task(initial_budget=7, budget=3, num_rounds=5)
    assert task.capacity == 7 + 4 * 3
    capacity = tasks.make_task().capacity
    assert decern_run[1][-1]["num_labeled"] == capacity


class TestInitByStrategy:
  @each("name", ["kmeans", "typiclust"])
  @each("is_multi_label", [False, True])
  def test_selects_without_any_label(self, task, parts, name, is_multi_label):
    select = STRATEGIES[name].form(is_multi_label=is_multi_label)
    states = [
      select_first_state(task, made["train"], seed=1, select=select)
      for made in (parts, tasks.make_parts(1))
    ]
    for state in states:
      assert int(state.round) == 0
      assert state.labeled.sum() == INITIAL
    np.testing.assert_array_equal(*[state.labeled_at for state in states])

  def test_shows_no_label(self, task, parts):
    spy = Spy()
    select_first_state(task, parts["train"], seed=1, select=spy)
    ((_, pool, budget),) = spy.seen
    assert budget == INITIAL
    assert set(np.asarray(pool.labels).tolist()) == {-1}
    assert np.asarray(pool.candidates).sum() == POOL


class TestInit:
  def test_labels_the_initial_budget(self, task):
    state = draw_first_state(task, seed=1)
    assert int(state.round) == 0
    assert state.labeled.sum() == INITIAL
    assert set(np.asarray(state.labeled_at).tolist()) == {-1, 0}

  def test_depends_on_the_seed_alone(self, task):
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
    counts = sum(draw_first_state(task, seed=s).labeled for s in range(150))
    expected = 150 * INITIAL / POOL
    # Five standard deviations of a binomial count.
    assert counts.max() < expected + 5 * np.sqrt(expected)

  def test_may_label_the_whole_pool(self, task):
    state = draw_first_state(replace(task, initial_budget=POOL), seed=1)
    assert state.labeled.all()


class TestAdvance:
  def test_labels_the_budget_in_every_round_but_the_last(self, decern_run):
    states, records = decern_run
    expected = [INITIAL + BUDGET * i for i in range(NUM_ROUNDS)]
    assert [record["num_labeled"] for record in records] == expected
    assert [int(s.labeled.sum()) for s in states] == [*expected, expected[-1]]
    assert [record["round"] for record in records] == [*range(NUM_ROUNDS)]
    assert [int(state.round) for state in states] == [*range(NUM_ROUNDS + 1)]

  def test_record_names_what_the_state_has(self, task, decern_run):
    states, records = decern_run
    labeled_at = np.asarray(states[-1].labeled_at)
    for record in records:
      at = np.flatnonzero(labeled_at == record["round"] + 1)
      assert sorted(record["selected"]) == [task.ids[i] for i in at]
      assert len(record["selected"]) == len(set(record["selected"]))

  def test_last_round_selects_nothing(self, decern_run):
    last = decern_run[1][-1]
    assert last["selected"] == []
    assert last["scores"] is None
    assert last["test"]["accuracy"] > 0

  def test_record_survives_json(self, decern_run):
    for record in decern_run[1]:
      text = json.dumps(record, allow_nan=False)
      assert json.loads(text) == record

  def test_record_has_metrics_and_seconds_by_stage(self, decern_run):
    for record in decern_run[1]:
      assert set(record) == {
        *("round", "num_labeled", "train", "test"),
        *("selected", "scores", "seconds"),
      }
      assert set(record["test"]) == {
        *("accuracy", "balanced_accuracy", "class_accuracy", "loss"),
      }
      assert len(record["test"]["class_accuracy"]) == tasks.NUM_CLASSES
      assert record["test"]["loss"] > 0
      assert set(record["seconds"]) == {"train", "embed", "evaluate", "select"}
      assert all(value >= 0 for value in record["seconds"].values())

  def test_record_has_the_loss_of_every_epoch(self, task, parts, decern_run):
    states, records = decern_run
    made = tasks.make_learner(task, parts)
    for state, record in zip(states, records, strict=False):
      assert set(record["train"]) == {"loss", "epoch_losses"}
      losses = record["train"]["epoch_losses"]
      np.testing.assert_array_equal(np.float32(losses), made.fit(state).losses)
      assert record["train"]["loss"] == losses[-1]
      assert len(losses) == RECIPE.num_epochs
      assert 0 < losses[-1] < losses[0]

  def test_scores_stand_beside_their_ids(self, task, parts, decern_run):
    _, record = advance(task, parts, decern_run[0][0], Spy())
    positions = [task.ids.index(id_) for id_ in record["selected"]]
    assert positions == sorted(positions, reverse=True)
    assert record["scores"] == [position / 4 for position in positions]

  def test_strategy_sees_the_pool_as_it_is(self, task, parts, decern_run):
    state, spy = decern_run[0][2], Spy()
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
    task = tasks.make_task(num_rounds=1)
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
    is_scored = strategy in ("decern", "margin")
    assert has_scores == [is_scored] * 2 + [False]
    for record in records[:2] if is_scored else ():
      assert len(record["scores"]) == BUDGET
      assert np.isfinite(record["scores"]).all()

  def test_labels_the_whole_pool_in_the_end(self, task, parts):
    exact = replace(task, initial_budget=13, budget=16, num_rounds=4)
    states, records = tasks.run(exact, parts, "margin")
    assert states[-1].labeled.all()
    assert records[-1]["num_labeled"] == POOL

  def test_one_round_trains_and_evaluates(self, task, parts):
    states, records = tasks.run(replace(task, num_rounds=1), parts)
    assert records[0]["selected"] == []
    np.testing.assert_array_equal(states[1].labeled_at, states[0].labeled_at)

  def test_one_label_is_enough_to_go_on(self, task, parts):
    few = replace(task, initial_budget=1, num_rounds=2)
    states, _ = tasks.run(few, parts)
    assert states[-1].labeled.sum() == 1 + BUDGET

  def test_tells_of_every_model_and_which_is_the_last(self, task, parts):
    told = []
    short = replace(task, num_rounds=3)
    states, _ = tasks.run(
      short, parts, "random", on_model=lambda *model: told.append(model)
    )
    assert [is_last for _, is_last in told] == [False, False, True]
    for (model, _), state in zip(told, states, strict=False):
      expected = tasks.make_learner(short, parts).fit(state)
      jax.tree.map(np.testing.assert_array_equal, model.head, expected.head)

  def test_records_what_is_explained(self, task, parts):
    short, asked = replace(task, num_rounds=2), []

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
    few = replace(task, num_rounds=3, num_candidates=num_candidates)
    asked, made = [], tasks.make_learner(few, parts)

    def embed(model, wanted):
      asked.append(wanted)
      hidden = np.zeros(64, bool)
      hidden[:POOL] = ~wanted
      train = parts["train"]
      rows = np.where(hidden[:, None], len(asked), np.asarray(train.features))
      features = jax.device_put(np.float32(rows), train.features.sharding)
      return {**parts, "train": replace(train, features=features)}

    advance_few = functools.partial(
      run_round,
      few,
      seed=1,
      learner=replace(made, embed=embed),
      select=functools.partial(
        STRATEGIES["decern"].select,
        uncertainty_gamma=0.5,
        diversity_gamma=0.8,
      ),
      needs=STRATEGIES["decern"].needs,
    )
    states, records = tasks.run(few, parts)
    for state, record in zip(states, records, strict=False):
      _, found = advance_few(state)
      assert tasks.without_seconds([found]) == tasks.without_seconds([record])
    for state, wanted in zip(states[:2], asked[:2], strict=True):
      assert wanted.dtype == bool
      assert wanted.shape == (POOL,)
      assert wanted[state.labeled].all()
      count = POOL if num_candidates is None else state.labeled.sum() + 20
      assert wanted.sum() == count
    assert not asked[2].any()
