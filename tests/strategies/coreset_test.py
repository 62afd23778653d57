"""Tests of decern_jax/strategies/coreset.py: Coreset and k-means."""

import jax
import numpy as np

from decern_jax.ops.kmeans import weighted_kmeans
from decern_jax.strategies import coreset
from tests.strategies import pools
from tests.strategies.pools import BUDGET, ROWS


def naive(features, labeled, candidates, budget) -> list[int]:
  features = np.asarray(features, np.float64)
  centers = list(np.flatnonzero(labeled))
  taken = []
  for _ in range(budget):
    free = [i for i in np.flatnonzero(candidates) if i not in taken]
    distances = [
      min(np.linalg.norm(features[i] - features[j]) for j in centers)
      for i in free
    ]
    taken.append(free[int(np.argmax(distances))])
    centers.append(taken[-1])
  return taken


class TestSelect:
  def test_matches_naive_loop(self, key):
    found = coreset.select(key, pools.make_pool(), budget=BUDGET)
    expected = naive(pools.FEATURES, pools.LABELED, pools.CANDIDATES, BUDGET)
    np.testing.assert_array_equal(found.indices, expected)
    assert found.scores is None

  def test_keeps_away_from_the_labeled(self, key):
    features = np.array([[0.0], [0.1], [10.0], [10.2], [4.0]], np.float32)
    labeled = np.array([True, False, False, False, False])
    pool = pools.make_pool(
      labeled=labeled,
      candidates=~labeled,
      features=features,
      probs=np.zeros((5, 2), np.float32),
    )
    found = coreset.select(key, pool, budget=4).indices
    np.testing.assert_array_equal(found, [3, 4, 2, 1])

  def test_holds_no_square_of_the_pool(self):
    pool = pools.wide_pool(rows=4096, dim=4, classes=2)
    floats = pools.temporary_floats(coreset.select, pool, budget=9)
    assert floats < 4096**2 / 8


def naive_kmeans(key, pool) -> list[int]:
  """The nearest candidate that is left, center by center."""
  clusters = weighted_kmeans(
    key,
    pool.features,
    pool.candidates.astype(np.float32),
    num_clusters=BUDGET,
  )
  features = np.asarray(pool.features, np.float64)
  taken = []
  for center in np.asarray(clusters.centers, np.float64):
    free = [i for i in np.flatnonzero(pool.candidates) if i not in taken]
    distances = np.linalg.norm(features[free] - center, axis=1)
    taken.append(free[int(np.argmin(distances))])
  return taken


class TestSelectKmeans:
  def test_takes_the_nearest_to_each_center(self, key):
    pool = pools.make_pool()
    found = coreset.select_kmeans(key, pool, budget=BUDGET)
    np.testing.assert_array_equal(found.indices, naive_kmeans(key, pool))
    assert found.scores is None

  def test_takes_one_example_of_each_distant_group(self):
    groups = np.arange(ROWS) // 2 % BUDGET
    noise = np.random.default_rng(0).normal(size=(ROWS, pools.DIM))
    features = 100.0 * np.eye(pools.DIM)[groups] + noise
    pool = pools.make_pool(features=features)
    for seed in range(3):
      key = jax.random.key(seed)
      found = coreset.select_kmeans(key, pool, budget=BUDGET)
      taken = groups[np.asarray(found.indices)]
      np.testing.assert_array_equal(np.sort(taken), np.arange(BUDGET))

  def test_equal_examples_are_taken_once_each(self, key):
    features = pools.FEATURES[np.arange(ROWS) % 3]
    pool = pools.make_pool(features=features)
    found = coreset.select_kmeans(key, pool, budget=BUDGET).indices
    pools.assert_distinct_candidates(found)
    assert set(np.asarray(found) % 3) == {0, 1, 2}
