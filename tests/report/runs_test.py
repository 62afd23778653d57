"""Tests of decern_jax/report/runs.py."""

import os

import pytest

from decern_jax.report import runs
from decern_jax.runs import workdir
from tests.report import made_up
from tests.table import each

CURVES = {"random": {1: (0.3, 0.5), 2: (0.2, 0.4)}, "margin": {1: (0.3, 0.6)}}


@pytest.fixture
def folder(tmp_path):
  return made_up.write_runs(tmp_path / "runs", CURVES)


class TestFind:
  def names(self, *folders) -> list[str]:
    return [f"{run.parent.name}/{run.name}" for run in runs.find(folders)]

  def test_finds_runs_at_any_depth(self, folder):
    expected = ["margin/seed1", "random/seed1", "random/seed2"]
    assert self.names(folder) == self.names(folder.parent) == expected

  def test_a_run_is_a_folder_too(self, folder):
    assert self.names(folder / "random/seed2") == ["random/seed2"]

  def test_counts_a_run_once(self, folder, monkeypatch):
    monkeypatch.chdir(folder)
    found = self.names("random/seed2", "random", folder, folder / "margin/..")
    assert sorted(found) == ["margin/seed1", "random/seed1", "random/seed2"]

  def test_passes_checkpoints_by(self, folder):
    copy = folder / "random/seed1/checkpoints/3"
    copy.mkdir(parents=True)
    (copy / workdir.CONFIG_FILE).write_text("{}")
    assert len(self.names(folder)) == 3

  @each("name", ["missing", "empty", "file"])
  def test_rejects_a_folder_without_runs(self, tmp_path, name):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=f"config.json, got .*{name}"):
      runs.find([tmp_path / name])


class TestRead:
  def test_returns_what_the_folder_holds(self, folder):
    run = runs.read(runs.find([folder / "margin"])[0])
    assert run.settings["selection.strategy"] == "margin"
    assert run.data["class_names"] == list(made_up.CLASSES)
    assert run.records == made_up.make_records((0.3, 0.6))
    assert run.num_labeled == [10, 20]
    assert run.is_finished

  @each("done", [0, 1])
  def test_a_run_may_be_under_way(self, tmp_path, done):
    found = made_up.make_records((0.3, 0.6))[:done]
    folder = made_up.write_run(
      tmp_path / "seed1", "margin", 1, found, num_rounds=2
    )
    if not done:
      (folder / workdir.DATA_FILE).unlink()
    run = runs.read(runs.find([folder])[0])
    assert not run.is_finished
    assert run.progress == f"{os.fspath(folder)} ({done} of 2 rounds)"

  @each("text", ["{", "[]", "7"])
  @each("file", [workdir.CONFIG_FILE, workdir.DATA_FILE])
  def test_rejects_a_file_that_is_no_mapping(self, folder, text, file):
    path = folder / "random/seed1" / file
    path.write_text(text)
    with pytest.raises(ValueError, match=f"random/seed1/{file}, got "):
      runs.read(runs.find([path.parent])[0])

  @each("name", ["seed", "num_rounds"])
  def test_rejects_settings_of_something_else(self, folder, name):
    path = folder / "random/seed1" / workdir.CONFIG_FILE
    path.write_text(path.read_text().replace(f'"{name}"', '"other"'))
    with pytest.raises(ValueError, match=f"`{name}` in .*random/seed1"):
      runs.read(runs.find([path.parent])[0])
