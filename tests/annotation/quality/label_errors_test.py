"""Tests of decern_jax/annotation/quality/label_errors.py."""

import json
import pathlib

import jax
import numpy as np
import pytest

from decern_jax.annotation.quality import label_errors
from decern_jax.annotation.quality.label_errors import (
  NUM_FOLDS,
  LabelCheck,
  check_labels,
  find_label_errors,
  predict_out_of_sample,
)
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
    assert found.indices.tolist() == golden["found"]
    assert len(found.indices) >= 3

  def test_suggests_the_likeliest_other_class(self):
    probs, labels = made.make_labels(1)
    found = find_label_errors(probs, labels)
    assert (found.suggested == probs[found.indices].argmax(axis=1)).all()
    assert (found.suggested != labels[found.indices]).all()
    assert (np.diff(found.margins) >= 0).all()
    assert (found.margins <= 0).all()

  def test_nothing_where_the_model_agrees(self):
    probs = np.array([[0.9, 0.1], [0.2, 0.8]])
    assert not len(find_label_errors(probs, np.array([0, 1])).indices)

  def test_a_class_without_labels_is_never_suggested_by_its_threshold(self):
    probs = np.array([[0.6, 0.1, 0.3], [0.1, 0.2, 0.7]])
    found = find_label_errors(probs, np.array([0, 1]))
    # The second is likeliest of the third class, that nobody was given.
    assert not len(found.indices)

  def test_nothing_where_the_label_is_the_likeliest_class(self):
    # The third passes the threshold of the other class only.
    probs = np.array([[0.95, 0.05], [0.95, 0.05], [0.52, 0.48], [0.55, 0.45]])
    found = find_label_errors(probs, np.array([0, 0, 0, 1]))
    assert found.indices.tolist() == []

  def test_a_class_that_is_never_predicted_has_a_threshold_above_zero(self):
    probs = np.array(
      [[1.0, 0, 0], [1.0, 0, 0], [0.6, 0, 0.4], [0, 0, 1.0], [0, 0, 1.0]]
    )
    found = find_label_errors(probs, np.array([0, 1, 2, 2, 2]))
    assert found.indices.tolist() == [1]

  def test_without_rows(self):
    found = find_label_errors(np.zeros((0, 3)), np.zeros(0, int))
    assert [len(field) for field in found] == [0, 0, 0]

  @each("shape", [(3,), (2, 2, 1), (4, 2)])
  def test_rejects_shapes_that_do_not_fit(self, shape):
    with pytest.raises(ValueError, match=r"Expected `probs` \[rows, classes\]"):
      find_label_errors(np.zeros(shape), np.zeros(3, int))


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
    rows = rng.normal(size=(60, 64)).astype(np.float32)
    labels = (np.arange(60) % 2).astype(np.int32)
    probs = predict_out_of_sample(key, rows, labels, num_classes=3)
    assert 0.3 < (probs.argmax(axis=1) == labels).mean() < 0.7

  def test_finds_labels_that_were_changed(self, key, blobs):
    rows, labels = blobs
    wrong = labels.copy()
    wrong[[3, 20, 41]] = (wrong[[3, 20, 41]] + 1) % 3
    probs = predict_out_of_sample(key, rows, wrong, num_classes=3)
    found = find_label_errors(probs, wrong)
    assert set(found.indices) == {3, 20, 41}
    by_index = dict(zip(found.indices, found.suggested, strict=True))
    assert all(by_index[at] == labels[at] for at in (3, 20, 41))

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

  def test_each_fold_has_examples_of_each_class(self, key):
    labels = np.repeat(np.arange(12), NUM_FOLDS)
    folds = label_errors._assign_folds(key, labels)
    for label in range(12):
      assert sorted(folds[labels == label]) == [*range(NUM_FOLDS)]

  def test_as_few_examples_as_folds(self, key, blobs):
    rows, labels = (array[:NUM_FOLDS] for array in blobs)
    assert predict_out_of_sample(key, rows, labels, num_classes=4).shape == (
      *(NUM_FOLDS, 4),
    )

  def test_rejects_fewer(self, key, blobs):
    rows, labels = (array[: NUM_FOLDS - 1] for array in blobs)
    with pytest.raises(ValueError, match=r"at least 5 examples, got 4\."):
      predict_out_of_sample(key, rows, labels, num_classes=3)


CLASSES = ("ant", "bee", "cat")
NUM_OF_CLASS = 6


def one_label():
  """Twelve images of two classes, sure of all but the wrong first one."""
  ids = tuple(f"{i:02d}" for i in range(2 * NUM_OF_CLASS))
  true = np.arange(len(ids)) % 2
  probs = np.full((len(ids), 3), 0.05)
  probs[np.arange(len(ids)), true] = 0.9
  labels = {
    id_: (CLASSES[label],) for id_, label in zip(ids, true, strict=True)
  }
  return probs, ids, labels


def check(probs, ids, labels, *, is_multi_label=False, annotators=None):
  return check_labels(
    probs,
    ids,
    labels,
    class_names=CLASSES,
    annotators=annotators or {},
    is_multi_label=is_multi_label,
  )


def look(*args, **options) -> LabelCheck:
  found = check(*args, **options)
  assert found is not None
  return found


class TestOneLabel:
  def test_finds_the_label_that_is_wrong(self):
    probs, ids, labels = one_label()
    # Its class has enough others.
    labels = {**labels, ids[0]: ("bee",)}
    found = look(probs, ids, labels, annotators={ids[0]: ("ann",)})
    (suspect,) = found.suspects
    assert (suspect.id, suspect.given, suspect.suggested) == (
      *(ids[0], "bee", "ant"),
    )
    assert suspect.p_given == pytest.approx(0.05 / 0.95, abs=1e-4)
    assert suspect.annotators == ("ann",)
    assert found.num_checked == 12
    assert found.accuracy == 11 / 12

  def test_nothing_where_nothing_is_wrong(self):
    found = look(*one_label())
    assert (found.suspects, found.accuracy, found.unchecked) == ((), 1.0, ())

  def test_classes_of_few_labels_are_left_out_by_name(self):
    probs, ids, labels = one_label()
    labels = {**labels, ids[0]: ("cat",)}
    found = look(probs, ids, labels)
    assert found.unchecked == ("cat",)
    assert found.num_checked == 11

  @each("num_images", [4, 9])
  def test_none_where_no_two_classes_have_enough(self, num_images):
    probs, ids, labels = one_label()
    assert check(probs[:num_images], ids[:num_images], labels) is None

  def test_none_without_probabilities(self):
    assert check(None, (), {}) is None


class TestSeveralLabels:
  def make(self):
    ids = tuple(f"{i:02d}" for i in range(12))
    given = np.zeros((12, 3), bool)
    given[:6, 0] = given[4:, 1] = True
    probs = np.where(given, 0.9, 0.1)
    labels = {
      id_: tuple(CLASSES[label] for label in np.flatnonzero(row))
      for id_, row in zip(ids, given, strict=True)
    }
    return probs, ids, labels

  def test_finds_a_label_that_is_missing(self):
    probs, ids, labels = self.make()
    labels = {**labels, ids[0]: ()}
    found = look(probs, ids, labels, is_multi_label=True)
    (suspect,) = found.suspects
    assert (suspect.id, suspect.given, suspect.suggested) == (
      *(ids[0], "", "ant"),
    )
    assert (suspect.p_given, suspect.p_suggested) == (0.1, 0.9)

  def test_finds_a_label_too_many(self):
    probs, ids, labels = self.make()
    labels = {**labels, ids[11]: ("ant", "bee")}
    found = look(probs, ids, labels, is_multi_label=True)
    assert [(s.id, s.given, s.suggested) for s in found.suspects] == [
      (ids[11], "ant", "")
    ]

  def test_counts_every_yes_and_no_that_is_checked(self):
    found = look(*self.make(), is_multi_label=True)
    # No image has a cat: too few to check.
    assert found.num_checked == 12 * 1
    assert found.accuracy == 1.0

  def test_the_worst_comes_first(self):
    probs, ids, labels = self.make()
    probs[11, 0], probs[10, 0] = 0.7, 0.99
    labels = {**labels}
    probs[:6, 0] = 0.6
    found = look(probs, ids, labels, is_multi_label=True)
    assert [s.id for s in found.suspects] == [ids[10], ids[11]]

  def test_the_worst_of_all_classes_comes_first(self):
    probs, ids, labels = self.make()
    # Missing labels of the first and, surer, of the second class.
    labels = {**labels, ids[0]: (), ids[11]: ()}
    probs[11, 1] = 0.99
    found = look(probs, ids, labels, is_multi_label=True)
    assert [s.id for s in found.suspects] == [ids[11], ids[0]]
