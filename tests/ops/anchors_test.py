"""Tests of decern_jax/ops/anchors.py."""

import jax.numpy as jnp
import numpy as np

from decern_jax.ops import anchors
from tests import oracle

LABELS = np.array([0, 2, 2, 0, 4, 2, 4, 4], np.int32)


def rows_of(labels: np.ndarray) -> tuple[jnp.ndarray, jnp.ndarray]:
  rng = np.random.default_rng(0)
  features = rng.normal(size=(len(labels), 6))
  probs = oracle.softmax(rng.normal(size=(len(labels), 5)))
  return jnp.asarray(features, jnp.float32), jnp.asarray(probs, jnp.float32)


class TestClassAnchors:
  def test_matches_naive_loop_with_classes_without_label(self):
    features, probs = rows_of(LABELS)
    actual = anchors.class_anchors(
      features, probs, jnp.asarray(LABELS), num_classes=5
    )
    expected = oracle.class_anchors(
      np.asarray(features), np.asarray(probs), LABELS, num_classes=5
    )
    np.testing.assert_allclose(actual.features, expected[0], atol=1e-6)
    np.testing.assert_allclose(actual.probs, expected[1], atol=1e-6)

  def test_rows_without_label_count_for_nothing(self):
    features, probs = rows_of(LABELS)
    hidden = LABELS.copy()
    hidden[[1, 4]] = -1
    seen = hidden >= 0
    actual = anchors.class_anchors(
      features, probs, jnp.asarray(hidden), num_classes=5
    )
    expected = anchors.class_anchors(
      features[seen], probs[seen], jnp.asarray(LABELS[seen]), num_classes=5
    )
    for found, wanted in zip(actual, expected, strict=True):
      np.testing.assert_allclose(found, wanted, atol=1e-6)

  def test_no_label_at_all_gives_zeros(self):
    features, probs = rows_of(LABELS)
    none = jnp.full(len(LABELS), -1)
    found = anchors.class_anchors(features, probs, none, num_classes=5)
    assert not np.any(found.features)
    assert not np.any(found.probs)

  def test_probability_anchors_sum_to_one(self):
    features, probs = rows_of(LABELS)
    found = anchors.class_anchors(
      features, probs, jnp.asarray(LABELS), num_classes=5
    )
    np.testing.assert_allclose(found.probs.sum(axis=1), 1.0, atol=1e-6)
