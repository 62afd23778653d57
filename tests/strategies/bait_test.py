"""Tests of decern_jax/strategies/bait.py."""

import jax.numpy as jnp
import numpy as np

from decern_jax.strategies import bait
from tests.strategies import random_pools
from tests.table import each

BUDGET = 9


def naive_select(pool, budget: int) -> list[int]:
  """Forward and backward, by inverting the information of every trial."""
  features, probs = np.float64(pool.features), np.float64(pool.probs)
  candidates = np.asarray(pool.candidates)
  labeled = np.asarray(pool.labeled)
  weights = (probs * (1.0 - probs)).sum(axis=1)

  def information(rows):
    total = np.zeros((features.shape[1], features.shape[1]))
    for row in rows:
      total += weights[row] * np.outer(features[row], features[row])
    return total

  valid = np.flatnonzero(labeled | candidates)
  fisher = information(valid) / len(valid)
  base = information(np.flatnonzero(labeled)) + np.eye(features.shape[1])

  def objective(rows):
    return np.trace(np.linalg.inv(base + information(rows)) @ fisher)

  taken = []
  free = list(np.flatnonzero(candidates))
  while len(taken) < 2 * budget and free:
    best = min(free, key=lambda row: objective([*taken, row]))
    taken.append(best)
    free.remove(best)
  while len(taken) > budget:
    without = [[r for r in taken if r != row] for row in taken]
    taken = min(without, key=objective)
  return taken


class TestSelect:
  @each(
    "select, is_multi_label",
    [(bait.select, False), (bait.select_multi_label, True)],
  )
  def test_matches_naive_inverses(self, key, select, is_multi_label):
    pool = random_pools.make_pool(is_multi_label=is_multi_label)
    selection = select(key, pool, budget=BUDGET)
    expected = naive_select(pool, BUDGET)
    np.testing.assert_array_equal(selection.positions, expected)
    # The backward steps take away what the forward ones took early.
    assert expected != naive_select(pool, 2 * BUDGET)[:BUDGET]

  def test_ignores_rows_that_do_not_count(self, key):
    garbage = random_pools.make_pool(garbage=random_pools.GARBAGE)
    np.testing.assert_array_equal(
      bait.select(key, garbage, budget=BUDGET).positions,
      bait.select(key, random_pools.make_pool(), budget=BUDGET).positions,
    )

  @each("num_candidates", [BUDGET, BUDGET + 1])
  def test_takes_fewer_steps_where_candidates_are_few(
    self, key, num_candidates
  ):
    few = np.flatnonzero(random_pools.CANDIDATES)[-num_candidates:]
    candidates = np.isin(np.arange(random_pools.ROWS), few)
    pool = random_pools.make_pool(candidates=candidates)
    found = bait.select(key, pool, budget=BUDGET).positions
    random_pools.assert_distinct_candidates(found, candidates=candidates)
    np.testing.assert_array_equal(found, naive_select(pool, BUDGET))

  def test_starts_without_labels(self, key):
    nothing = np.zeros(random_pools.ROWS, bool)
    pool = random_pools.make_pool(labeled=nothing)
    found = bait.select(key, pool, budget=BUDGET).positions
    np.testing.assert_array_equal(found, naive_select(pool, BUDGET))

  def test_equal_examples_give_distinct_candidates(self, key):
    pool = random_pools.make_pool()
    pool = pool._replace(
      features=pool.features * 0.0 + 100.0, probs=pool.probs * 0.0 + 0.5
    )
    found = bait.select(key, pool, budget=BUDGET).positions
    random_pools.assert_distinct_candidates(found)

  def test_takes_no_example_twice_where_predictions_are_certain(self, key):
    pool = random_pools.make_pool()
    pool = pool._replace(probs=jnp.round(pool.probs))
    found = bait.select(key, pool, budget=BUDGET).positions
    random_pools.assert_distinct_candidates(found)

  def test_is_independent_of_shard_count(self, key):
    one = bait.select(key, random_pools.make_pool(), budget=BUDGET)
    pool = random_pools.make_pool(num_devices=8)
    eight = bait.select(key, pool, budget=BUDGET)
    np.testing.assert_array_equal(eight.positions, one.positions)

  def test_holds_no_feature_per_class(self):
    pool = random_pools.wide_pool(rows=2000, dim=40, classes=60)
    floats = random_pools.temporary_floats(bait.select, pool, budget=3)
    assert floats < 10 * 2000 * (40 + 60)
