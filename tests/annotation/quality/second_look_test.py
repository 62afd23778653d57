"""Tests of decern_jax/annotation/quality/second_look.py."""

import numpy as np
import pytest

from decern_jax.annotation.quality.second_look import check
from tests.table import each

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


def look(probs, ids, labels, *, is_multi_label=False, said_by=None):
  return check(
    probs,
    ids,
    labels,
    class_names=CLASSES,
    said_by=said_by or {},
    is_multi_label=is_multi_label,
  )


class TestOneLabel:
  def test_finds_the_label_that_is_wrong(self):
    probs, ids, labels = one_label()
    # Its class has enough others.
    labels = {**labels, ids[0]: ("bee",)}
    found = look(probs, ids, labels, said_by={ids[0]: ("ann",)})
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
    assert look(probs[:num_images], ids[:num_images], labels) is None

  def test_none_without_probabilities(self):
    assert look(None, (), {}) is None


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
