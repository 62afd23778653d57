"""Tests of decern_jax/strategies/coreset.py."""

import numpy as np

from decern_jax.strategies import coreset
from tests.strategies import pools, random_pools
from tests.table import each


def naive(features, labeled, candidates, budget) -> list[int]:
  features = np.float64(features)
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
    found = coreset.select(key, pools.make_pool(), budget=9)
    expected = naive(pools.PROBLEM.features, pools.LABELED, ~pools.LABELED, 9)
    np.testing.assert_array_equal(found.positions, expected)
    assert found.scores is None

  @each("num_devices", [1, 8])
  @each("is_multi_label", [False, True])
  def test_matches_naive_loop_beside_rows_that_do_not_count(
    self, key, num_devices, is_multi_label
  ):
    pool = random_pools.make_pool(
      num_devices=num_devices,
      is_multi_label=is_multi_label,
      garbage=random_pools.GARBAGE,
    )
    expected = naive(
      random_pools.PROBLEM.features,
      random_pools.LABELED,
      random_pools.CANDIDATES,
      15,
    )
    found = coreset.select(key, pool, budget=15).positions
    np.testing.assert_array_equal(found, expected)

  def test_keeps_away_from_the_labeled(self, key):
    features = np.float32([[0.0], [0.1], [10.0], [10.2], [4.0]])
    labeled = np.array([True, False, False, False, False])
    pool = random_pools.make_pool(
      labeled=labeled,
      candidates=~labeled,
      features=features,
      probs=np.zeros((5, 2), np.float32),
    )
    found = coreset.select(key, pool, budget=4).positions
    np.testing.assert_array_equal(found, [3, 4, 2, 1])

  def test_holds_no_square_of_the_pool(self):
    pool = random_pools.wide_pool(rows=4096, dim=4, classes=2)
    floats = random_pools.temporary_floats(coreset.select, pool, budget=9)
    assert floats < 4096**2 / 8
