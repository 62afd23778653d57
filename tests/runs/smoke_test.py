"""Tests of the command, as users run it: `python -m decern_jax.main`."""

import functools
import json
import os
import pathlib
import re
import subprocess
import sys

from etils import epath
from PIL import Image
import pytest

from configs import quickstart
from decern_jax.cli import main
from decern_jax.data.sources import rendered
from decern_jax.runs import model_file, records
from tests import event_file, tiny

NUM_ROUNDS = 3
ENVIRONMENT = {
  **os.environ,
  "JAX_PLATFORMS": "cpu",
  "PYTHONPATH": os.fspath(tiny.ROOT),
}


def run(
  folder: pathlib.Path, *flags: str, timeout: int = 300
) -> subprocess.CompletedProcess:
  """Runs the command in a folder, to its end."""
  return subprocess.run(
    [sys.executable, "-m", "decern_jax.main", *flags],
    cwd=folder,
    env=ENVIRONMENT,
    capture_output=True,
    text=True,
    timeout=timeout,
    check=False,
  )


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> pathlib.Path:
  folder = tmp_path_factory.mktemp("smoke")
  tiny.write_inputs(folder, num_val=1)
  return folder


@pytest.fixture(scope="module")
def first(folder) -> subprocess.CompletedProcess:
  """A run on `data`, in its default folder."""
  return run(
    folder,
    f"--config={tiny.ROOT}/configs/image_folder.py",
    "--config.dataset.path=data",
    f"--config.dataset.resize_size={tiny.SIZE}",
    f"--config.dataset.image_size={tiny.SIZE}",
    "--config.model.name=small_cnn",
    "--config.model.weights=weights.safetensors",
    "--config.train.learning_rate=0.03",
    f"--config.num_rounds={NUM_ROUNDS}",
  )


@pytest.fixture
def workdir(folder, first) -> pathlib.Path:
  """The folder of that run."""
  (found,) = folder.glob("runs/image_folder/decern-*/seed1")
  return found


class TestFirstRun:
  def test_ends_well_and_prints_every_round(self, first):
    assert first.returncode == 0, first.stderr
    start, *rounds, last = first.stdout.splitlines()
    pattern = r"Seed 1, in runs/image_folder/decern-[0-9a-f]{8}/seed1:"
    assert re.fullmatch(pattern, start)
    pattern = (
      r"round (\d): (\d+) labeled, test accuracy [\d.]+ %, val [\d.]+ %,"
      r" (\d) selected, [\d.]+ s"
    )
    matches = [re.fullmatch(pattern, line) for line in rounds]
    found = [match and match.groups() for match in matches]
    assert found == [("0", "4", "4"), ("1", "8", "4"), ("2", "12", "0")]
    assert re.fullmatch(r"Final test accuracy [\d.]+ %\. Results in .*", last)

  def test_says_nothing_else(self, first):
    assert first.stderr == ""

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
    model = model_file.load(workdir)
    assert model.class_names == tiny.CLASSES
    assert not model.is_multi_label
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


class TestRefusal:
  """How the command ends; `main_flags_test` has the mistakes, in-process."""

  def test_asks_for_a_configuration(self, tmp_path):
    result = run(tmp_path)
    assert "Expected --config, got none" in result.stderr
    assert result.returncode != 0
    assert "Traceback" not in result.stdout + result.stderr
    assert not list(tmp_path.iterdir())


class TestQuickstart:
  def test_runs_on_a_part_of_what_it_draws(self, tmp_path, monkeypatch):
    """With the weights that ship with the package, which know butterflies."""
    few = functools.partial(
      rendered.load_rendered, train_per_class=4, test_per_class=2
    )
    monkeypatch.setattr(rendered, "load_rendered", few)
    config = quickstart.get_config()
    config.num_rounds = 2
    config.train.num_epochs = 60
    config.system.cache_dir = os.fspath(tmp_path / "cache")
    main.run(config.lock(), epath.Path(tmp_path / "run"))
    found = records.read(tmp_path / "run")
    assert [record["num_labeled"] for record in found] == [36, 72]
    # One in 36 would be by chance.
    assert found[1]["test"]["accuracy"] > 0.2
    assert (tmp_path / "run" / "selected.png").exists()

  @pytest.mark.slow
  def test_runs_on_what_ships_with_the_package(self, tmp_path):
    result = run(
      tmp_path, f"--config={tiny.ROOT}/configs/quickstart.py", timeout=900
    )
    assert result.returncode == 0, result.stderr
    (workdir,) = tmp_path.glob("runs/quickstart/decern-*/seed1")
    found = records.read(workdir)
    assert [record["num_labeled"] for record in found] == [*range(36, 217, 36)]
    accuracy = [record["test"]["accuracy"] for record in found]
    assert accuracy[-1] > 0.2
    assert accuracy[-1] > accuracy[0]
    assert (workdir / "selected.png").exists()
