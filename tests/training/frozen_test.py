"""Tests of decern_jax/training/frozen.py, on features of its own."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from decern_jax.distributed.sharding import make_mesh
from decern_jax.ops import keys
from decern_jax.runs.round import Task, draw_first_state
from decern_jax.training import learner, rounds
from decern_jax.training.head import fit_head, init_head
from tests import tasks
from tests.table import each
from tests.tasks import BUDGET, INITIAL, NUM_ROUNDS, POOL, RECIPE


@pytest.fixture(scope="module")
def task() -> Task:
  """Of a budget of its own: no other file has compiled its programs."""
  return tasks.make_task(budget=BUDGET + 1)


@pytest.fixture(scope="module")
def parts() -> dict[str, learner.PlacedSplit]:
  return tasks.make_parts()


def run_and_count(task, parts, *, seed=1):
  """As `tasks.run`, and how many programs each round compiles."""
  advance = tasks.make_advance(task, parts, seed=seed)
  states, records, counts = [draw_first_state(task, seed=seed)], [], []
  for _ in range(NUM_ROUNDS):
    with tasks.compilations() as compiled:
      state, record = advance(states[-1])
    states.append(state)
    records.append(record)
    counts.append(len(compiled))
  return states, records, counts


@pytest.fixture(scope="module")
def counted(task, parts):
  return run_and_count(task, parts)


@pytest.fixture(scope="module")
def decern_run(counted):
  """The states and the records of a run."""
  return counted[:2]


class TestFit:
  def test_head_is_the_one_that_training_gives(self, task, parts):
    """By hand: the labeled rows first, then rows that do not count."""
    state = draw_first_state(task, seed=1)
    model = tasks.make_learner(task, parts).fit(state)
    where = np.zeros(task.capacity, int)
    where[:INITIAL] = np.flatnonzero(state.labeled)
    head, losses = fit_head(
      keys.round_key(1, "order", 0),
      init_head(
        keys.seed_key(1, "params"),
        dim=tasks.DIM,
        num_classes=tasks.NUM_CLASSES,
      ),
      np.asarray(parts["train"].features)[where],
      np.asarray(parts["train"].labels)[where],
      np.int32(INITIAL),
      recipe=RECIPE,
    )
    for ours, theirs in zip(model.head, head, strict=True):
      np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(model.losses, losses, rtol=1e-5)
    assert isinstance(model.losses, np.ndarray)
    assert model.losses.shape == (RECIPE.num_epochs,)

  def test_hands_out_the_variables_that_it_was_made_with(self, task, parts):
    made = tasks.make_learner(task, parts)
    assert made.fit(draw_first_state(task, seed=1)).variables == {"params": {}}

  def test_starts_from_the_same_head_in_every_round(self, task, parts):
    """One label pattern in two rounds differs by the orders alone."""
    recipe = replace(RECIPE, num_epochs=1, warmup_epochs=0)
    made = tasks.make_learner(task, parts, recipe=recipe)
    labeled_at = np.where(np.arange(POOL) < 9, 0, rounds.NOT_LABELED)
    models = [made.fit(rounds.make_state(i, labeled_at)) for i in (0, 3)]
    # One batch of all rows: the order does not matter beyond rounding.
    for ours, theirs in zip(models[0].head, models[1].head, strict=True):
      np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)

  def test_orders_differ_by_round_and_seed(self, task, parts):
    labeled_at = np.where(np.arange(POOL) < 24, 0, rounds.NOT_LABELED)
    losses = [
      tuple(
        tasks.make_learner(task, parts, seed=seed)
        .fit(rounds.make_state(round_num, labeled_at))
        .losses
      )
      for seed, round_num in ((1, 0), (1, 1), (2, 0))
    ]
    assert len(set(losses)) == 3

  def test_is_trained_on_labeled_examples_alone(self, task, parts, decern_run):
    """Labels of the rest may be anything."""
    state = decern_run[0][1]
    train = parts["train"]
    labels = np.array(train.labels)
    labels[:POOL][~state.labeled] = 0
    part = learner.place(
      np.asarray(train.features)[:POOL],
      tasks.make_split("train", labels[:POOL]),
      make_mesh(8),
    )
    advance = tasks.make_advance(task, {**parts, "train": part})
    _, record = advance(state)
    expected = tasks.without_seconds([decern_run[1][1]])
    assert tasks.without_seconds([record]) == expected

  def test_refuses_a_loss_that_is_not_finite(self, task, parts):
    recipe = replace(RECIPE, learning_rate=1e38, final_learning_rate=1e38)
    made = tasks.make_learner(task, parts, recipe=recipe)
    message = r"loss became (nan|inf) in epoch \d+ of round 0; .*learning_rate"
    with pytest.raises(RuntimeError, match=message):
      made.fit(draw_first_state(task, seed=1))


class TestEmbed:
  def test_gives_the_cached_parts_whatever_is_wanted(self, task, parts):
    made = tasks.make_learner(task, parts)
    model = made.fit(draw_first_state(task, seed=1))
    for wanted in (np.zeros(POOL, bool), np.ones(POOL, bool)):
      assert made.embed(model, wanted) is parts


class TestRun:
  """Whole runs on frozen features."""

  def test_learns(self, decern_run):
    accuracy = [record["test"]["accuracy"] for record in decern_run[1]]
    assert accuracy[-1] > 0.9
    assert accuracy[-1] > accuracy[0]
    assert accuracy[0] > 1 / tasks.NUM_CLASSES

  def test_strategies_share_the_first_model(self, task, parts, decern_run):
    first = decern_run[1][0]
    advance = tasks.make_advance(task, parts, "random")
    _, record = advance(draw_first_state(task, seed=1))
    for name in ("num_labeled", "test", "train"):
      assert record[name] == first[name]

  def test_two_fresh_runs_are_bit_equal(self, task, decern_run):
    _, records = tasks.run(task, tasks.make_parts())
    expected = tasks.without_seconds(decern_run[1])
    assert tasks.without_seconds(records) == expected

  def test_goes_on_from_a_restored_state(self, task, parts, decern_run):
    states, records = decern_run
    restored = rounds.make_state(3, np.array(states[3].labeled_at))
    state, record = tasks.make_advance(task, parts)(restored)
    expected = tasks.without_seconds([records[3]])
    assert tasks.without_seconds([record]) == expected
    np.testing.assert_array_equal(state.labeled_at, states[4].labeled_at)

  def test_seeds_differ(self, task, parts, decern_run):
    advance = tasks.make_advance(task, parts, seed=2)
    _, record = advance(draw_first_state(task, seed=2))
    assert record["selected"] != decern_run[1][0]["selected"]

  @each("strategy", ["decern", "random"])
  def test_selects_the_same_on_one_device(
    self, task, parts, decern_run, strategy
  ):
    if strategy == "decern":
      _, expected = decern_run
    else:
      _, expected = tasks.run(task, parts, strategy)
    _, actual = tasks.run(task, tasks.make_parts(1), strategy)
    for ours, theirs in zip(actual, expected, strict=True):
      assert ours["selected"] == theirs["selected"]
      assert ours["test"]["accuracy"] == theirs["test"]["accuracy"]
      assert ours["train"]["loss"] == pytest.approx(theirs["train"]["loss"])

  def test_compiles_nothing_after_the_first_round(self, task, parts, counted):
    assert counted[2][0] > 0
    assert counted[2][1:] == [0] * (NUM_ROUNDS - 1)
    few = replace(task, num_candidates=20)
    assert run_and_count(few, parts, seed=3)[2][1:] == [0] * (NUM_ROUNDS - 1)

  def test_compiles_training_once_for_all_seeds(self, task, parts):
    # The type of a jitted function does not show its cache.
    jitted: Any = fit_head
    tasks.run(task, parts, "random")
    size = jitted._cache_size()
    tasks.run(task, parts, "random", seed=7)
    assert jitted._cache_size() == size
