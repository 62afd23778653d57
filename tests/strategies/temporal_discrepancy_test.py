"""Tests of decern_jax/strategies/temporal_discrepancy.py."""

import numpy as np

from decern_jax.strategies import random, temporal_discrepancy
from tests.strategies import label_pools, random_pools
from tests.table import each


class TestSelect:
  @each("num_devices", [1, 2, 4, 8])
  def test_takes_the_largest_distances(self, key, num_devices):
    pool = label_pools.make_pool(
      num_devices=num_devices, garbage=random_pools.GARBAGE
    )
    found = temporal_discrepancy.select(key, pool, budget=30)
    expected = [
      np.sqrt(sum((p - q) ** 2 for p, q in zip(*rows, strict=True)))
      for rows in zip(
        np.float64(label_pools.PROBS),
        np.float64(label_pools.PREVIOUS_PROBS),
        strict=True,
      )
    ]
    np.testing.assert_array_equal(
      found.positions, label_pools.highest(expected, 30)
    )
    expected = np.where(label_pools.CANDIDATES, expected, 0.0)
    np.testing.assert_allclose(
      np.asarray(found.scores)[: label_pools.ROWS], expected, rtol=1e-5
    )

  def test_first_round_is_random(self, key):
    pool = label_pools.make_pool()._replace(previous_probs=None)
    found = temporal_discrepancy.select(key, pool, budget=30)
    expected = random.select(key, pool, budget=30)
    np.testing.assert_array_equal(found.positions, expected.positions)
    assert found.scores is None

  def test_ignores_the_order_and_the_sense_of_labels(self, key):
    pool = label_pools.make_pool()
    changed = pool._replace(
      probs=1.0 - pool.probs[:, ::-1],
      previous_probs=1.0 - pool.previous_probs[:, ::-1],
    )
    found, expected = (
      temporal_discrepancy.select(key, p, budget=30).scores
      for p in (changed, pool)
    )
    np.testing.assert_allclose(found, expected, rtol=1e-5)

  def test_a_model_that_stands_still_scores_nothing(self, key):
    pool = label_pools.make_pool()
    pool = pool._replace(previous_probs=pool.probs)
    found = temporal_discrepancy.select(key, pool, budget=5)
    assert not np.asarray(found.scores).any()
    random_pools.assert_distinct_candidates(found.positions)
