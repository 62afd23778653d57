"""Tests of decern_jax/annotation/formats/format.py."""

import json
import sys
from xml.etree import ElementTree

from hypothesis import given, settings
from hypothesis import strategies as st
import pytest

from decern_jax.annotation.answers import Answer
from decern_jax.annotation.formats import format as shared
from tests.annotation.formats import queries
from tests.io import fake_store
from tests.table import each


def collect(labels, *, has_reserved=True, **fields):
  collector = shared.AnswerCollector(has_reserved=has_reserved)
  with collector.item("line 1"):
    collector.add(labels, **{"id": "a", **fields})
  return collector.result()


def nested(depth):
  value = []
  for _ in range(depth):
    value = [value]
  return value


class TestAnswerCollector:
  def test_keeps_the_order(self):
    collector = shared.AnswerCollector(has_reserved=True)
    for n in range(3):
      collector.add(["cat"], id=str(n))
      collector.add_problem(f"line {n}", "bad")
    found = collector.result()
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
  def test_accepts_labels_and_reserved_names(self, labels, expected):
    assert collect(labels) == ((Answer("a", expected),), ())

  def test_no_name_is_reserved_where_a_format_has_another_way(self):
    for labels in (["-"], ["?", "cat"]):
      (found,) = collect(labels, has_reserved=False).answers
      assert found.labels == tuple(labels)

  @each(
    "labels",
    [["-", "cat"], ["cat", "?"], ["-", "?"], "cat", 3, [3], [None], [["cat"]]]
    + [{"cat": 1}, nested(600), nested(100_000)],
  )
  def test_refuses_other_labels_in_a_short_sentence(self, labels):
    found = collect(labels)
    assert found.answers == ()
    (problem,) = found.problems
    assert problem.startswith("line 1: ")
    assert len(problem) < 500

  @each("field", [{"id": 3}, {"id": ""}, {"annotator": 3}])
  def test_refuses_other_fields(self, field):
    assert collect(["cat"], **field).answers == ()

  def test_does_not_hide_other_errors(self):
    collector = shared.AnswerCollector(has_reserved=True)
    with pytest.raises(KeyError), collector.item("line 1"):
      raise KeyError


class TestParseJson:
  @each("encoding", ["utf-8", "utf-8-sig", "utf-16"])
  def test_reads_the_encodings_that_programs_write(self, encoding):
    assert shared.parse_json('{"ü": [1]}'.encode(encoding)) == {"ü": [1]}

  @each(
    "content",
    [b"", b"{", b"[1,]", b"\xff", b"[" * 100_000, b"9" * 10_000, b"{'a': 1}"],
  )
  def test_refuses_invalid_json(self, content):
    with pytest.raises(ValueError, match="valid JSON"):
      shared.parse_json(content)


class TestField:
  def test_is_none_where_there_is_no_such_field(self):
    assert shared.field({"a": 1}, "a") == 1
    for value in ({}, [], None, "a", 3):
      assert shared.field(value, "a") is None


class TestRows:
  def test_absent_and_null_are_empty(self):
    assert shared.rows({"a": [1]}, "a") == [1]
    assert shared.rows({"a": None}, "a") == shared.rows(3, "a") == []

  @each("value", ["text", {}, 0, False])
  def test_refuses_what_is_not_a_list(self, value):
    with pytest.raises(ValueError, match="list as 'a'"):
      shared.rows({"a": value}, "a")


class TestShow:
  @each(
    "value",
    ["x" * 10_000, [["x" * 10_000] * 100] * 100, 10**4000, {"a": "x" * 999}]
    + [nested(sys.getrecursionlimit() * 2)],
  )
  def test_is_short_whatever_the_value(self, value):
    assert len(shared.show(value)) < 5_000

  def test_is_text_whatever_the_value(self):
    assert shared.show("\udcff\n").isascii()


class TestSave:
  def test_makes_the_folder_and_returns_the_files(self, tmp_path):
    paths = shared.save(tmp_path / "a" / "b", {"x": b"1", "y": b"2"})
    assert [path.name for path in paths] == ["x", "y"]
    assert [path.read_bytes() for path in paths] == [b"1", b"2"]

  def test_writes_to_a_store(self):
    with fake_store.installed():
      (path,) = shared.save("gs://bucket/a", {"x": b"1"})
      assert path.read_bytes() == b"1"


class TestToJson:
  def test_is_ascii_and_keeps_invalid_unicode(self):
    content = shared.to_json({"a": "ü\udcff"})
    assert content.isascii()
    assert json.loads(content) == {"a": "ü\udcff"}


class TestPredicted:
  def test_is_the_likeliest_class(self):
    asked = queries.query()
    shown = shared.predicted(asked, asked.items[0].predictions)
    assert shown == (("cat", 0.75),)

  def test_is_each_likely_class_where_there_may_be_several(self):
    asked = queries.query(is_multi_label=True)
    for pairs, expected in (
      ((("a", 0.9), ("b", 0.5), ("c", 0.49)), (("a", 0.9), ("b", 0.5))),
      ((("a", 0.4),), ()),
      ((), ()),
    ):
      assert shared.predicted(asked, pairs) == expected


class TestChoices:
  def test_are_the_classes_and_what_a_tool_has_no_other_way_to_say(self):
    assert shared.choices(queries.query()) == [*queries.NAMES, "?"]
    asked = queries.query(is_multi_label=True)
    assert shared.choices(asked) == [*queries.NAMES, "?", "-"]

  def test_refuses_classes_with_reserved_names(self):
    asked = queries.query()._replace(class_names=("?", "cat", "-"))
    with pytest.raises(ValueError, match=r"got \['-', '\?'\]"):
      shared.choices(asked)


class TestXmlAttribute:
  @settings(max_examples=40, deadline=None, derandomize=True)
  @given(st.text(st.characters(exclude_categories=["Cs", "Cc"])))
  def test_is_read_back(self, text):
    if "\ufffe" in text or "\uffff" in text:
      return
    element = ElementTree.fromstring(f"<a b={shared.xml_attribute(text)}/>")
    assert element.get("b") == text

  def test_keeps_line_breaks(self):
    text = "a\n\t\rb"
    element = ElementTree.fromstring(f"<a b={shared.xml_attribute(text)}/>")
    assert element.get("b") == text

  @each("text", ["\0", "\x0b", "\ufffe", "\ud800"])
  def test_refuses_what_xml_cannot_represent(self, text):
    with pytest.raises(ValueError, match="XML"):
      shared.xml_attribute(text)
