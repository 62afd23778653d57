"""Tests of the command, as users run it: `python -m decern_jax.main`."""

import json
import os
import pathlib
import pty
import re
import subprocess
import sys
import termios
import threading
import time

from PIL import Image
import pytest

from decern_jax.runs import model_file, records
from tests import event_file, tiny
from tests.table import each

NUM_ROUNDS = 3
ENVIRONMENT = {
  **os.environ,
  "JAX_PLATFORMS": "cpu",
  "PYTHONPATH": os.fspath(tiny.ROOT),
}


def command(*flags: str, config: str = "image_folder") -> list[str]:
  file = tiny.ROOT / "configs" / f"{config}.py"
  return [sys.executable, "-m", "decern_jax.main", f"--config={file}", *flags]


def run(
  folder: pathlib.Path, *flags: str, config: str = "image_folder"
) -> subprocess.CompletedProcess:
  """Runs the command in a folder, to its end."""
  return subprocess.run(
    command(*flags, config=config),
    cwd=folder,
    env=ENVIRONMENT,
    capture_output=True,
    text=True,
    timeout=300,
    check=False,
  )


def on_data(*flags: str) -> list[str]:
  """Returns the flags of a run on `data`, with others of its own."""
  return [
    "--config.dataset.path=data",
    f"--config.dataset.resize_size={tiny.SIZE}",
    f"--config.dataset.image_size={tiny.SIZE}",
    "--config.model.name=small_cnn",
    "--config.model.weights=weights.safetensors",
    "--config.train.learning_rate=0.03",
    f"--config.num_rounds={NUM_ROUNDS}",
    *flags,
  ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> pathlib.Path:
  folder = tmp_path_factory.mktemp("smoke")
  tiny.write_image_folder(folder / "data", num_val=1)
  tiny.write_weights(folder / "weights.safetensors")
  return folder


@pytest.fixture(scope="module")
def first(folder) -> subprocess.CompletedProcess:
  """The first run, in its default folder."""
  return run(folder, *on_data())


@pytest.fixture
def workdir(folder, first) -> pathlib.Path:
  """The folder of the first run."""
  (found,) = folder.glob("runs/image_folder/decern-*/seed1")
  return found


def check_refusal(result: subprocess.CompletedProcess, message: str) -> None:
  output = result.stdout + result.stderr
  assert re.search(message, output), output
  assert result.returncode != 0
  assert "Traceback" not in output


class TestFirstRun:
  def test_ends_well_and_prints_every_round(self, first):
    assert first.returncode == 0, first.stderr
    start, *rounds, last = first.stdout.splitlines()
    assert start.startswith("Seed 1, in runs/image_folder/decern-")
    pattern = (
      r"round (\d): (\d+) labeled, test accuracy [\d.]+ %, val [\d.]+ %,"
      r" (\d) selected, [\d.]+ s"
    )
    found = [re.fullmatch(pattern, line).groups() for line in rounds]
    assert found == [("0", "4", "4"), ("1", "8", "4"), ("2", "12", "0")]
    assert re.fullmatch(r"Final test accuracy [\d.]+ %\. Results in .*", last)

  def test_says_nothing_else(self, first):
    assert first.stderr == ""

  def test_default_folder_is_named_after_what_runs(self, folder, workdir):
    path = workdir.relative_to(folder).as_posix()
    pattern = r"runs/image_folder/decern-[0-9a-f]{8}/seed1"
    assert re.fullmatch(pattern, path)

  def test_leaves_records_settings_and_pictures(self, workdir):
    found = records.read(workdir)
    assert [record["round"] for record in found] == [0, 1, 2]
    settings = json.loads((workdir / "config.json").read_text())
    assert settings["train.learning_rate"] == 0.03
    assert settings["dataset.path"] == "data"
    for name in ("learning_curve.png", "selected.png"):
      with Image.open(workdir / name) as picture:
        picture.load()
        assert min(picture.size) > 100

  def test_leaves_a_model_and_events(self, workdir):
    assert model_file.load(workdir).class_names == tiny.CLASSES
    found = event_file.read_scalars(workdir)
    accuracy = [value for tag, _, value in found if tag == "test/accuracy"]
    assert len(accuracy) == NUM_ROUNDS
    assert any(tag == "val/loss" for tag, _, _ in found)

  def test_learns(self, workdir):
    accuracy = [record["test"]["accuracy"] for record in records.read(workdir)]
    assert accuracy[-1] > 0.5

  def test_selects_images_of_train(self, folder, workdir):
    for record in records.read(workdir)[:-1]:
      for name, score in zip(record["selected"], record["scores"], strict=True):
        assert name.startswith("train/")
        assert (folder / "data" / name).exists()
        assert score > 0


class TestSecondRun:
  def test_shows_the_result_at_once_and_without_data(self, folder, first):
    (folder / "data").rename(folder / "elsewhere")
    start = time.monotonic()
    try:
      second = run(folder, *on_data())
    finally:
      (folder / "elsewhere").rename(folder / "data")
    assert second.returncode == 0, second.stderr
    lines = second.stdout.splitlines()
    assert lines[0].endswith("seed1 holds a finished run:")
    assert lines[1:] == first.stdout.splitlines()[1:]
    # What it takes to import; the run itself needs several times as long.
    assert time.monotonic() - start < 30

  def test_refuses_other_settings_in_the_same_folder(self, folder, workdir):
    before = (workdir / "records.jsonl").read_bytes()
    flags = on_data("--config.train.learning_rate=0.01", f"--workdir={workdir}")
    result = run(folder, *flags)
    check_refusal(result, r"train\.learning_rate: 0\.03 there, 0\.01 now")
    assert len(result.stderr.splitlines()) == 2
    assert (workdir / "records.jsonl").read_bytes() == before

  def test_several_seeds_have_folders_and_a_summary(self, folder, first):
    """With a strategy of its own, and so in a folder of its own."""
    flags = on_data("--config.selection.strategy=random")
    result = run(folder, *flags, "--config.seeds=(1, 11)")
    assert result.returncode == 0, result.stderr
    (parent,) = folder.glob("runs/image_folder/random-*")
    names = sorted(path.name for path in parent.iterdir())
    assert names == ["learning_curve.png", "seed1", "seed11"]
    assert "Test accuracy (%) over 2 seeds:" in result.stdout
    assert re.search(r"12 labeled: [\d.]+ ± [\d.]+$", result.stdout, re.M)

  def test_terminal_shows_a_bar_below_the_rounds(self, folder, first):
    flags = on_data("--config.selection.strategy=margin")
    screen = run_in_terminal(folder, *flags)
    rounds = [line for line in screen if line.startswith("round ")]
    assert len(rounds) == NUM_ROUNDS
    (bar,) = (line for line in screen if line.startswith("rounds:"))
    assert bar.startswith("rounds: 100%|")
    assert "3/3" in bar


def run_in_terminal(folder: pathlib.Path, *flags: str) -> list[str]:
  """Runs the command in a terminal, and returns the lines that remain."""
  ours, theirs = pty.openpty()
  termios.tcsetwinsize(theirs, (24, 80))
  chunks = []

  def read_all() -> None:
    while True:
      try:
        chunk = os.read(ours, 4096)
      except OSError:  # so a terminal ends that nobody writes to any more
        return
      chunks.append(chunk)

  reader = threading.Thread(target=read_all)
  with subprocess.Popen(
    command(*flags),
    cwd=folder,
    env=ENVIRONMENT,
    stdin=theirs,
    stdout=theirs,
    stderr=theirs,
  ) as process:
    reader.start()
    process.wait(300)
    os.close(theirs)
  reader.join()
  os.close(ours)
  assert process.returncode == 0
  text = b"".join(chunks).decode().replace("\r\n", "\n")
  return [line.rpartition("\r")[2].rstrip() for line in text.split("\n")]


class TestRefusal:
  @each(
    "flags, message",
    [
      (["--lr=1"], "Unknown command line flag 'lr'"),
      (["--config.seeds=(3, 3)"], r"distinct `seeds`, .*got \(3, 3\)"),
    ],
  )
  def test_names_the_wrong_flag(self, tmp_path, flags, message):
    check_refusal(run(tmp_path, *flags), message)
    assert not list(tmp_path.iterdir())

  def test_asks_for_a_configuration(self, tmp_path):
    result = subprocess.run(
      [sys.executable, "-m", "decern_jax.main"],
      cwd=tmp_path,
      env=ENVIRONMENT,
      capture_output=True,
      text=True,
      check=False,
    )
    check_refusal(result, "--config must have a value other than None")

  def test_names_a_configuration_that_does_not_exist(self, tmp_path):
    check_refusal(run(tmp_path, config="nowhere"), r"configs/nowhere\.py")

  def test_names_a_field_that_must_be_set(self, tmp_path):
    result = run(tmp_path, config="common")
    check_refusal(result, r"Unknown dataset None; expected one of \[")

  def test_tells_how_to_prepare_cub(self, tmp_path):
    flags = [f"--config.dataset.path={tmp_path}"]
    message = r"python -m decern_jax\.prepare caltech_birds2011"
    check_refusal(run(tmp_path, *flags, config="cub"), message)


class TestQuickstart:
  def test_runs_on_what_ships_with_the_package(self, tmp_path):
    flags = ["--config.num_rounds=2", "--config.train.num_epochs=60"]
    result = run(tmp_path, *flags, config="quickstart")
    assert result.returncode == 0, result.stderr
    (workdir,) = tmp_path.glob("runs/quickstart/decern-*/seed1")
    found = records.read(workdir)
    assert [record["num_labeled"] for record in found] == [36, 72]
    # Far better than one in 36.
    assert found[1]["test"]["accuracy"] > 0.2
    assert found[1]["test"]["accuracy"] > found[0]["test"]["accuracy"]
    assert (workdir / "selected.png").exists()
