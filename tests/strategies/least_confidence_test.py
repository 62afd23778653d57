"""Tests of decern_jax/strategies/least_confidence.py."""

import numpy as np

from decern_jax.strategies import least_confidence
from tests.strategies import pools, random_pools


class TestSelect:
  def test_takes_the_least_likely_predictions(self, key):
    selection = least_confidence.select(key, pools.make_pool(), budget=7)
    expected = 1.0 - np.float64(pools.PROBLEM.probs).max(axis=1)
    np.testing.assert_array_equal(
      selection.positions, pools.highest(expected, 7)
    )
    np.testing.assert_allclose(selection.scores, expected, rtol=1e-4)


class TestSelectMultiLabel:
  def test_takes_the_highest_means_over_labels(self, key):
    pool = random_pools.make_pool(is_multi_label=True, garbage=0.5)
    selection = least_confidence.select_multi_label(key, pool, budget=30)
    probs = np.float64(random_pools.LABEL_PROBS)
    means = np.minimum(probs, 1.0 - probs).mean(axis=1)
    np.testing.assert_array_equal(
      selection.positions, random_pools.highest(means, 30)
    )
