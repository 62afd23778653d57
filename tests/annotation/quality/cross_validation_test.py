"""Tests of decern_jax/annotation/quality/cross_validation.py."""

import jax
import numpy as np
import pytest

from decern_jax.annotation.quality.cross_validation import (
  NUM_FOLDS,
  predict_out_of_sample,
)
from decern_jax.annotation.quality.label_errors import find_label_errors


@pytest.fixture(scope="module")
def blobs():
  """Sixty points around three centers, and their classes."""
  rng = np.random.default_rng(0)
  labels = np.arange(60, dtype=np.int32) % 3
  centers = rng.normal(size=(3, 16)) * 8
  rows = centers[labels] + rng.normal(size=(60, 16))
  return rows.astype(np.float32), labels


class TestPredictOutOfSample:
  def test_predicts_what_it_did_not_see(self, key, blobs):
    probs = predict_out_of_sample(key, *blobs, num_classes=3)
    assert (probs.argmax(axis=1) == blobs[1]).mean() > 0.95
    np.testing.assert_allclose(probs.sum(axis=1), 1.0, rtol=1e-5)

  def test_does_not_see_the_label_of_the_row(self, key):
    # Noise has no class: who sees the label learns it by heart.
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(200, 64)).astype(np.float32)
    labels = (np.arange(200) % 2).astype(np.int32)
    probs = predict_out_of_sample(key, rows, labels, num_classes=2)
    assert 0.3 < (probs.argmax(axis=1) == labels).mean() < 0.7

  def test_finds_labels_that_were_changed(self, key, blobs):
    rows, labels = blobs
    wrong = labels.copy()
    wrong[[3, 20, 41]] = (wrong[[3, 20, 41]] + 1) % 3
    probs = predict_out_of_sample(key, rows, wrong, num_classes=3)
    found = find_label_errors(probs, wrong)
    assert set(found.positions) == {3, 20, 41}
    by_position = dict(zip(found.positions, found.suggested, strict=True))
    assert all(by_position[at] == labels[at] for at in (3, 20, 41))

  def test_several_labels(self, key, blobs):
    rows, labels = blobs
    both = np.stack([labels == 0, labels > 0, labels == 2], axis=1)
    probs = predict_out_of_sample(
      key, rows, both.astype(np.int32), num_classes=3
    )
    assert ((probs >= 0.5) == both).mean() > 0.95

  def test_is_the_same_each_time(self, key, blobs):
    first, second = (
      predict_out_of_sample(key, *blobs, num_classes=3) for _ in range(2)
    )
    np.testing.assert_array_equal(first, second)
    other = predict_out_of_sample(jax.random.key(1), *blobs, num_classes=3)
    assert (first != other).any()

  def test_as_few_examples_as_folds(self, key, blobs):
    rows, labels = (array[:NUM_FOLDS] for array in blobs)
    assert predict_out_of_sample(key, rows, labels, num_classes=4).shape == (
      *(NUM_FOLDS, 4),
    )

  def test_rejects_fewer(self, key, blobs):
    rows, labels = (array[: NUM_FOLDS - 1] for array in blobs)
    with pytest.raises(ValueError, match=r"at least 5 examples, got 4\."):
      predict_out_of_sample(key, rows, labels, num_classes=3)
