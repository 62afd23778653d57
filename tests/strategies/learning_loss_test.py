"""Tests of decern_jax/strategies/learning_loss.py."""

import numpy as np

from decern_jax.strategies import learning_loss
from tests.strategies import label_pools, random_pools
from tests.table import each


class TestSelect:
  @each("num_devices", [1, 2, 4, 8])
  def test_takes_the_highest_predicted_losses(self, key, num_devices):
    pool = label_pools.make_pool(
      num_devices=num_devices, garbage=random_pools.GARBAGE
    )
    found = learning_loss.select(key, pool, budget=30)
    np.testing.assert_array_equal(
      found.positions, label_pools.highest(label_pools.LOSSES, 30)
    )
    assert found.scores is pool.predicted_losses

  def test_negative_losses_rank_like_others(self, key):
    pool = label_pools.make_pool(losses=label_pools.LOSSES - 100.0)
    found = learning_loss.select(key, pool, budget=30)
    random_pools.assert_distinct_candidates(found.positions)
    chosen = np.asarray(found.scores)[np.asarray(found.positions)]
    assert (np.diff(chosen) <= 0.0).all()
