"""Tests of decern_jax/annotation/quality/label_errors.py."""

import json
import pathlib

import numpy as np
import pytest

from decern_jax.annotation.quality.label_errors import find_label_errors
from tests.annotation.quality import made
from tests.table import each

GOLDEN = json.loads(
  pathlib.Path(__file__).with_name("golden.json").read_text()
)["label_errors"]


class TestFindLabelErrors:
  @each("golden", GOLDEN)
  def test_finds_what_cleanlab_finds_in_its_order(self, golden):
    probs, labels = made.make_labels(golden["seed"])
    found = find_label_errors(probs, labels)
    assert found.positions.tolist() == golden["found"]
    assert len(found.positions) >= 3

  def test_suggests_the_likeliest_other_class(self):
    probs, labels = made.make_labels(1)
    found = find_label_errors(probs, labels)
    assert (found.suggested == probs[found.positions].argmax(axis=1)).all()
    assert (found.suggested != labels[found.positions]).all()
    assert (np.diff(found.margins) >= 0).all()
    assert (found.margins <= 0).all()

  def test_nothing_where_the_model_agrees(self):
    probs = np.array([[0.9, 0.1], [0.2, 0.8]])
    assert not len(find_label_errors(probs, np.array([0, 1])).positions)

  def test_a_class_without_labels_is_never_suggested_by_its_threshold(self):
    probs = np.array([[0.6, 0.1, 0.3], [0.1, 0.2, 0.7]])
    found = find_label_errors(probs, np.array([0, 1]))
    # The second is likeliest of the third class, that nobody was given.
    assert not len(found.positions)

  def test_without_rows(self):
    found = find_label_errors(np.zeros((0, 3)), np.zeros(0, int))
    assert [len(field) for field in found] == [0, 0, 0]

  @each("shape", [(3,), (2, 2, 1), (4, 2)])
  def test_rejects_shapes_that_do_not_fit(self, shape):
    with pytest.raises(ValueError, match=r"Expected `probs` \[rows, classes\]"):
      find_label_errors(np.zeros(shape), np.zeros(3, int))
