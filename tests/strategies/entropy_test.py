"""Tests of decern_jax/strategies/entropy.py."""

import numpy as np
from scipy import stats

from decern_jax.strategies import entropy
from tests.strategies import pools


class TestSelect:
  def test_takes_the_highest_entropies(self, key):
    selection = entropy.select(key, pools.make_pool(), budget=7)
    expected = stats.entropy(np.float64(pools.PROBLEM.probs), axis=1)
    np.testing.assert_array_equal(
      selection.positions, pools.highest(expected, 7)
    )
    np.testing.assert_allclose(selection.scores, expected, rtol=1e-4)
