"""Tests of decern_jax/cli/main.py, in this process."""

import dataclasses
import json
import os
import pathlib
import shutil

from etils import epath
import numpy as np
from PIL import Image
import pytest

from decern_jax.cli import main
from decern_jax.report import run_report
from decern_jax.runs import driver, experiment, records
from tests import event_file, tiny

NUM_ROUNDS = 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """Data, weights and a cache that all tests of this file share."""
  folder = tmp_path_factory.mktemp("main")
  tiny.write_image_folder(folder / "data")
  tiny.write_weights(folder / "weights.safetensors")
  return folder


@pytest.fixture
def make_config(folder):
  """Makes a configuration of a tiny run, with changes by dotted name."""

  def make(data=folder / "data", **changes):
    weights = folder / "weights.safetensors"
    return tiny.make_config(data, weights, folder / "cache", **changes)

  return make


@pytest.fixture
def start(make_config, tmp_path):
  """Runs `main.run` in `tmp_path / "run"`, with changes by dotted name."""

  def run(workdir=tmp_path / "run", **changes):
    main.run(make_config(**changes), epath.Path(workdir))
    return workdir

  return run


@pytest.fixture
def forbid_work(monkeypatch):
  """Makes the test fail if data are opened from now on."""

  def forbid():
    monkeypatch.setattr(
      experiment, "load", lambda config: pytest.fail("the data were opened")
    )

  return forbid


def without_seconds(workdir) -> list[dict]:
  found = records.read(workdir)
  return [{k: v for k, v in r.items() if k not in tiny.COSTS} for r in found]


def check_picture(path) -> None:
  with Image.open(path) as picture:
    picture.load()
    assert min(picture.size) > 50


def check_events(workdir) -> None:
  """Checks that the events of a run are those of its records, each once."""
  found = event_file.read_scalars(pathlib.Path(workdir))
  assert found == [
    (tag, step, float(np.float32(value)))
    for record in records.read(workdir)
    for tag, step, value in run_report.scalars(record)
  ]
  assert len({(tag, step) for tag, step, _ in found}) == len(found)


class TestRun:
  @pytest.fixture(autouse=True)
  def stay_in_tmp_path(self, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

  def test_leaves_records_settings_and_pictures(self, start, capsys):
    workdir = start()
    assert sorted(path.name for path in workdir.iterdir()) == [
      "checkpoints",
      "config.json",
      "data.json",
      "learning_curve.png",
      "lock",
      "model.safetensors",
      "records.jsonl",
      "selected.png",
      "tensorboard",
    ]
    assert [r["num_labeled"] for r in records.read(workdir)] == [4, 8, 12]
    for name in ("learning_curve.png", "selected.png"):
      check_picture(workdir / name)
    settings = json.loads((workdir / "config.json").read_text())
    assert settings["num_rounds"] == NUM_ROUNDS
    assert settings["seed"] == 1
    check_events(workdir)

  def test_tells_of_every_round_and_the_result(self, start, capsys):
    workdir = start()
    accuracy = [
      f"{100 * record['test']['accuracy']:.1f} %"
      for record in records.read(workdir)
    ]
    first, *rounds, last = capsys.readouterr().out.splitlines()
    assert first == f"Seed 1, in {workdir}:"
    for i, line in enumerate(rounds):
      assert line.startswith(f"round {i}: {4 + 4 * i} labeled, test accuracy ")
      assert accuracy[i] in line
    assert len(rounds) == NUM_ROUNDS
    assert last == f"Final test accuracy {accuracy[-1]}. Results in {workdir}."

  def test_writes_no_bar_into_a_pipe(self, start, capfd):
    start()
    assert "round/s" not in capfd.readouterr().err

  def test_finished_run_is_shown_again_without_its_data(
    self, start, capsys, forbid_work
  ):
    workdir = start()
    forbid_work()
    before = {path: path.read_bytes() for path in workdir.glob("*.*")}
    first = capsys.readouterr().out.splitlines()
    start()
    second = capsys.readouterr().out.splitlines()
    assert second[0] == f"{workdir} holds a finished run:"
    assert second[1:] == first[1:]
    assert {path: path.read_bytes() for path in workdir.glob("*.*")} == before

  def test_goes_on_where_it_was_interrupted(self, start, capsys, monkeypatch):
    expected = without_seconds(start())
    capsys.readouterr()
    build = experiment.build

    def build_failing(*args, **options):
      built = build(*args, **options)

      def advance(state):
        if int(state.round) == 1:
          raise KeyboardInterrupt
        return built.advance(state)

      return dataclasses.replace(built, advance=advance)

    with monkeypatch.context() as patch:
      patch.setattr(experiment, "build", build_failing)
      with pytest.raises(KeyboardInterrupt):
        start("again")
    assert not os.path.exists("again/learning_curve.png")
    assert len(without_seconds("again")) == 1
    check_events("again")
    start("again")
    assert without_seconds("again") == expected
    check_events("again")
    lines = capsys.readouterr().out.splitlines()
    assert [line[:8] for line in lines[-4:-1]] == [
      f"round {i}:" for i in range(NUM_ROUNDS)
    ]
    check_picture("again/selected.png")

  def test_draws_what_a_kill_left_undrawn(self, start):
    """All rounds are done, but their pictures are not."""
    workdir = start()
    before = (workdir / "records.jsonl").read_bytes()
    for name in ("learning_curve.png", "selected.png"):
      (workdir / name).unlink()
    start()
    for name in ("learning_curve.png", "selected.png"):
      check_picture(workdir / name)
    assert (workdir / "records.jsonl").read_bytes() == before

  def test_one_round_has_a_curve_and_no_contact_sheet(self, start):
    workdir = start(num_rounds=1)
    assert (workdir / "learning_curve.png").exists()
    assert not (workdir / "selected.png").exists()

  def test_several_seeds_have_folders_and_a_summary(self, start, capsys):
    workdir = start(seeds=(1, 11, 111))
    names = sorted(path.name for path in workdir.iterdir())
    assert names == ["learning_curve.png", "seed1", "seed11", "seed111"]
    check_picture(workdir / "learning_curve.png")
    selected = set()
    accuracy = []
    for seed in (1, 11, 111):
      found = records.read(workdir / f"seed{seed}")
      accuracy.append([100 * r["test"]["accuracy"] for r in found])
      selected.add(tuple(found[0]["selected"]))
      check_picture(workdir / f"seed{seed}" / "selected.png")
    assert len(selected) == 3
    mean = np.mean(accuracy, axis=0)
    spread = np.std(accuracy, axis=0, ddof=1)
    assert capsys.readouterr().out.splitlines()[-5:] == [
      "Test accuracy (%) over 3 seeds:",
      f"  4 labeled: {mean[0]:.1f} ± {spread[0]:.1f}",
      f"  8 labeled: {mean[1]:.1f} ± {spread[1]:.1f}",
      f"  12 labeled: {mean[2]:.1f} ± {spread[2]:.1f}",
      f"Final test accuracy {mean[-1]:.1f} %. Results in {workdir}.",
    ]

  def test_more_seeds_keep_those_that_are_done(self, start, monkeypatch):
    workdir = start(seeds=(1, 11))
    before = (workdir / "seed11" / "records.jsonl").read_bytes()
    loads = []
    load = experiment.load
    monkeypatch.setattr(
      experiment, "load", lambda config: loads.append(1) or load(config)
    )
    start(seeds=(11, 1, 5, 6))
    assert len(loads) == 1
    assert (workdir / "seed11" / "records.jsonl").read_bytes() == before
    assert len(records.read(workdir / "seed6")) == NUM_ROUNDS

  def test_a_seed_gives_the_same_run_alone_and_among_others(
    self, start, tmp_path
  ):
    alone = without_seconds(start(tmp_path / "alone", seeds=(11,)))
    start(tmp_path / "together", seeds=(1, 11))
    assert without_seconds(tmp_path / "together" / "seed11") == alone

  def test_system_may_change_between_starts(self, start, forbid_work):
    start()
    forbid_work()
    start(**{"system.num_devices": 1, "system.num_workers": 1})

  def test_refuses_the_folder_of_other_settings(self, start, forbid_work):
    workdir = start()
    forbid_work()
    before = (workdir / "records.jsonl").read_bytes()
    message = r"train\.num_epochs: 20 there, 21 now"
    with pytest.raises(ValueError, match=message) as refusal:
      start(**{"train.num_epochs": 21})
    assert str(refusal.value).count("there") == 1
    assert (workdir / "records.jsonl").read_bytes() == before

  def test_refuses_the_folder_of_other_data(
    self, start, make_config, folder, tmp_path, monkeypatch
  ):
    """At one place, under one name, but with an image less."""
    data = shutil.copytree(folder / "data", tmp_path / "data")
    self.interrupt(start, monkeypatch, data=data)
    (data / "train" / "bee" / "00.png").unlink()
    with pytest.raises(ValueError, match="train: '32 examples .* '31 examples"):
      start(data=data)

  def interrupt(self, start, monkeypatch, **changes) -> None:
    """Starts a run that does not get to its first round."""

    def fail(*unused, **options):
      raise KeyboardInterrupt

    with monkeypatch.context() as patch:
      patch.setattr(driver, "run", fail)
      with pytest.raises(KeyboardInterrupt):
        start(**changes)

  def test_bad_data_leave_the_folder_free(self, start, tmp_path):
    """The same folder takes the command with the mistake put right."""
    with pytest.raises(ValueError, match="nowhere does not exist"):
      start(data=tmp_path / "nowhere")
    assert len(records.read(start())) == NUM_ROUNDS
