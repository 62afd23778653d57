"""Tests of decern_jax/report/run_report.py."""

import os
import pathlib

import numpy as np
import pytest

from decern_jax.report import run_report
from tests.event_file import path_in, read, read_scalars
from tests.table import each

METRICS = {
  "accuracy": 0.5,
  "balanced_accuracy": 0.25,
  "class_accuracy": [0.5, None],
  "loss": 1.5,
}


def record(round_num: int, *, num_epochs: int = 3, **others) -> dict:
  losses = [10.0 * round_num + epoch for epoch in range(num_epochs)]
  return {
    "round": round_num,
    "num_labeled": 4 + 4 * round_num,
    "train": {"loss": losses[-1], "epoch_losses": losses},
    "test": METRICS,
    "selected": ["a.png"],
    "scores": None,
    "seconds": {"train": 2.0, "select": 0.5},
    **others,
  }


def write(workdir, *found) -> None:
  with run_report.open_writer(workdir) as add:
    for each in found:
      add(each)


def expected(*found) -> list[tuple[str, int, float]]:
  return [
    (tag, step, float(np.float32(value)))
    for each in found
    for tag, step, value in run_report.scalars(each)
  ]


class TestScalars:
  def test_has_every_metric_at_its_round(self):
    found = {
      tag: (step, value)
      for tag, step, value in run_report.scalars(record(2))
      if tag != "train/epoch_loss"
    }
    assert found == {
      "test/accuracy": (2, 0.5),
      "test/balanced_accuracy": (2, 0.25),
      "test/loss": (2, 1.5),
      "train/loss": (2, 22.0),
      "num_labeled": (2, 12),
      "seconds/train": (2, 2.0),
      "seconds/select": (2, 0.5),
    }

  def test_epochs_are_counted_over_all_rounds(self):
    found = [s for i in range(3) for s in run_report.scalars(record(i))]
    losses = [s[1:] for s in found if s.tag == "train/epoch_loss"]
    assert losses == [
      (0, 0.0),
      (1, 1.0),
      (2, 2.0),
      (3, 10.0),
      (4, 11.0),
      (5, 12.0),
      (6, 20.0),
      (7, 21.0),
      (8, 22.0),
    ]

  def test_has_val_where_there_is_one(self):
    found = {s.tag for s in run_report.scalars(record(0, val=METRICS))}
    names = ("accuracy", "balanced_accuracy", "loss")
    assert found > {f"val/{name}" for name in names}
    assert not any(tag.endswith("class_accuracy") for tag in found)


class TestOpenWriter:
  def test_tensorboard_reads_what_was_added(self, tmp_path):
    found = [record(i, val=METRICS) for i in range(3)]
    write(tmp_path, *found)
    assert read_scalars(tmp_path) == expected(*found)

  def test_file_has_a_name_that_tensorboard_finds(self, tmp_path):
    write(tmp_path)
    assert "tfevents" in path_in(tmp_path).name
    assert read_scalars(tmp_path) == []

  def test_a_restart_leaves_one_event_per_tag_and_step(self, tmp_path):
    found = [record(i) for i in range(3)]
    write(tmp_path, *found[:2])
    write(tmp_path, *found)
    keys = [(tag, step) for tag, step, _ in read_scalars(tmp_path)]
    assert len(keys) == len(set(keys)) == len(expected(*found))

  @each("cut", [1, 20, 100])
  def test_what_a_kill_cut_off_is_replaced(self, tmp_path, cut):
    write(tmp_path, record(0), record(1))
    path = path_in(tmp_path)
    path.write_bytes(path.read_bytes()[:-cut])
    write(tmp_path, record(0))
    assert read_scalars(tmp_path) == expected(record(0))

  def test_the_same_records_have_the_same_bytes(self, tmp_path):
    """However often the run was started."""
    found = [record(i) for i in range(3)]
    write(tmp_path / "whole", *found)
    for count in (1, 2, 3):
      write(tmp_path / "killed", *found[:count])
    files = [path_in(tmp_path / name) for name in ("whole", "killed")]
    assert files[0].read_bytes() == files[1].read_bytes()

  def test_time_is_that_of_all_stages_so_far(self, tmp_path):
    write(tmp_path, record(0), record(1))
    times = {e.step: e.wall_time for e in read(tmp_path) if e.step < 2}
    assert times == {0: 2.5, 1: 5.0}

  def test_a_round_is_on_the_disk_when_it_was_added(self, tmp_path):
    with run_report.open_writer(tmp_path) as add:
      add(record(0))
      assert read_scalars(tmp_path) == expected(record(0))
      add(record(1))
      assert read_scalars(tmp_path) == expected(record(0), record(1))

  def test_an_error_closes_the_file(self, tmp_path):
    def open_files() -> list[str]:
      return [
        os.readlink(link)
        for link in pathlib.Path("/proc/self/fd").iterdir()
        if link.is_symlink()
      ]

    def fail() -> None:
      with run_report.open_writer(tmp_path) as add:
        add(record(0))
        assert os.fspath(path_in(tmp_path)) in open_files()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
      fail()
    assert os.fspath(path_in(tmp_path)) not in open_files()
    assert read_scalars(tmp_path) == expected(record(0))

  def test_says_nothing(self, tmp_path, capfd):
    write(tmp_path, record(0))
    assert capfd.readouterr() == ("", "")
