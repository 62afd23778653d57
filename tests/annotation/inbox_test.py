"""Tests of decern_jax/annotation/inbox.py."""

import os

import pytest

from decern_jax.annotation import answers, inbox, query
from decern_jax.annotation.query import Item
from decern_jax.annotation.state import Answer
from tests.table import each

POOL = ("a.png", "b.png", "c 'd'.png", "e.png")
ASKED = tuple(Item(id_, f"/images/{id_}") for id_ in POOL[:3])


@pytest.fixture
def put(tmp_path):
  def write(name, content, *, age=0):
    path = tmp_path / query.ANSWERS_FOLDER / name
    path.parent.mkdir(exist_ok=True)
    if not isinstance(content, bytes):
      content = b"".join(map(answers.to_line, content))
    path.write_bytes(content)
    os.utime(path, (1e9 - age, 1e9 - age))
    return path

  return write


@pytest.fixture
def take(tmp_path):
  def run(asked=ASKED, *, is_multi_label=False):
    return inbox.ingest(
      tmp_path, asked, pool=POOL, is_multi_label=is_multi_label
    )

  return run


def labels(intake) -> list[tuple]:
  return [(given.id, given.labels) for given in intake.answers]


class TestTakeIn:
  def test_nothing_is_there_at_first(self, take, tmp_path):
    assert take() == inbox.Intake((), 0, ())
    assert not (tmp_path / inbox.LOG).exists()

  def test_takes_files_of_any_format_the_oldest_first(self, put, take):
    put("new.jsonl", [Answer("a.png", ("y",))])
    put("old.csv", b"id,label\na.png,x\nb.png,x\n", age=9)
    found = take()
    assert labels(found) == [
      ("a.png", ("x",)),
      ("b.png", ("x",)),
      ("a.png", ("y",)),
    ]
    assert [given.source for given in found.answers] == [
      *["old.csv"] * 2,
      "new.jsonl",
    ]
    assert found.num_new == 3

  def test_takes_each_answer_once(self, put, take, tmp_path):
    path = put("me.jsonl", [Answer("a.png", ("x",))])
    take()
    content = path.read_bytes()
    assert take().num_new == 0
    put("me.jsonl", [Answer("a.png", ("x",)), Answer("b.png", None)])
    found = take()
    assert found.num_new == 1
    assert labels(found) == [("a.png", ("x",)), ("b.png", None)]
    assert path.read_bytes().startswith(content)
    assert len(answers.read_log(tmp_path / inbox.LOG).answers) == 2

  def test_keeps_what_a_file_no_longer_has(self, put, take):
    put("me.jsonl", [Answer("a.png", ("x",))])
    take()
    put("me.jsonl", [])
    assert labels(take()) == [("a.png", ("x",))]

  def test_refuses_by_name_what_nobody_asked(self, put, take):
    put("me.jsonl", [Answer("e.png", ("x",)), Answer("f.png", ("x",))])
    found = take()
    assert found.answers == ()
    assert found.problems == (
      "me.jsonl: 1 answers about images that are not in the pool: 'f.png'",
      "me.jsonl: 1 answers about images that nobody asked about: 'e.png'",
    )

  def test_first_answers_may_be_of_any_image(self, put, take):
    put("me.jsonl", [Answer("e.png", ("x",)), Answer("f.png", ("x",))])
    assert labels(take(())) == [("e.png", ("x",))]

  def test_one_label_or_several(self, put, take):
    given = [Answer("a.png", ("x", "y")), Answer("b.png", ())]
    put("me.jsonl", given)
    (problem,) = take().problems
    assert "2 answers that do not have exactly one label: 'a.png', 'b.png'" in (
      problem
    )
    assert labels(take(is_multi_label=True)) == [
      ("a.png", ("x", "y")),
      ("b.png", ()),
    ]

  def test_a_file_that_is_nothing_costs_itself_alone(self, put, take):
    put("a.bin", b"\x00\x01 no answers", age=5)
    put("b.jsonl", [Answer("a.png", ("x",))])
    found = take()
    assert labels(found) == [("a.png", ("x",))]
    assert found.problems[0].startswith("a.bin: ")

  def test_a_line_that_is_cut_off_is_told(self, put, take):
    whole = answers.to_line(Answer("a.png", ("x",)))
    put("me.jsonl", whole + whole[:-9])
    found = take()
    assert labels(found) == [("a.png", ("x",))]
    assert "line 2" in found.problems[0]

  @each("name", [".page.jsonl", "page.lock", "x.tmp"])
  def test_other_files_are_left_alone(self, put, take, name):
    put(name, b"whatever")
    assert take() == inbox.Intake((), 0, ())
