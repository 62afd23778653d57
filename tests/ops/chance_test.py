"""Tests of decern_jax/ops/chance.py."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from decern_jax.ops import chance


class TestUniformAt:
  def test_belongs_to_the_position(self, key):
    whole = chance.uniform_at(key, jnp.arange(20))
    some = jnp.array([3, 19, 0])
    np.testing.assert_array_equal(chance.uniform_at(key, some), whole[some])

  def test_is_uniform(self, key):
    draws = np.asarray(chance.uniform_at(key, jnp.arange(5000)))
    assert draws.min() >= 0.0
    assert draws.max() < 1.0
    assert stats.kstest(draws, "uniform").pvalue > 0.01

  def test_changes_with_the_key(self, key):
    positions = jnp.arange(20)
    other = chance.uniform_at(jax.random.key(1), positions)
    assert not np.any(other == chance.uniform_at(key, positions))
