"""Tests of decern_jax/annotation/formats/json_lines.py."""

import json

from hypothesis import given, settings

from decern_jax.annotation import answers
from decern_jax.annotation.answers import Answer
from decern_jax.annotation.formats import json_lines
from tests.annotation.formats import queries
from tests.table import each

GIVEN = (
  Answer("a\n\udcff", ("cat",), "mira", "2026-11-21"),
  Answer("b", ()),
  Answer("c", None),
)


def fill_in(paths, labels):
  """Adds labels to the lines of a query, as a program does."""
  lines = map(json.loads, paths[0].read_text().splitlines())
  answered = [
    {**line, "labels": labels[line["id"]]} if line["id"] in labels else line
    for line in lines
  ]
  return "\n".join(map(json.dumps, answered)).encode()


class TestWrite:
  @settings(max_examples=40, deadline=None, derandomize=True)
  @given(queries.answered())
  def test_a_line_with_labels_is_an_answer(self, case):
    queries.check_round_trip(json_lines.FORMAT, case, fill_in)

  def test_what_is_written_is_not_answered(self, tmp_path):
    (path,) = json_lines.write(queries.query(), tmp_path)
    assert json_lines.read(path.read_bytes()) == ((), ())
    assert json_lines.matches(path.read_bytes(), None)


class TestRead:
  def test_reads_the_log(self):
    content = b"".join(map(answers.to_line, GIVEN))
    assert json_lines.read(content) == (GIVEN, ())

  @each("name", ["-", "?"])
  def test_no_name_is_reserved(self, name):
    given = Answer("a", (name,))
    assert json_lines.read(answers.to_line(given)) == ((given,), ())

  def test_takes_the_mark_of_utf8(self):
    content = b"\xef\xbb\xbf" + answers.to_line(GIVEN[0])
    assert json_lines.read(content).answers == GIVEN[:1]
    assert json_lines.matches(content, None)

  @each(
    "line",
    [b"{", b"[]", b"3", b"null", b'{"id": "a"}', b'{"labels": []}']
    + [b'{"id": "a", "labels": ["cat"], "lables": 1}', b"[" * 10_000],
  )
  def test_a_line_that_is_none_costs_that_line_alone(self, line):
    good = answers.to_line(GIVEN[0])
    found = json_lines.read(good + line + b"\n" + good)
    assert found.answers == (GIVEN[0], GIVEN[0])
    (problem,) = found.problems
    assert problem.startswith("line 2: ")


class TestMatches:
  @each("kept", [0, 1, 2])
  def test_one_whole_line_is_enough(self, kept):
    lines = [b"\xff{"] * 3
    lines[kept] = answers.to_line(GIVEN[0]).strip()
    assert json_lines.matches(b"\n".join(lines), None)

  def test_other_objects_do_not(self):
    assert not json_lines.matches(b'{"a": 1}\n{"id": 3}\n', None)
    assert not json_lines.matches(b"", {"items": []})
    assert not json_lines.matches(b"", ["id", "labels"])
