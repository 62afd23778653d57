"""Tests of decern_jax/ops/anchors.py."""

from typing import Any

import numpy as np
import pytest

from decern_jax.distributed.sharding import make_mesh, place_pool
from decern_jax.ops.anchors import Anchors, class_anchors
from tests import oracle
from tests.table import each

PROBLEM = oracle.make_problem()
FEATURES, PROBS = PROBLEM.labeled_features, PROBLEM.labeled_probs
# Class 3 has no label.
LABELS = np.where(PROBLEM.labels == 3, 0, PROBLEM.labels).astype(np.int32)


def anchors(
  features: Any = FEATURES,
  probs: Any = PROBS,
  labels: Any = LABELS,
  **options: Any,
) -> Anchors:
  return class_anchors(features, probs, labels, **{"num_classes": 5, **options})


def assert_matches(found: Anchors, expected) -> None:
  for actual, naive in zip(found, expected, strict=True):
    assert actual.dtype == np.float32
    np.testing.assert_allclose(actual, naive, rtol=1e-5, atol=1e-6)


class TestClassAnchors:
  @each("hidden", [(), (1, 4), range(3, 12)])
  def test_matches_naive_loop_over_the_rows_that_have_a_label(self, hidden):
    labels = LABELS.copy()
    labels[list(hidden)] = -1
    seen = labels >= 0
    expected = oracle.class_anchors(
      FEATURES[seen], PROBS[seen], labels[seen], num_classes=5
    )
    assert_matches(anchors(labels=labels), expected)

  def test_gives_zeros_without_any_label(self):
    found = anchors(labels=np.full_like(LABELS, -1))
    assert not any(np.asarray(mean).any() for mean in found)

  def test_is_independent_of_shard_count(self):
    mesh = make_mesh(8)
    labels = np.append(LABELS, np.full(4, -1, np.int32))
    placed = (place_pool(array, mesh) for array in (FEATURES, PROBS, labels))
    expected = oracle.class_anchors(FEATURES, PROBS, LABELS, num_classes=5)
    assert_matches(anchors(*placed), expected)

  @pytest.mark.usefixtures("unannotated")
  @each("dtype", [np.uint8, np.int8, np.int64])
  def test_accepts_any_integer_type_of_labels(self, dtype):
    found = anchors(labels=LABELS.astype(dtype))
    np.testing.assert_array_equal(found.features, anchors().features)

  @pytest.mark.usefixtures("unannotated")
  @each("dtype", [np.uint8, np.int8])
  def test_classes_beyond_the_range_of_the_labels_type_stay_empty(self, dtype):
    rows = np.eye(4, dtype=np.float32)
    probs = np.full((4, 300), 1 / 300, np.float32)
    found = anchors(rows, probs, np.arange(4, dtype=dtype), num_classes=300)
    np.testing.assert_array_equal(found.features[:4], rows)
    np.testing.assert_allclose(found.features[4:], 0.25)

  @pytest.mark.usefixtures("unannotated")
  def test_rejects_what_does_not_fit(self):
    with pytest.raises(ValueError, match=r"`labels` .* \[12\], got \(3,\)"):
      anchors(labels=np.zeros(3, int))
    with pytest.raises(ValueError, match=r"`probs` .* 4\], got \(12, 5\)"):
      anchors(num_classes=4)
    with pytest.raises(ValueError, match="1 <= `num_classes`, got 0"):
      anchors(num_classes=0)
    with pytest.raises(ValueError, match=r"`num_classes`, got 5\.0"):
      anchors(num_classes=5.0)
