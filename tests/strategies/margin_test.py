"""Tests of decern_jax/strategies/margin.py."""

import numpy as np

from decern_jax.strategies import margin
from tests.strategies import pools, random_pools


class TestSelect:
  def test_takes_the_smallest_margins(self, key):
    selection = margin.select(key, pools.make_pool(), budget=7)
    ordered = np.sort(np.float64(pools.PROBLEM.probs), axis=1)
    closeness = 1.0 - (ordered[:, -1] - ordered[:, -2])
    np.testing.assert_array_equal(
      selection.positions, pools.highest(closeness, 7)
    )
    np.testing.assert_allclose(selection.scores, closeness, rtol=1e-5)


class TestSelectMultiLabel:
  def test_takes_the_label_closest_to_a_half(self, key):
    pool = random_pools.make_pool(is_multi_label=True, garbage=0.5)
    selection = margin.select_multi_label(key, pool, budget=30)
    probs = np.float64(random_pools.LABEL_PROBS)
    closeness = 1.0 - np.abs(2.0 * probs - 1.0).min(axis=1)
    np.testing.assert_array_equal(
      selection.positions, random_pools.highest(closeness, 30)
    )
