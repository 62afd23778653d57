"""Tests of decern_jax/runs/records.py."""

import os

import pytest

from decern_jax.runs import records
from tests.table import each


def record(round_num: int, **others) -> records.Record:
  return {
    "round": round_num,
    "selected": [f"train/a/{round_num}.jpg"],
    **others,
  }


def write(workdir, *found) -> None:
  for one in found:
    records.append(workdir, one)


def add_bytes(workdir, data: bytes) -> None:
  with records.path_in(workdir).open("ab") as file:
    file.write(data)


class TestPathIn:
  def test_is_a_json_lines_file_of_the_run(self, tmp_path):
    assert os.fspath(records.path_in(tmp_path)) == f"{tmp_path}/records.jsonl"


class TestRead:
  def test_is_empty_without_a_file(self, tmp_path):
    assert records.read(tmp_path) == []

  def test_is_empty_for_an_empty_file(self, tmp_path):
    records.path_in(tmp_path).touch()
    assert records.read(tmp_path) == []

  def test_returns_what_was_appended(self, tmp_path):
    found = [record(0, scores=[0.1, 1e-30]), record(1, scores=None)]
    write(tmp_path, *found)
    assert records.read(tmp_path) == found

  @each("cut", [1, 2, 5, 20])
  def test_ends_before_a_line_cut_off(self, tmp_path, cut):
    write(tmp_path, record(0), record(1))
    path = records.path_in(tmp_path)
    # One byte less leaves the whole record, without the end of its line.
    path.write_bytes(path.read_bytes()[:-cut])
    expected = [record(0), record(1)] if cut == 1 else [record(0)]
    assert records.read(tmp_path) == expected

  @each(
    "line",
    [
      b"\0\0\0\0\n",
      b"\xff\xfe\n",
      b"7\n",
      b"null\n",
      b"[]\n",
      b"{}\n",
      b"\n",
      b'{"round": "1"}\n',
    ],
  )
  def test_ends_before_a_line_that_is_no_record(self, tmp_path, line):
    write(tmp_path, record(0))
    add_bytes(tmp_path, line)
    write(tmp_path, record(1))
    assert records.read(tmp_path) == [record(0)]

  @each("later", [0, 2, -1])
  def test_ends_before_a_round_out_of_order(self, tmp_path, later):
    write(tmp_path, record(0), record(later), record(1))
    assert records.read(tmp_path) == [record(0)]

  def test_is_empty_where_the_first_round_is_missing(self, tmp_path):
    write(tmp_path, record(1), record(2))
    assert records.read(tmp_path) == []


class TestTruncate:
  def test_keeps_the_first_rounds(self, tmp_path):
    write(tmp_path, record(0), record(1), record(2))
    records.truncate(tmp_path, 1)
    assert records.read(tmp_path) == [record(0)]
    assert records.path_in(tmp_path).read_text().count("\n") == 1

  def test_keeps_all_where_there_are_fewer(self, tmp_path):
    write(tmp_path, record(0))
    records.truncate(tmp_path, 5)
    assert records.read(tmp_path) == [record(0)]

  def test_without_a_file_makes_none(self, tmp_path):
    records.truncate(tmp_path, 0)
    assert not list(tmp_path.iterdir())

  def test_leaves_no_scratch_file(self, tmp_path):
    write(tmp_path, record(0))
    records.truncate(tmp_path, 0)
    assert [path.name for path in tmp_path.iterdir()] == ["records.jsonl"]

  @each("rest", [b"", b'{"round": 1, "sel', b"\xc3"])
  def test_prepares_the_file_for_the_next_round(self, tmp_path, rest):
    write(tmp_path, record(0))
    path = records.path_in(tmp_path)
    path.write_bytes(path.read_bytes().rstrip(b"\n") + b"\n"[: len(rest)])
    add_bytes(tmp_path, rest)
    records.truncate(tmp_path, 1)
    write(tmp_path, record(1))
    assert records.read(tmp_path) == [record(0), record(1)]


class TestAppend:
  def test_writes_one_line(self, tmp_path):
    write(tmp_path, record(0), record(1))
    assert records.path_in(tmp_path).read_text() == (
      '{"round": 0, "selected": ["train/a/0.jpg"]}\n'
      '{"round": 1, "selected": ["train/a/1.jpg"]}\n'
    )

  @each(
    "name",
    [
      "train/Äpfel/日本.jpg",
      'a"b\\c',
      "two\nlines\r",
      "nel\x85ls\u2028ps\u2029vt\x0b",
      "\U0001f98b.png",
      os.fsdecode(b"latin-1-\xe9.jpg"),
    ],
  )
  def test_keeps_any_name_of_a_file(self, tmp_path, name):
    found = [record(0, selected=[name]), record(1, selected=[name])]
    write(tmp_path, *found)
    assert records.read(tmp_path) == found
    assert len(records.path_in(tmp_path).read_bytes().splitlines()) == 2

  def test_keeps_floats_exactly(self, tmp_path):
    scores = [0.1 + 0.2, 1 / 3, 5e-324, float(2**53)]
    write(tmp_path, record(0, scores=scores))
    assert records.read(tmp_path)[0]["scores"] == scores

  @each("value", [float("nan"), float("inf")])
  def test_rejects_what_json_cannot_hold(self, tmp_path, value):
    with pytest.raises(ValueError, match=r"JSON compliant"):
      records.append(tmp_path, record(0, scores=[value]))
    assert records.read(tmp_path) == []

  def test_is_on_the_disk_when_it_returns(self, tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(
      os, "fsync", lambda fd: synced.append(os.fstat(fd).st_size)
    )
    write(tmp_path, record(0))
    assert synced == [os.stat(records.path_in(tmp_path)).st_size]


class TestDescribe:
  RECORD = {
    "round": 2,
    "num_labeled": 12,
    "test": {"accuracy": 0.51249},
    "selected": ["a", "b", "c"],
    "seconds": {"train": 1.2, "select": 0.3},
  }

  def test_tells_all_in_a_line(self):
    assert records.describe(self.RECORD) == (
      "round 2: 12 labeled, test accuracy 51.2 %, 3 selected, 1.5 s"
    )

  def test_tells_of_val_where_there_is_one(self):
    record = {**self.RECORD, "val": {"accuracy": 0.25}}
    assert "test accuracy 51.2 %, val 25.0 %, 3 selected" in records.describe(
      record
    )
