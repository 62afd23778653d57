"""Tests of decern_jax/annotation/formats/writing.py."""

import json
from xml.etree import ElementTree

import pytest

from decern_jax.annotation.formats import writing
from tests.annotation.formats import queries
from tests.io import fake_store
from tests.table import each


class TestSave:
  def test_makes_the_folder_and_returns_the_files(self, tmp_path):
    paths = writing.save(tmp_path / "a" / "b", {"x": b"1", "y": b"2"})
    assert [path.name for path in paths] == ["x", "y"]
    assert [path.read_bytes() for path in paths] == [b"1", b"2"]

  def test_writes_to_a_store(self):
    with fake_store.installed():
      (path,) = writing.save("gs://bucket/a", {"x": b"1"})
      assert path.read_bytes() == b"1"


class TestAsJson:
  def test_is_ascii_and_keeps_what_is_no_text(self):
    content = writing.as_json({"a": "ü\udcff"})
    assert content.isascii()
    assert json.loads(content) == {"a": "ü\udcff"}


class TestPredicted:
  def test_is_the_likeliest_class(self):
    asked = queries.query()
    shown = writing.predicted(asked, asked.items[0].predictions)
    assert shown == (("cat", 0.75),)

  def test_is_each_likely_class_where_there_may_be_several(self):
    asked = queries.query(is_multi_label=True)
    for pairs, expected in (
      ((("a", 0.9), ("b", 0.5), ("c", 0.49)), (("a", 0.9), ("b", 0.5))),
      ((("a", 0.4),), ()),
      ((), ()),
    ):
      assert writing.predicted(asked, pairs) == expected


class TestCheckClassNames:
  def test_refuses_those_that_mean_something_else(self):
    writing.check_class_names(queries.query())
    asked = queries.query()._replace(class_names=("?", "cat", "-"))
    with pytest.raises(ValueError, match=r"got \['-', '\?'\]"):
      writing.check_class_names(asked)


class TestXmlAttribute:
  @each("text", ["", "<&>'\"", "a\n\t\rb", "ü猫\U0001f408"])
  def test_is_read_back(self, text):
    element = ElementTree.fromstring(f"<a b={writing.xml_attribute(text)}/>")
    assert element.get("b") == text

  @each("text", ["\0", "\x0b", "\ufffe", "\ud800"])
  def test_refuses_what_xml_cannot_hold(self, text):
    with pytest.raises(ValueError, match="XML"):
      writing.xml_attribute(text)
