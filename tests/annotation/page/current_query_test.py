"""Tests of decern_jax/annotation/page/current_query.py."""

import concurrent.futures
import datetime
import errno
import json
import re

import pytest

from decern_jax.annotation import answers, query
from decern_jax.annotation.page.current_query import (
  START_FILE,
  CurrentQuery,
  StaleError,
)
from decern_jax.io import storage
from tests.annotation.page import asked
from tests.table import each


@pytest.fixture
def workdir(tmp_path):
  return asked.write_run(tmp_path)


@pytest.fixture
def current(workdir):
  return CurrentQuery(workdir, "Ada")


def version_of(current):
  return current.view()["version"]


def said(current):
  return {int(k): v for k, v in current.view()["answers"].items()}


def ask(workdir, **changes):
  """Asks something else."""
  old = query.read(workdir, query.require_latest_round(workdir))
  query.write(workdir, old._replace(**changes))


class TestView:
  def test_tells_what_is_asked(self, current, workdir):
    found = json.loads(json.dumps(current.view()))
    assert found["round"] == 3
    assert found["strategy"] == "margin"
    assert found["class_names"] == [*asked.CLASSES]
    assert [item["id"] for item in found["items"]] == [*asked.IDS]
    assert found["items"][0]["predictions"] == [
      ["Pear", 0.75],
      ["Zebra", 0.125],
    ]
    assert found["annotator"] == "Ada"
    assert found["answers"] == {}
    assert found["log"] == str(workdir / "answers" / "page.jsonl")

  def test_tells_no_path_of_an_image(self, current):
    assert "path" not in current.view()["items"][0]

  def test_tells_no_number_that_json_has_not(self, current, workdir):
    items = query.read(workdir, 3).items
    scores = (float("nan"), float("inf"), None, 0.25)
    odd = tuple(
      item._replace(score=score, predictions=(("Pear", score or 0.0),))
      for item, score in zip(items, scores, strict=False)
    )
    ask(workdir, items=odd)
    found = json.loads(json.dumps(current.view(), allow_nan=False))["items"]
    assert [item["score"] for item in found] == [None, None, None, 0.25]
    shares = [item["predictions"][0][1] for item in found]
    assert shares == [None, None, 0.0, 0.25]

  def test_quotes_the_folder_in_the_command(self, tmp_path):
    (tmp_path / "a b").mkdir()
    workdir = asked.write_run(tmp_path / "a b")
    command = CurrentQuery(workdir, "").view()["command"]
    assert command.endswith(f"--workdir='{workdir}'")

  def test_takes_in_a_newer_query(self, current, workdir):
    current.save(version_of(current), 0, ["Pear"])
    ask(workdir, round=4)
    assert current.view()["round"] == 4

  def test_goes_on_when_the_query_cannot_be_read(self, current, workdir):
    before = current.view()
    (workdir / "queries" / "0003" / "query.json").write_bytes(b"{")
    assert current.view() == before


class TestIsLatest:
  def test_tells_a_query_from_the_next(self, current, workdir):
    version = version_of(current)
    assert current.is_latest(version)
    ask(workdir, round=4)
    assert not current.is_latest(version)

  def test_tells_a_query_from_one_that_replaced_it(self, current, workdir):
    version = version_of(current)
    ask(workdir, class_names=("Apple",))
    assert not current.is_latest(version)


class TestImagePath:
  def test_is_that_of_the_index(self, current, workdir):
    items = query.read(workdir, 3).items
    version = version_of(current)
    assert current.image_path(version, 5) == items[5].path

  @each("index", [-1, asked.NUM_IMAGES, 10**9])
  def test_refuses_a_position_that_is_none(self, current, index):
    with pytest.raises(ValueError, match=f"index < 6, got {index}"):
      current.image_path(version_of(current), index)

  def test_refuses_another_query(self, current):
    with pytest.raises(StaleError):
      current.image_path("0" * 16, 0)


class TestSave:
  def test_is_in_the_log_when_it_returns(self, current):
    current.save(version_of(current), 3, ["Pear"])
    (line,) = answers.read_log(current.log).answers
    assert line[:3] == ("line\nbreak.png", ("Pear",), "Ada")
    assert line.source == "page.jsonl"
    time = datetime.datetime.fromisoformat(line.time)
    age = datetime.datetime.now(datetime.UTC) - time
    assert time.tzinfo is datetime.UTC
    assert age < datetime.timedelta(minutes=1)

  def test_every_id_is_kept_as_it_is(self, current):
    for index in range(asked.NUM_IMAGES):
      current.save(version_of(current), index, ["Apple"])
    lines = answers.read_log(current.log).answers
    assert [line.id for line in lines] == [*asked.IDS]

  def test_later_answer_holds(self, current, workdir):
    version = version_of(current)
    for labels in (["Pear"], None, ["Zebra"]):
      current.save(version, 0, labels)
    assert (
      said(current) == said(CurrentQuery(workdir, "Ada")) == {0: ("Zebra",)}
    )
    assert len(answers.read_log(current.log).answers) == 3

  def test_same_answer_is_written_once(self, current):
    version = version_of(current)
    for _ in range(2):
      current.save(version, 0, ["Pear"])
      current.save(version, 1, None)
    assert len(answers.read_log(current.log).answers) == 2

  def test_new_class_may_be_named(self, current):
    current.save(version_of(current), 0, [" Grüne Birne "])
    assert said(current) == {0: ("Grüne Birne",)}

  def test_nothing_holds_that_was_not_written(self, current, monkeypatch):
    def fail(path, content):
      raise OSError(errno.ENOSPC, "No space left on device")

    version = version_of(current)
    with monkeypatch.context() as patch:
      patch.setattr(storage, "append", fail)
      with pytest.raises(OSError, match="No space left"):
        current.save(version, 0, ["Pear"])
      assert current.count() == (0, 6)
    current.save(version, 0, ["Pear"])
    assert len(answers.read_log(current.log).answers) == 1

  def test_answer_that_was_taken_back_comes_too_late(self, current):
    version = version_of(current)
    current.save(version, 0, ["Zebra"], page_id="p", serial=2)
    with pytest.raises(StaleError):
      current.save(version, 0, ["Pear"], page_id="p", serial=1)
    current.save(version, 0, ["Zebra"], page_id="p", serial=2)
    current.save(version, 1, ["Pear"], page_id="another", serial=1)
    assert said(current) == {0: ("Zebra",), 1: ("Pear",)}

  def test_many_threads_lose_nothing(self, current):
    version = version_of(current)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
      futures = [
        pool.submit(current.save, version, i % 6, [f"class {i}"])
        for i in range(120)
      ]
    for future in futures:
      future.result()
    found = answers.read_log(current.log)
    assert not found.problems
    assert len(found.answers) == 120

  def test_refuses_an_answer_to_an_older_round(self, current, workdir):
    version = version_of(current)
    ask(workdir, round=4)
    with pytest.raises(StaleError):
      current.save(version, 0, ["Pear"])
    assert not current.log.exists()

  @each(
    "labels, message",
    [
      ("Pear", "a list of names, got 'Pear'"),
      ([], r"the name of one class, got \[\]"),
      (["Pear", "Apple"], "the name of one class, got"),
      ([3], "the name of a class, got 3"),
      ([None], "the name of a class, got None"),
      ([" "], "the name of a class, got ' '"),
      ([["Pear"]], "the name of a class, got"),
      (["a\nb"], "can be printed, got"),
      (["\ud800"], "can be printed, got"),
      (["x" * 201], "at most 200 characters"),
    ],
  )
  def test_refuses_labels_that_are_none(self, current, labels, message):
    with pytest.raises(ValueError, match=message):
      current.save(version_of(current), 0, labels)
    assert not current.log.exists()

  def test_several_labels_or_none_where_they_may_be(self, tmp_path):
    current = CurrentQuery(
      asked.write_run(tmp_path, is_multi_label=True), "Ada"
    )
    version = version_of(current)
    current.save(version, 0, ["Pear", "Apple", "Pear"])
    current.save(version, 1, [])
    assert said(current) == {0: ("Pear", "Apple"), 1: ()}

  def test_known_name_is_taken_as_it_is(self, tmp_path):
    name = "odd\tname" * 40
    current = CurrentQuery(
      asked.write_run(tmp_path, class_names=(name,)), "Ada"
    )
    current.save(version_of(current), 0, [name])
    assert said(current) == {0: (name,)}


class TestResuming:
  def test_answers_of_others_are_theirs(self, current, workdir):
    current.save(version_of(current), 0, ["Pear"])
    assert said(CurrentQuery(workdir, "Bo")) == {}

  @each("length", range(1, 30, 7))
  def test_torn_line_costs_itself_alone(self, tmp_path, length):
    workdir = asked.write_run(tmp_path)
    current = CurrentQuery(workdir, "Ada")
    version = version_of(current)
    current.save(version, 0, ["Pear"])
    whole = current.log.read_bytes()
    current.save(version, 1, ["Zebra"])
    current.log.write_bytes(whole + current.log.read_bytes()[-length - 1 :][:4])
    again = CurrentQuery(workdir, "Ada")
    assert said(again) == {0: ("Pear",)}
    again.save(version, 1, ["Apple"])
    assert said(CurrentQuery(workdir, "Ada")) == {0: ("Pear",), 1: ("Apple",)}

  def test_skipped_image_that_is_asked_again_has_no_answer(
    self, current, workdir
  ):
    current.save(version_of(current), 0, None)
    ask(workdir, round=4)
    assert said(current) == said(CurrentQuery(workdir, "Ada")) == {}
    current.save(version_of(current), 0, None)
    assert said(CurrentQuery(workdir, "Ada")) == {0: None}

  def test_log_that_was_emptied_counts_from_its_start(self, current, workdir):
    for index in range(6):
      current.save(version_of(current), index, ["Pear"])
    ask(workdir, round=4)
    assert said(current) == {}
    current.log.unlink()
    again = CurrentQuery(workdir, "Ada")
    for index in range(6):
      again.save(version_of(again), index, ["Pear"])
    assert len(said(CurrentQuery(workdir, "Ada"))) == 6

  @each(
    "content",
    [
      b"",
      b"[]",
      b'{"start": "a"}',
      b'{"start": Infinity}',
      b"\xff",
      b"[" * 9999,
    ],
  )
  def test_broken_start_loses_no_answer(self, current, workdir, content):
    current.save(version_of(current), 0, ["Pear"])
    start = workdir / "queries" / "0003" / START_FILE
    start.write_bytes(content)
    assert said(CurrentQuery(workdir, "Ada")) == {0: ("Pear",)}

  def test_counts_what_is_answered(self, current):
    assert current.count() == (0, 6)
    current.save(version_of(current), 5, None)
    assert current.count() == (1, 6)

  def test_version_is_of_the_query_alone(self, current, workdir):
    version = version_of(current)
    assert re.fullmatch("[0-9a-f]{16}", version)
    current.save(version, 0, ["Pear"])
    assert version_of(CurrentQuery(workdir, "Bo")) == version
