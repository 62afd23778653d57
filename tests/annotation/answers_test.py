"""Tests of decern_jax/annotation/answers.py."""

import json

from hypothesis import example, given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from decern_jax.annotation import answers
from decern_jax.annotation.answers import RoundLabels
from decern_jax.annotation.state import Answer
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


TEXT = st.text(st.characters())
CLASS_NAMES = st.text(st.characters(exclude_categories=["Cs"])).map(str.strip)
ANY_ANSWERS = st.builds(
  Answer,
  st.text(st.characters(), min_size=1),
  st.none() | st.lists(CLASS_NAMES.filter(bool), unique=True).map(tuple),
  TEXT,
  TEXT,
  TEXT,
)


class TestToLine:
  @settings(max_examples=60, deadline=None, derandomize=True)
  @given(ANY_ANSWERS)
  @example(ANSWERS[0])
  @example(ANSWERS[1])
  @example(ANSWERS[2])
  @example(ANSWERS[3])
  @example(ANSWERS[4])
  @example(ANSWERS[5])
  def test_is_one_line_of_ascii_that_is_read_back(self, answer):
    line = answers.to_line(answer)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert line.isascii()
    assert answers.parse_lines(line) == ((answer,), ())


class TestFromJson:
  def test_what_is_left_out_is_empty(self):
    found = answers.from_json({"id": "a", "labels": ["cat"]})
    assert found == Answer("a", ("cat",), "", "", "")

  def test_null_is_a_skipped_image_and_an_empty_list_none_of_the_labels(self):
    assert answers.from_json({"id": "a", "labels": None}).labels is None
    assert answers.from_json({"id": "a", "labels": []}).labels == ()

  def test_labels_are_stripped_and_given_once_in_their_order(self):
    found = answers.from_json({"id": "a", "labels": [" b ", "a", "b"]})
    assert found.labels == ("b", "a")

  def test_ids_are_left_as_they_are(self):
    assert answers.from_json({"id": " a ", "labels": []}).id == " a "

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
      answers.from_json(value)

  def test_refuses_names_of_classes_that_are_no_text(self):
    with pytest.raises(ValueError, match="labels"):
      answers.from_json({"id": "a", "labels": ["\udcff"]})

  def test_shows_little_of_what_is_large(self):
    with pytest.raises(ValueError, match="labels") as caught:
      answers.from_json({"id": "a", "labels": "x" * 10_000})
    assert len(str(caught.value)) < 500


class TestParseLines:
  def test_keeps_the_order(self):
    content = b"".join(map(answers.to_line, ANSWERS))
    assert answers.parse_lines(content) == (ANSWERS, ())

  def test_takes_lines_of_windows_and_empty_ones(self):
    lines = [answers.to_line(given).strip() for given in ANSWERS]
    assert answers.parse_lines(b"\r\n \r\n".join(lines)).answers == ANSWERS

  def test_nothing_holds_nothing(self):
    assert answers.parse_lines(b"") == ((), ())

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
    good = answers.to_line(GIVEN)
    found = answers.parse_lines(good + line + b"\n" + good)
    assert found.answers == (GIVEN, GIVEN)
    (problem,) = found.problems
    assert problem.startswith("line 2: ")

  def test_a_line_that_a_kill_cut_off_is_a_problem_at_every_byte(self):
    first, last = answers.to_line(GIVEN), answers.to_line(ANSWERS[1])
    for length in range(1, len(last) - 1):
      found = answers.parse_lines(first + last[:length])
      assert found.answers == (GIVEN,)
      assert len(found.problems) == 1


class TestReadLog:
  def test_one_that_is_not_there_is_empty(self, tmp_path):
    assert answers.read_log(tmp_path / "labels" / "none.jsonl") == ((), ())

  def test_refuses_a_folder(self, tmp_path):
    with pytest.raises(OSError, match=str(tmp_path)):
      answers.read_log(tmp_path)


class TestAppendLog:
  def test_is_read_back_in_order(self, tmp_path):
    answers.append_log(tmp_path / "log", [*ANSWERS[:2]])
    answers.append_log(tmp_path / "log", [*ANSWERS[2:]])
    assert answers.read_log(tmp_path / "log") == (ANSWERS, ())

  def test_writes_nothing_where_there_is_nothing(self, tmp_path):
    answers.append_log(tmp_path / "log", [])
    assert not (tmp_path / "log").exists()

  def test_never_changes_what_is_there(self, tmp_path):
    random = np.random.default_rng(0)
    log, before = tmp_path / "log", b""
    for answer in ANSWERS:
      answers.append_log(log, [answer])
      content = log.read_bytes()
      assert content.startswith(before)
      # A kill in the middle of writing.
      before = content + answers.to_line(answer)[: random.integers(0, 20)]
      log.write_bytes(before)
    assert answers.read_log(log).answers == ANSWERS

  def test_each_line_is_an_object_for_other_programs(self, tmp_path):
    answers.append_log(tmp_path / "log", [GIVEN])
    assert json.loads((tmp_path / "log").read_text()) == {
      "id": GIVEN.id,
      "labels": ["cat", "dög"],
      "annotator": "mira",
      "time": "2026-11-21",
      "source": "x.csv",
    }


LABELS = {"b.png": ("pear",), "a\udce4.png": ("fig", "apple"), "c.png": ()}


class TestFreezeRound:
  def test_is_what_it_was_at_first(self, tmp_path):
    first = RoundLabels(("pear", "fig", "apple"), LABELS)
    assert answers.read_round(tmp_path, 3) is None
    assert answers.freeze_round(tmp_path, 3, first) == first
    assert answers.freeze_round(tmp_path, 3, RoundLabels((), {})) == first
    assert answers.read_round(tmp_path, 3) == first
    assert answers.read_round(tmp_path, 4) is None

  @each("content", ["", "[]", '{"labels": 3}', "{"])
  def test_refuses_what_it_did_not_write(self, tmp_path, content):
    answers.freeze_round(tmp_path, 0, RoundLabels((), {}))
    (file,) = (tmp_path / "labels").iterdir()
    file.write_text(content)
    with pytest.raises(ValueError, match="Expected labels in .*0000"):
      answers.read_round(tmp_path, 0)
