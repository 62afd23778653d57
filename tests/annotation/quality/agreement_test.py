"""Tests of decern_jax/annotation/quality/agreement.py."""

import pytest

from decern_jax.annotation.quality.agreement import (
  Pair,
  krippendorff_alpha,
  measure,
)
from decern_jax.annotation.state import Answer
from tests.table import each


def columns(*rows: str) -> list[list[str]]:
  """The values of each unit; a dot where an observer did not judge it."""
  return [
    [value for value in values if value != "."]
    for values in zip(*rows, strict=True)
  ]


class TestKrippendorffAlpha:
  def test_published_example(self):
    # Krippendorff, "Computing Krippendorff's alpha-reliability", 2011, part C.
    units = columns(
      "123321412...", "1233224125.3", ".3332342251.", "12332441251."
    )
    assert krippendorff_alpha(units) == pytest.approx(0.743, abs=5e-4)

  def test_published_example_of_two_observers_and_two_values(self):
    # The same text, part A.
    units = columns("0100000000", "1110010010")
    assert krippendorff_alpha(units) == pytest.approx(0.095, abs=5e-4)

  def test_perfect_agreement(self):
    assert krippendorff_alpha([["a", "a"], ["b", "b", "b"]]) == 1.0

  def test_below_chance(self):
    assert krippendorff_alpha([["a", "b"], ["b", "a"]]) == -0.5

  @each("units", [[], [["a"]], [["a", "a"], ["a", "a"]]])
  def test_none_where_chance_has_no_share(self, units):
    assert krippendorff_alpha(units) is None


class TestMeasure:
  def test_counts_images_of_several_people(self):
    found = measure(
      [
        Answer("1", ("a",), "ann"),
        Answer("1", ("a",), "bob"),
        Answer("2", ("a",), "ann"),
        Answer("2", ("b",), "bob"),
        Answer("3", ("a",), "ann"),
        Answer("4", ("a",), "bob"),
        Answer("4", None, "cid"),
      ]
    )
    assert (found.num_images, found.num_same) == (2, 1)
    assert found.pairs == (Pair("ann", "bob", 2, 1),)

  def test_the_last_answer_of_a_person_counts(self):
    found = measure(
      [
        Answer("1", ("a",), "ann"),
        Answer("1", ("b",), "bob"),
        Answer("1", ("b",), "ann"),
      ]
    )
    assert (found.num_images, found.num_same) == (1, 1)

  def test_labels_of_an_image_have_no_order(self):
    found = measure(
      [Answer("1", ("a", "b"), "ann"), Answer("1", ("b", "a"), "bob")]
    )
    assert found.num_same == 1

  def test_pairs_of_three_people(self):
    found = measure([Answer("1", ("a",), name) for name in ("x", "y", "z")])
    assert [(p.first, p.second) for p in found.pairs] == [
      *(("x", "y"), ("x", "z"), ("y", "z"))
    ]

  def test_nobody_has_answered(self):
    assert measure([]) == (0, 0, None, ())
