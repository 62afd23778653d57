"""Tests of decern_jax/ops/statistics.py."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from decern_jax.ops import statistics
from tests import oracle
from tests.table import each


def moments_of(scores, valid=None) -> statistics.Moments:
  scores = jnp.asarray(scores, jnp.float32)
  valid = jnp.ones(len(scores), bool) if valid is None else jnp.asarray(valid)
  return statistics.moments(scores, valid)


class TestMoments:
  @each("shift", [0.0, 100.0])
  def test_matches_scipy(self, shift):
    scores = np.random.default_rng(0).gamma(2.0, size=500) + shift
    scores = scores.astype(np.float32)
    mean, std, skewness = moments_of(scores)
    scores = np.float64(scores)
    np.testing.assert_allclose(mean, scores.mean(), rtol=1e-6)
    np.testing.assert_allclose(std, scores.std(), rtol=1e-5)
    np.testing.assert_allclose(skewness, stats.skew(scores), rtol=1e-4)

  @each("value", [0.0, 0.1, 3.0, 1e6])
  @each("size", [1, 7, 1000])
  def test_constant_scores_have_zero_skewness(self, value, size):
    found = moments_of(np.full(size, value))
    np.testing.assert_allclose(found.mean, value, rtol=1e-6)
    np.testing.assert_allclose(found.std, 0.0, atol=1e-6 * value)
    assert found.skewness == 0.0

  def test_scores_that_differ_by_rounding_alone_have_zero_skewness(self):
    scores = np.full(100, 0.7, np.float32)
    scores[0] = np.nextafter(scores[0], np.float32(1.0))
    assert moments_of(scores).skewness == 0.0

  def test_small_differences_are_no_rounding(self):
    scores = 1.0 + 1e-4 * np.random.default_rng(0).gamma(1.0, size=500)
    scores = scores.astype(np.float32)
    skewness = moments_of(scores).skewness
    np.testing.assert_allclose(
      skewness, stats.skew(np.float64(scores)), rtol=1e-2
    )

  @each("garbage", [0.0, 1e9, np.nan, -np.inf])
  def test_is_independent_of_padding(self, garbage):
    scores = np.random.default_rng(0).gamma(2.0, size=50)
    padded = np.concatenate([scores, np.full(13, garbage)])
    found = moments_of(padded, np.arange(63) < 50)
    np.testing.assert_allclose(found, moments_of(scores), rtol=1e-6)

  def test_no_valid_score_gives_zeros(self):
    assert tuple(moments_of(np.ones(4), np.zeros(4, bool))) == (0.0, 0.0, 0.0)

  @each("num_devices", [1, 2, 4, 8])
  def test_is_independent_of_shard_count(self, num_devices):
    scores = np.random.default_rng(0).gamma(2.0, size=64).astype(np.float32)
    valid = np.arange(64) % 5 != 0

    def moments(scores, valid):
      return statistics.moments(scores, valid, axis_name="pool")

    found = oracle.on_shards(moments, num_devices, scores, valid)
    np.testing.assert_allclose(found, moments_of(scores, valid), rtol=1e-5)


class TestUncertaintyThreshold:
  @each("gamma", [-1.0, 0.0, 0.5])
  def test_matches_definition(self, gamma):
    scores = np.random.default_rng(0).gamma(2.0, size=300).astype(np.float32)
    actual = jax.jit(statistics.uncertainty_threshold)(
      scores, np.ones(300, bool), gamma=gamma
    )
    expected = oracle.uncertainty_threshold(scores, gamma=gamma)
    np.testing.assert_allclose(actual, expected, rtol=1e-5)

  def test_lies_above_the_mean_of_scores_skewed_to_the_right(self):
    scores = jnp.array([1.0, 1.0, 1.0, 9.0])
    threshold = statistics.uncertainty_threshold(
      scores, jnp.ones(4, bool), gamma=0.5
    )
    assert threshold > 3.0
