"""Tests of decern_jax/strategies/bait.py."""

import jax.numpy as jnp
import numpy as np

from decern_jax.strategies import bait
from tests.strategies import pools
from tests.strategies.pools import BUDGET
from tests.table import each


def naive_select(pool, budget: int) -> list[int]:
  """Forward and backward, by inverting the information of every trial."""
  features = np.asarray(pool.features, np.float64)
  probs = np.asarray(pool.probs, np.float64)
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
    pool = pools.make_pool(is_multi_label=is_multi_label)
    selection = select(key, pool, budget=BUDGET)
    expected = naive_select(pool, BUDGET)
    np.testing.assert_array_equal(selection.indices, expected)
    # The backward steps take away what the forward ones took early.
    assert expected != naive_select(pool, 2 * BUDGET)[:BUDGET]

  @each("num_candidates", [BUDGET, BUDGET + 1])
  def test_takes_fewer_steps_where_candidates_are_few(
    self, key, num_candidates
  ):
    few = np.flatnonzero(pools.CANDIDATES)[-num_candidates:]
    candidates = np.isin(np.arange(pools.ROWS), few)
    pool = pools.make_pool(candidates=candidates)
    found = bait.select(key, pool, budget=BUDGET).indices
    pools.assert_distinct_candidates(found, candidates=candidates)
    np.testing.assert_array_equal(found, naive_select(pool, BUDGET))

  def test_starts_without_labels(self, key):
    pool = pools.make_pool(labeled=pools.NO_ROWS)
    found = bait.select(key, pool, budget=BUDGET).indices
    np.testing.assert_array_equal(found, naive_select(pool, BUDGET))

  def test_takes_no_example_twice_where_predictions_are_certain(self, key):
    pool = pools.make_pool()
    pool = pools.change(pool, probs=jnp.round(pool.probs))
    found = bait.select(key, pool, budget=BUDGET).indices
    pools.assert_distinct_candidates(found)

  def test_holds_no_feature_per_class(self):
    pool = pools.wide_pool(rows=2000, dim=40, classes=60)
    floats = pools.temporary_floats(bait.select, pool, budget=3)
    assert floats < 10 * 2000 * (40 + 60)
