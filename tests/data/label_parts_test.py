"""Tests of decern_jax/data/label_parts.py."""

from absl import logging
import numpy as np
import pytest

from decern_jax.data.label_parts import find_parts, random_parts
from decern_jax.data.label_table import LabelTable
from tests.table import each


def make_table(labels, splits=None) -> LabelTable:
  labels = np.array(labels, np.int32)
  rows = range(len(labels))
  return LabelTable(
    paths=tuple(f"image{row}" for row in rows),
    rows=tuple(rows),
    splits=splits,
    class_names=("sea", "dock"),
    labels=labels,
  )


class TestFindParts:
  OPTIONS = {"test_share": 0.5, "split_seed": 1}

  def test_are_those_of_the_table(self):
    splits = ("test", "train", "val")
    table = make_table([[1, 1]] * 3, splits)
    assert tuple(find_parts("f", table, **self.OPTIONS)) == splits

  def test_are_random_where_the_table_has_none(self):
    table = make_table([[1, 1]] * 9)
    expected = random_parts(table.paths, test_share=0.5, seed=1)
    found = find_parts("f", table, **self.OPTIONS)
    np.testing.assert_array_equal(found, expected)

  def test_warns_of_a_label_without_a_training_image(self, monkeypatch):
    messages = []
    monkeypatch.setattr(
      logging, "warning", lambda text, *args: messages.append(text % args)
    )
    table = make_table([[0, 1], [1, 1]], ("train", "test"))
    find_parts("f", table, **self.OPTIONS)
    (message,) = messages
    assert "of f, got none of [sea]" in message

  @each(
    "labels, splits, match",
    [
      ([[1, 1]], ("train",), "'test': 0, 'val': 0} by its column"),
      ([[1, 1]], ("test",), "'train': 0, 'test': 1"),
      ([[1, 1]], None, "by a random test share of 0.5"),
      ([0, 1], ("train", "test"), r"of every label of f, got none of \[dock\]"),
    ],
  )
  def test_rejects_parts_that_teach_or_test_nothing(
    self, labels, splits, match
  ):
    with pytest.raises(ValueError, match=match):
      find_parts("f", make_table(labels, splits), **self.OPTIONS)


class TestRandomParts:
  def test_meets_the_share_on_average(self):
    parts = random_parts(list(map(str, range(10_000))), test_share=0.2, seed=3)
    assert set(parts) == {"train", "test"}
    assert abs(np.mean(parts == "test") - 0.2) < 0.02

  def test_part_of_an_example_does_not_depend_on_the_others(self):
    names = [f"image{i}" for i in range(50)]
    whole = random_parts(names, test_share=0.4, seed=0)
    few = random_parts(names[::-3], test_share=0.4, seed=0)
    np.testing.assert_array_equal(few, whole[::-3])

  def test_larger_share_keeps_the_test_images(self):
    names = [f"image{i}" for i in range(200)]
    small, large = (
      random_parts(names, test_share=share, seed=0) == "test"
      for share in (0.2, 0.5)
    )
    assert (large | ~small).all()

  def test_is_the_same_everywhere(self):
    parts = random_parts(
      [f"image{i}" for i in range(12)], test_share=0.5, seed=1
    )
    assert "".join(part[1] for part in parts) == "rereerrreeer"

  @each("share", [0.0, 1.0, -0.1, float("nan")])
  def test_rejects_share_outside_its_range(self, share):
    with pytest.raises(ValueError, match=f"got {share}"):
      random_parts(["a"], test_share=share, seed=0)
