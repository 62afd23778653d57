"""Tests of decern_jax/ops/similarity.py."""

import jax.numpy as jnp
import numpy as np
from scipy.spatial import distance

from decern_jax.ops import similarity

ROWS = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)


class TestNormalize:
  def test_gives_length_one(self):
    rows = similarity.normalize(jnp.asarray(ROWS))
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1.0, rtol=1e-6)

  def test_keeps_a_zero_feature(self):
    np.testing.assert_array_equal(similarity.normalize(jnp.zeros((2, 3))), 0.0)

  def test_ignores_length(self):
    rows = jnp.asarray(ROWS)
    np.testing.assert_allclose(
      similarity.normalize(1e4 * rows), similarity.normalize(rows), rtol=1e-5
    )


class TestCosineSimilarity:
  def test_matches_scipy(self):
    actual = similarity.cosine_similarity(
      jnp.asarray(ROWS), jnp.asarray(ROWS[:3])
    )
    expected = 1.0 - distance.cdist(ROWS, ROWS[:3], "cosine")
    np.testing.assert_allclose(actual, expected, atol=1e-6)

  def test_is_zero_with_a_zero_feature(self):
    cosines = similarity.cosine_similarity(jnp.zeros((1, 7)), jnp.asarray(ROWS))
    np.testing.assert_array_equal(cosines, 0.0)
