"""Tests of decern_jax/strategies/margin.py."""

import numpy as np

from decern_jax.strategies import margin
from tests.strategies import pools


class TestSelect:
  def test_takes_the_smallest_margins(self, key):
    selection = margin.select(key, pools.make_pool(), budget=7)
    ordered = np.sort(np.float64(pools.PROBLEM.probs), axis=1)
    closeness = 1.0 - (ordered[:, -1] - ordered[:, -2])
    np.testing.assert_array_equal(
      selection.positions, pools.highest(closeness, 7)
    )
    np.testing.assert_allclose(selection.scores, closeness, rtol=1e-5)
