"""Tests of decern_jax/ops/uncertainty.py."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from decern_jax.ops import uncertainty
from tests import oracle

PROBS = oracle.softmax(np.random.default_rng(0).normal(size=(6, 4)))


class TestEntropy:
  def test_matches_scipy(self):
    np.testing.assert_allclose(
      uncertainty.entropy(jnp.asarray(PROBS, jnp.float32)),
      stats.entropy(PROBS, axis=1),
      rtol=1e-5,
    )

  def test_a_sure_prediction_has_none(self):
    assert uncertainty.entropy(jnp.array([0.0, 1.0, 0.0])) == 0.0

  @pytest.mark.parametrize("classes", [2, 5])
  def test_is_largest_for_equal_classes(self, classes):
    probs = jnp.full(classes, 1.0 / classes)
    np.testing.assert_allclose(
      uncertainty.entropy(probs), np.log(classes), rtol=1e-6
    )


class TestMargin:
  def test_matches_a_sort(self):
    ordered = np.sort(PROBS, axis=1)
    np.testing.assert_allclose(
      uncertainty.margin(jnp.asarray(PROBS, jnp.float32)),
      ordered[:, -1] - ordered[:, -2],
      rtol=1e-5,
    )

  def test_a_tie_has_none(self):
    assert uncertainty.margin(jnp.array([0.4, 0.2, 0.4])) == 0.0
