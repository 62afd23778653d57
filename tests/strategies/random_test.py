"""Tests of decern_jax/strategies/random.py."""

import jax
import numpy as np
from scipy import stats

from decern_jax.strategies import random
from tests.strategies import pools


class TestSelect:
  def test_is_uniform_over_the_candidates(self):
    pool = pools.make_pool()
    counts = np.zeros(pools.POOL, int)
    for seed in range(200):
      selection = random.select(jax.random.key(seed), pool, budget=6)
      counts[np.asarray(selection.positions)] += 1
    assert not counts[pools.LABELED].any()
    drawn = counts[~pools.LABELED]
    assert stats.chisquare(drawn).pvalue > 0.01

  def test_has_no_scores(self, key):
    pool = pools.make_pool()
    assert random.select(key, pool, budget=3).scores is None

  def test_ignores_what_the_model_says(self, key):
    pool = pools.make_pool()
    other = pool._replace(features=-pool.features, probs=pool.probs[::-1])
    np.testing.assert_array_equal(
      random.select(key, pool, budget=6).positions,
      random.select(key, other, budget=6).positions,
    )
