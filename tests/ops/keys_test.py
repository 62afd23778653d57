"""Tests of decern_jax/ops/keys.py."""

import jax
import jax.numpy as jnp
import numpy as np
import scipy

from decern_jax.ops import keys

uniform_at = jax.jit(keys.uniform_at)


class TestUniformAt:
  def test_belongs_to_the_index(self, key):
    whole = uniform_at(key, jnp.arange(20))
    some = jnp.array([3, 19, 0])
    np.testing.assert_array_equal(uniform_at(key, some), whole[some])

  def test_is_uniform(self, key):
    draws = np.asarray(uniform_at(key, jnp.arange(5000)))
    assert draws.min() >= 0.0
    assert draws.max() < 1.0
    assert scipy.stats.kstest(draws, "uniform").pvalue > 0.01

  def test_changes_with_the_key(self, key):
    indices = jnp.arange(20)
    other = uniform_at(jax.random.key(1), indices)
    assert not np.any(other == uniform_at(key, indices))
