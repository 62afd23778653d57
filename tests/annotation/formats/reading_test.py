"""Tests of decern_jax/annotation/formats/reading.py."""

import sys

import pytest

from decern_jax.annotation.answer import Answer
from decern_jax.annotation.formats import reading
from tests.table import each


def gather(labels, *, has_reserved=True, **fields):
  gathering = reading.Gathering(has_reserved=has_reserved)
  gathering.add("line 1", labels, **{"id": "a", **fields})
  return gathering.found()


def nested(depth):
  value = []
  for _ in range(depth):
    value = [value]
  return value


class TestGathering:
  def test_keeps_the_order(self):
    gathering = reading.Gathering(has_reserved=True)
    for n in range(3):
      gathering.add(f"line {n}", ["cat"], id=str(n))
      gathering.refuse(f"line {n}", "bad")
    found = gathering.found()
    assert [answer.id for answer in found.answers] == ["0", "1", "2"]
    assert found.problems == ("line 0: bad", "line 1: bad", "line 2: bad")

  @each(
    "labels, expected",
    [
      (["cat", " dog "], ("cat", "dog")),
      ([], ()),
      (None, None),
      (["-"], ()),
      (["?"], None),
      (["?", "?"], None),
    ],
  )
  def test_takes_labels_and_what_stands_for_them(self, labels, expected):
    assert gather(labels) == ((Answer("a", expected),), ())

  def test_no_name_is_reserved_where_a_format_says_so_otherwise(self):
    for labels in (["-"], ["?", "cat"]):
      (found,) = gather(labels, has_reserved=False).answers
      assert found.labels == tuple(labels)

  @each(
    "labels",
    [["-", "cat"], ["cat", "?"], ["-", "?"], "cat", 3, [3], [None], [["cat"]]]
    + [{"cat": 1}, nested(600), nested(100_000)],
  )
  def test_refuses_other_labels(self, labels):
    found = gather(labels)
    assert found.answers == ()
    (problem,) = found.problems
    assert problem.startswith("line 1: ")
    assert len(problem) < 500

  @each("field", [{"id": 3}, {"id": ""}, {"annotator": 3}])
  def test_refuses_other_fields(self, field):
    assert gather(["cat"], **field).answers == ()


class TestParseJson:
  @each("encoding", ["utf-8", "utf-8-sig", "utf-16"])
  def test_reads_what_programs_write(self, encoding):
    assert reading.parse_json('{"ü": [1]}'.encode(encoding)) == {"ü": [1]}

  @each(
    "content",
    [b"", b"{", b"[1,]", b"\xff", b"[" * 100_000, b"9" * 10_000, b"{'a': 1}"],
  )
  def test_refuses_what_is_none(self, content):
    with pytest.raises(ValueError, match="valid JSON"):
      reading.parse_json(content)


class TestField:
  def test_is_none_where_there_is_none(self):
    assert reading.field({"a": 1}, "a") == 1
    for value in ({}, [], None, "a", 3):
      assert reading.field(value, "a") is None


class TestRows:
  def test_absent_and_null_are_empty(self):
    assert reading.rows({"a": [1]}, "a") == [1]
    assert reading.rows({"a": None}, "a") == reading.rows(3, "a") == []

  @each("value", ["text", {}, 0, False])
  def test_refuses_what_is_no_list(self, value):
    with pytest.raises(ValueError, match="list as 'a'"):
      reading.rows({"a": value}, "a")


class TestShow:
  @each(
    "value",
    ["x" * 10_000, [["x" * 10_000] * 100] * 100, 10**4000, {"a": "x" * 999}]
    + [nested(sys.getrecursionlimit() * 2)],
  )
  def test_is_short_whatever_the_value(self, value):
    assert len(reading.show(value)) < 5_000

  def test_is_text_whatever_the_value(self):
    assert reading.show("\udcff\n").isascii()
