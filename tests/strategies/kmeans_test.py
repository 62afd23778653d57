"""Tests of decern_jax/strategies/kmeans.py."""

import jax
import numpy as np

from decern_jax.ops.kmeans import weighted_kmeans
from decern_jax.strategies import kmeans
from tests.strategies import random_pools
from tests.table import each

# One budget and one size of pool: a clustering takes long to compile.
BUDGET = 12
ROWS = random_pools.ROWS


def naive(key, pool) -> list[int]:
  """The nearest candidate that is left, center by center."""
  clusters = weighted_kmeans(
    key,
    pool.features,
    pool.candidates.astype(np.float32),
    num_clusters=BUDGET,
  )
  features = np.float64(pool.features)
  taken = []
  for center in np.float64(clusters.centers):
    free = [i for i in np.flatnonzero(pool.candidates) if i not in taken]
    distances = np.linalg.norm(features[free] - center, axis=1)
    taken.append(free[int(np.argmin(distances))])
  return taken


class TestSelect:
  def test_takes_the_nearest_to_each_center(self, key):
    pool = random_pools.make_pool()
    found = kmeans.select(key, pool, budget=BUDGET)
    np.testing.assert_array_equal(found.positions, naive(key, pool))
    assert found.scores is None

  @each("num_devices", [1, 8])
  def test_rows_that_do_not_count_change_nothing(self, key, num_devices):
    expected = kmeans.select(key, random_pools.make_pool(), budget=BUDGET)
    pool = random_pools.make_pool(
      num_devices=num_devices, garbage=random_pools.GARBAGE
    )
    found = kmeans.select(key, pool, budget=BUDGET)
    np.testing.assert_array_equal(found.positions, expected.positions)

  def test_takes_one_example_of_each_distant_group(self):
    groups = np.arange(ROWS) % BUDGET
    noise = np.random.default_rng(0).normal(size=(ROWS, BUDGET))
    features = np.float32(100.0 * np.eye(BUDGET)[groups] + noise)
    pool = random_pools.make_pool(features=features)
    for seed in range(3):
      found = kmeans.select(jax.random.key(seed), pool, budget=BUDGET)
      taken = groups[np.asarray(found.positions)]
      np.testing.assert_array_equal(np.sort(taken), np.arange(BUDGET))

  def test_one_candidate_more_than_the_budget_leaves_one(self, key):
    candidates = np.arange(ROWS) % 16 == 1
    assert candidates.sum() == BUDGET + 1
    pool = random_pools.make_pool(labeled=~candidates, candidates=candidates)
    found = kmeans.select(key, pool, budget=BUDGET).positions
    random_pools.assert_distinct_candidates(found, candidates=candidates)

  def test_equal_examples_are_taken_once_each(self, key):
    features = random_pools.PROBLEM.features[np.arange(ROWS) % 3]
    pool = random_pools.make_pool(features=features)
    found = kmeans.select(key, pool, budget=BUDGET).positions
    random_pools.assert_distinct_candidates(found)
    assert set(np.asarray(found) % 3) == {0, 1, 2}
