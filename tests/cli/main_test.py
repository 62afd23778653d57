"""Tests of decern_jax/cli/main.py, in this process."""

import contextlib
import dataclasses
import io
import json
import os
import pathlib
import pty
import shutil
import sys
import termios

from etils import epath
import numpy as np
from PIL import Image
import pytest

from decern_jax.cli import main
from decern_jax.features import embedding
from decern_jax.report import run_report
from decern_jax.runs import driver, experiment, records
from tests import event_file, tiny

NUM_ROUNDS = 3


@pytest.fixture(scope="module")
def make_config(tmp_path_factory):
  """Makes a configuration of a tiny run, with changes by dotted name."""
  return tiny.write_inputs(tmp_path_factory.mktemp("main"))


@pytest.fixture(scope="module")
def first(make_config, tmp_path_factory) -> tuple[pathlib.Path, str, str]:
  """A run that nobody stopped: its folder, and what it wrote on the screen."""
  workdir = tmp_path_factory.mktemp("first") / "run"
  out, err = io.StringIO(), io.StringIO()
  with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
    main.run(make_config(), epath.Path(workdir))
  return workdir, out.getvalue(), err.getvalue()


@pytest.fixture(scope="module")
def seeds(make_config, tmp_path_factory) -> tuple[pathlib.Path, str]:
  """The runs of two seeds: their folder, and what they print."""
  parent, out = tmp_path_factory.mktemp("seeds"), io.StringIO()
  with contextlib.redirect_stdout(out):
    main.run(make_config(seeds=(1, 11)), epath.Path(parent))
  return parent, out.getvalue()


@pytest.fixture
def finished(first, tmp_path) -> pathlib.Path:
  """A copy of its folder."""
  return shutil.copytree(first[0], tmp_path / "run")


@pytest.fixture
def start(make_config, tmp_path):
  """Runs `main.run` in `tmp_path / "run"`, with changes by dotted name."""

  def run(workdir=tmp_path / "run", **changes):
    main.run(make_config(**changes), epath.Path(workdir))
    return workdir

  return run


@pytest.fixture
def forbid_work(monkeypatch):
  """Makes the test fail if data are opened."""
  monkeypatch.setattr(
    experiment, "load", lambda config: pytest.fail("the data were opened")
  )


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

  def test_leaves_records_settings_and_pictures(self, first):
    workdir, *_ = first
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

  def test_tells_of_every_round_and_the_result(self, first):
    workdir, output, errors = first
    # No bar of the progress, as there is no terminal.
    assert errors == ""
    accuracy = [
      f"{100 * record['test']['accuracy']:.1f} %"
      for record in records.read(workdir)
    ]
    begin, *rounds, last = output.splitlines()
    assert begin == f"Seed 1, in {workdir}:"
    for i, line in enumerate(rounds):
      assert line.startswith(f"round {i}: {4 + 4 * i} labeled, test accuracy ")
      assert accuracy[i] in line
    assert len(rounds) == NUM_ROUNDS
    assert last == f"Final test accuracy {accuracy[-1]}. Results in {workdir}."

  def test_shows_a_bar_below_the_rounds_in_a_terminal(self, start, monkeypatch):
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    with open(theirs, "w") as terminal:
      monkeypatch.setattr(sys, "stdout", terminal)
      monkeypatch.setattr(sys, "stderr", terminal)
      start()
      monkeypatch.undo()
      terminal.flush()
      text = os.read(ours, 2**16).decode().replace("\r\n", "\n")
    os.close(ours)
    screen = [line.rpartition("\r")[2].rstrip() for line in text.split("\n")]
    assert len([line for line in screen if line.startswith("round ")]) == 3
    (bar,) = (line for line in screen if line.startswith("rounds:"))
    assert bar.startswith("rounds: 100%|")
    assert "3/3" in bar

  def test_finished_run_is_shown_again_without_its_data(
    self, start, first, finished, capsys, forbid_work
  ):
    before = {path: path.read_bytes() for path in finished.glob("*.*")}
    start()
    begin, *rounds = capsys.readouterr().out.splitlines()
    assert begin == f"{finished} holds a finished run:"
    expected = first[1].replace(str(first[0]), str(finished)).splitlines()
    assert rounds == expected[1:]
    assert {path: path.read_bytes() for path in finished.glob("*.*")} == before

  def test_goes_on_where_it_was_interrupted(
    self, start, first, capsys, monkeypatch
  ):
    expected = tiny.without_costs(records.read(first[0]))
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
    assert len(tiny.without_costs(records.read("again"))) == 1
    check_events("again")
    start("again")
    assert tiny.without_costs(records.read("again")) == expected
    check_events("again")
    lines = capsys.readouterr().out.splitlines()
    assert [line[:8] for line in lines[-4:-1]] == [
      f"round {i}:" for i in range(NUM_ROUNDS)
    ]
    check_picture("again/selected.png")

  def test_draws_what_a_kill_left_undrawn(self, start, finished):
    """All rounds are done, but their pictures are not."""
    workdir = finished
    before = (workdir / "records.jsonl").read_bytes()
    for name in ("learning_curve.png", "selected.png"):
      (workdir / name).unlink()
    start()
    for name in ("learning_curve.png", "selected.png"):
      check_picture(workdir / name)
    assert (workdir / "records.jsonl").read_bytes() == before

  def test_one_round_has_a_curve_and_no_contact_sheet(self, start):
    # As many labels as in the other runs, so that no program is new.
    workdir = start(num_rounds=1, selection__initial_budget=12)
    assert (workdir / "learning_curve.png").exists()
    assert not (workdir / "selected.png").exists()

  def test_several_seeds_have_folders_and_a_summary(self, seeds):
    workdir, output = seeds
    names = sorted(path.name for path in workdir.iterdir())
    assert names == ["learning_curve.png", "seed1", "seed11"]
    check_picture(workdir / "learning_curve.png")
    found = [records.read(workdir / name) for name in names[1:]]
    assert found[0][0]["selected"] != found[1][0]["selected"]
    accuracy = [[100 * r["test"]["accuracy"] for r in run] for run in found]
    mean = np.mean(accuracy, axis=0)
    spread = np.std(accuracy, axis=0, ddof=1)
    assert output.splitlines()[-5:] == [
      "Test accuracy (%) over 2 seeds:",
      f"  4 labeled: {mean[0]:.1f} ± {spread[0]:.1f}",
      f"  8 labeled: {mean[1]:.1f} ± {spread[1]:.1f}",
      f"  12 labeled: {mean[2]:.1f} ± {spread[2]:.1f}",
      f"Final test accuracy {mean[-1]:.1f} %. Results in {workdir}.",
    ]

  def test_a_seed_gives_the_same_run_by_itself_and_among_others(
    self, first, seeds
  ):
    together = tiny.without_costs(records.read(seeds[0] / "seed1"))
    assert together == tiny.without_costs(records.read(first[0]))

  def test_more_seeds_keep_those_that_are_done(
    self, start, seeds, tmp_path, monkeypatch
  ):
    workdir = shutil.copytree(seeds[0], tmp_path / "run")
    before = (workdir / "seed11" / "records.jsonl").read_bytes()
    loads = []
    load = experiment.load
    monkeypatch.setattr(
      experiment, "load", lambda config: loads.append(1) or load(config)
    )
    start(seeds=(11, 1, 5))
    assert len(loads) == 1
    assert (workdir / "seed11" / "records.jsonl").read_bytes() == before
    assert len(records.read(workdir / "seed5")) == NUM_ROUNDS

  def test_system_may_change_between_starts(self, start, finished, forbid_work):
    start(**{"system.num_devices": 1, "system.num_workers": 1})

  def test_refuses_the_folder_of_other_settings(
    self, start, finished, forbid_work
  ):
    before = (finished / "records.jsonl").read_bytes()
    message = r"train\.num_epochs: 20 there, 21 now"
    with pytest.raises(ValueError, match=message) as refusal:
      start(**{"train.num_epochs": 21})
    assert str(refusal.value).count("there") == 1
    assert (finished / "records.jsonl").read_bytes() == before

  def test_refuses_the_folder_of_other_data(
    self, start, make_config, tmp_path, monkeypatch
  ):
    """At one place, under one name, but with an image less."""

    def embed(apply, variables, batches, **unused):
      for batch in batches:
        yield batch.mean(axis=(1, 2), dtype=np.float32)

    monkeypatch.setattr(embedding, "embed", embed)
    source = make_config().dataset.path
    data = shutil.copytree(source, tmp_path / "data")
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
