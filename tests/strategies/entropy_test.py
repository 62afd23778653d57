"""Tests of decern_jax/strategies/entropy.py."""

import numpy as np
from scipy import stats

from decern_jax.strategies import entropy
from tests.strategies import pools, random_pools


class TestSelect:
  def test_takes_the_highest_entropies(self, key):
    selection = entropy.select(key, pools.make_pool(), budget=7)
    expected = stats.entropy(np.float64(pools.PROBLEM.probs), axis=1)
    np.testing.assert_array_equal(
      selection.positions, pools.highest(expected, 7)
    )
    np.testing.assert_allclose(selection.scores, expected, rtol=1e-4)


class TestSelectMultiLabel:
  def test_takes_the_highest_sums_of_binary_entropies(self, key):
    pool = random_pools.make_pool(is_multi_label=True, garbage=0.5)
    selection = entropy.select_multi_label(key, pool, budget=30)
    probs = np.float64(random_pools.LABEL_PROBS)
    sums = stats.entropy(np.stack([probs, 1.0 - probs]), axis=0).sum(axis=1)
    np.testing.assert_array_equal(
      selection.positions, random_pools.highest(sums, 30)
    )

  def test_is_not_the_entropy_over_labels(self, key):
    pool = random_pools.make_pool(is_multi_label=True)
    one = entropy.select(key, pool, budget=30).positions
    several = entropy.select_multi_label(key, pool, budget=30).positions
    assert set(np.asarray(one)) != set(np.asarray(several))
