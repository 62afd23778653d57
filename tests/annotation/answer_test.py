"""Tests of decern_jax/annotation/answer.py."""

import json

import numpy as np
import pytest

from decern_jax.annotation import answer
from decern_jax.annotation.answer import Answer
from tests.table import each

GIVEN = Answer("a b/ü\n\"'.jpg", ("cat", "dög"), "mira", "2026-11-21", "x.csv")

ANSWERS = (
  GIVEN,
  Answer("a", ()),
  Answer("a", None),
  Answer("\udcff\udc80.jpg", ("猫",)),
  Answer(" ", ("cat",)),
  Answer("line\r\nbreak\u2028", ("a,b;c",), "\udcfe"),
)


class TestToLine:
  @each("given", ANSWERS)
  def test_is_one_line_of_ascii(self, given):
    line = answer.to_line(given)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert line.isascii()

  @each("given", ANSWERS)
  def test_is_read_back(self, given):
    assert answer.parse_lines(answer.to_line(given)) == ((given,), ())


class TestFromJson:
  def test_what_is_left_out_is_empty(self):
    found = answer.from_json({"id": "a", "labels": ["cat"]})
    assert found == Answer("a", ("cat",), "", "", "")

  def test_null_is_a_skipped_image_and_an_empty_list_none_of_the_labels(self):
    assert answer.from_json({"id": "a", "labels": None}).labels is None
    assert answer.from_json({"id": "a", "labels": []}).labels == ()

  def test_labels_are_stripped_and_given_once_in_their_order(self):
    found = answer.from_json({"id": "a", "labels": [" b ", "a", "b"]})
    assert found.labels == ("b", "a")

  def test_ids_are_left_as_they_are(self):
    assert answer.from_json({"id": " a ", "labels": []}).id == " a "

  @each(
    "value, shown",
    [
      ([], "object"),
      ("a", "object"),
      (None, "object"),
      ({"labels": ["cat"]}, "id"),
      ({"id": "", "labels": ["cat"]}, "id"),
      ({"id": 3, "labels": ["cat"]}, "id"),
      ({"id": "a", "labels": ["cat"], "annotator": 1}, "annotator"),
      ({"id": "a", "labels": ["cat"], "time": None}, "time"),
      ({"id": "a", "labels": ["cat"], "source": ["x"]}, "source"),
      ({"id": "a", "labels": ["cat"], "label": "cat"}, r"\['label'\]"),
      ({"id": "a"}, "labels"),
      ({"id": "a", "labels": "cat"}, "'cat'"),
      ({"id": "a", "labels": ["cat", 3]}, "3"),
      ({"id": "a", "labels": [["cat"]]}, "cat"),
      ({"id": "a", "labels": [" "]}, "labels"),
      ({"id": "a", "labels": {"cat": 1}}, "cat"),
    ],
  )
  def test_refuses_what_is_no_answer(self, value, shown):
    with pytest.raises(ValueError, match=shown):
      answer.from_json(value)

  def test_refuses_names_of_classes_that_are_no_text(self):
    with pytest.raises(ValueError, match="labels"):
      answer.from_json({"id": "a", "labels": ["\udcff"]})

  def test_shows_little_of_what_is_large(self):
    with pytest.raises(ValueError, match="labels") as caught:
      answer.from_json({"id": "a", "labels": "x" * 10_000})
    assert len(str(caught.value)) < 500


class TestParseLines:
  def test_keeps_the_order(self):
    content = b"".join(map(answer.to_line, ANSWERS))
    assert answer.parse_lines(content) == (ANSWERS, ())

  def test_takes_lines_of_windows_and_empty_ones(self):
    lines = [answer.to_line(given).strip() for given in ANSWERS]
    assert answer.parse_lines(b"\r\n \r\n".join(lines)).answers == ANSWERS

  def test_nothing_holds_nothing(self):
    assert answer.parse_lines(b"") == ((), ())

  @each(
    "line",
    [
      b"{",
      b"\xff\xfe",
      b"[" * 100_000,
      b'{"id": "a", "labels": ' + b"[" * 400 + b"]" * 400 + b"}",
      b"9" * 10_000,
      b'{"id": 1e999, "labels": []}',
      b"NaN",
      b"\0",
    ],
  )
  def test_a_line_that_is_none_costs_that_line_alone(self, line):
    good = answer.to_line(GIVEN)
    found = answer.parse_lines(good + line + b"\n" + good)
    assert found.answers == (GIVEN, GIVEN)
    (problem,) = found.problems
    assert problem.startswith("line 2: ")

  def test_a_line_that_a_kill_cut_off_is_a_problem_at_every_byte(self):
    first, last = answer.to_line(GIVEN), answer.to_line(ANSWERS[1])
    for length in range(1, len(last) - 1):
      found = answer.parse_lines(first + last[:length])
      assert found.answers == (GIVEN,)
      assert len(found.problems) == 1


class TestReadLog:
  def test_one_that_is_not_there_is_empty(self, tmp_path):
    assert answer.read_log(tmp_path / "labels" / "none.jsonl") == ((), ())

  def test_refuses_a_folder(self, tmp_path):
    with pytest.raises(OSError, match=str(tmp_path)):
      answer.read_log(tmp_path)


class TestAppendLog:
  def test_is_read_back_in_order(self, tmp_path):
    answer.append_log(tmp_path / "log", [*ANSWERS[:2]])
    answer.append_log(tmp_path / "log", [*ANSWERS[2:]])
    assert answer.read_log(tmp_path / "log") == (ANSWERS, ())

  def test_writes_nothing_where_there_is_nothing(self, tmp_path):
    answer.append_log(tmp_path / "log", [])
    assert not (tmp_path / "log").exists()

  def test_never_changes_what_is_there(self, tmp_path):
    random = np.random.default_rng(0)
    log, before = tmp_path / "log", b""
    for given in ANSWERS:
      answer.append_log(log, [given])
      content = log.read_bytes()
      assert content.startswith(before)
      # A kill in the middle of writing.
      before = content + answer.to_line(given)[: random.integers(0, 20)]
      log.write_bytes(before)
    assert answer.read_log(log).answers == ANSWERS

  def test_each_line_is_an_object_for_other_programs(self, tmp_path):
    answer.append_log(tmp_path / "log", [GIVEN])
    assert json.loads((tmp_path / "log").read_text()) == {
      "id": GIVEN.id,
      "labels": ["cat", "dög"],
      "annotator": "mira",
      "time": "2026-11-21",
      "source": "x.csv",
    }
