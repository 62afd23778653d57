"""Tests of decern_jax/ops/uncertainty.py."""

import jax.numpy as jnp
import numpy as np
import scipy

from decern_jax.ops import uncertainty
from tests import oracle
from tests.table import each

PROBS = oracle.softmax(np.random.default_rng(0).normal(size=(6, 4)))


class TestEntropy:
  def test_matches_scipy(self):
    np.testing.assert_allclose(
      uncertainty.entropy(jnp.asarray(PROBS, jnp.float32)),
      scipy.stats.entropy(PROBS, axis=1),
      rtol=1e-5,
    )

  def test_a_sure_prediction_has_none(self):
    assert uncertainty.entropy(jnp.array([0.0, 1.0, 0.0])) == 0.0

  @each("classes", [2, 5])
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


LABEL_PROBS = np.random.default_rng(1).uniform(size=(6, 4))


def binary(function, probs=LABEL_PROBS) -> np.ndarray:
  return np.asarray(function(jnp.asarray(probs, jnp.float32)))


class TestLeastConfidence:
  def test_is_what_the_likeliest_class_leaves(self):
    found = binary(uncertainty.least_confidence, PROBS)
    np.testing.assert_allclose(found, 1.0 - PROBS.max(axis=1), rtol=1e-5)

  def test_a_sure_prediction_has_none(self):
    assert uncertainty.least_confidence(jnp.array([0.0, 1.0])) == 0.0


class TestBinaryEntropy:
  def test_is_the_sum_of_entropies_of_two_classes(self):
    pairs = np.stack([LABEL_PROBS, 1.0 - LABEL_PROBS])
    np.testing.assert_allclose(
      binary(uncertainty.binary_entropy),
      scipy.stats.entropy(pairs, axis=0).sum(axis=1),
      rtol=1e-5,
    )

  def test_sure_labels_have_none(self):
    assert uncertainty.binary_entropy(jnp.array([0.0, 1.0, 1.0])) == 0.0

  def test_an_unlikely_label_keeps_its_share_of_no(self):
    # Of p log p alone it would be 4 % less.
    found = uncertainty.binary_entropy(jnp.array([1e-10]))
    np.testing.assert_allclose(found, 1e-10 * (np.log(1e10) + 1), rtol=1e-5)


class TestBinaryMargin:
  def test_is_that_of_the_closest_label(self):
    found = binary(uncertainty.binary_margin)
    expected = np.abs(2.0 * LABEL_PROBS - 1.0).min(axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


class TestBinaryLeastConfidence:
  def test_is_the_mean_over_labels(self):
    found = binary(uncertainty.binary_least_confidence)
    expected = 1.0 - np.maximum(LABEL_PROBS, 1.0 - LABEL_PROBS)
    np.testing.assert_allclose(found, expected.mean(axis=1), rtol=1e-5)


BINARY = [
  uncertainty.binary_entropy,
  uncertainty.binary_margin,
  uncertainty.binary_least_confidence,
]


class TestBinaryForms:
  @each("function", BINARY)
  def test_the_order_of_labels_does_not_matter(self, function):
    found = binary(function, LABEL_PROBS[:, ::-1])
    np.testing.assert_allclose(found, binary(function), rtol=1e-5)

  @each("function", BINARY)
  def test_yes_and_no_are_alike(self, function):
    found = binary(function, 1.0 - LABEL_PROBS)
    np.testing.assert_allclose(found, binary(function), rtol=1e-4)
