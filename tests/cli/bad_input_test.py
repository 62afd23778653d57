"""Tests of bad input: what is refused, and what is put up with."""

import os
import shutil

import cv2
from etils import epath
import numpy as np
import pytest

from decern_jax.cli import main
from decern_jax.features import embedding
from decern_jax.runs import experiment
from tests import tiny
from tests.table import each


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """Data and weights that all tests of this file share."""
  folder = tmp_path_factory.mktemp("bad_input")
  tiny.write_image_folder(folder / "data")
  tiny.write_weights(folder / "weights.safetensors")
  return folder


@pytest.fixture
def data(folder, tmp_path):
  """A copy of the data, to be spoiled."""
  return shutil.copytree(folder / "data", tmp_path / "data")


@pytest.fixture
def make_config(folder, tmp_path):
  """Makes a configuration of a tiny run, with changes by dotted name."""

  def make(data=folder / "data", **changes):
    weights = folder / "weights.safetensors"
    return tiny.make_config(data, weights, tmp_path / "cache", **changes)

  return make


@pytest.fixture
def start(make_config, tmp_path):
  """Runs `main.run` in `tmp_path / "run"`, with changes by dotted name."""

  def run(workdir=tmp_path / "run", **changes):
    main.run(make_config(**changes), epath.Path(workdir))

  return run


def keep_one_class(data):
  for split in ("train", "test"):
    for name in tiny.CLASSES[1:]:
      shutil.rmtree(data / split / name)


def empty(data):
  for path in data.rglob("*.png"):
    path.rename(path.with_suffix(".txt"))


def spoil(data):
  for path in data.glob("train/*/00.png"):
    path.write_bytes(path.read_bytes()[:60])


BAD_DATA = {
  "no such folder": (shutil.rmtree, r"folder, .*/data does not exist"),
  "no images": (empty, r"Expected images as .*/train/<class>/<name>.*got none"),
  "no train": (
    lambda data: shutil.rmtree(data / "train"),
    r"folders `train` and `test` in .*, got \[test\]",
  ),
  "no test": (
    lambda data: shutil.rmtree(data / "test"),
    r"folders `train` and `test` in .*, got \[train\]",
  ),
  "class that train lacks": (
    lambda data: (data / "test" / "ant").rename(data / "test" / "eel"),
    r"every class in .*/test to be in `train` too, got \[eel\]",
  ),
  "one class": (keep_one_class, r"at least 2 classes in .*got \['ant'\]"),
  "many unreadable": (spoil, r"at most 5% unreadable.*4 of 56 \(7\.1%\)"),
}
BAD_SETTINGS = {
  "budget above pool": ({"selection.budget": 15}, r"<= 32 .*= 34\."),
  "unknown strategy": (
    {"selection.strategy": "oracle"},
    r"'oracle'; expected one of \[.*'decern'.*'random'",
  ),
  "unknown model": (
    {"model.name": "vgg"},
    r"'vgg'; expected one of \[.*'small_cnn'",
  ),
  "unknown dataset": (
    {"dataset.name": "mnist"},
    r"'mnist'; expected one of \[.*'image_folder'",
  ),
  "no path": ({"dataset.path": ""}, r"`path`, the folder of images, got None"),
  "path not wanted": ({"dataset.name": "rendered"}, r"Expected no `path`"),
  "weights of another model": (
    {"model.name": "mobilenet_v2"},
    r"got those of another model",
  ),
  "no weights": ({"model.weights": "no.safetensors"}, r"no\.safetensors"),
  "no such devices": ({"system.num_devices": 99}, r"8 devices, got 99"),
  "equal seeds": ({"seeds": (3, 3)}, r"distinct `seeds`.*\(3, 3\)"),
  "no round": ({"num_rounds": 0}, r"got 0"),
}


class TestBadInput:
  """Each is refused before an image is embedded, and leaves the folder free."""

  @pytest.fixture(autouse=True)
  def no_training(self, monkeypatch):
    monkeypatch.setattr(
      embedding, "embed", lambda *args, **options: pytest.fail("work began")
    )

  @pytest.fixture
  def no_data(self, monkeypatch):
    monkeypatch.setattr(
      experiment, "load", lambda config: pytest.fail("data were opened")
    )

  @each("case", BAD_DATA)
  def test_refuses_data(self, make_config, folder, tmp_path, case):
    spoil_data, message = BAD_DATA[case]
    data = shutil.copytree(folder / "data", tmp_path / "data")
    spoil_data(data)
    with pytest.raises(ValueError, match=message):
      main.run(make_config(data), epath.Path(tmp_path / "run"))
    assert not (tmp_path / "run").exists()

  @each("case", BAD_SETTINGS)
  def test_refuses_settings(self, start, tmp_path, case):
    changes, message = BAD_SETTINGS[case]
    with pytest.raises(ValueError, match=message):
      start(**changes)
    assert not list(tmp_path.glob("run/*"))

  def test_refuses_a_workdir_that_cannot_be_written(
    self, start, tmp_path, no_data
  ):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"can be written, got .*/file/run"):
      start(tmp_path / "file" / "run")

  def test_refuses_when_one_of_many_seeds_cannot_be_written(
    self, start, tmp_path, no_data
  ):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "seed2").write_text("")
    with pytest.raises(ValueError, match=r"can be written, got .*/run/seed2"):
      start(seeds=(1, 2))

  def test_refuses_settings_that_are_no_json(self, start, tmp_path, no_data):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"settings in .*/run/config\.json"):
      start()


class TestImages:
  """What a run does with images that are not as they should be."""

  @pytest.fixture(autouse=True)
  def fake_features(self, monkeypatch):
    def embed(apply, variables, batches, **unused):
      for batch in batches:
        yield batch.mean(axis=(1, 2), dtype=np.float32)

    monkeypatch.setattr(embedding, "embed", embed)

  def test_skips_the_few_that_cannot_be_read(self, make_config, data, caplog):
    broken = data / "train" / "bee" / "03.png"
    broken.write_bytes(broken.read_bytes()[:100])
    assets = experiment.load(make_config(data))
    assert len(assets.task.ids) == 31
    assert "train/bee/03.png" not in assets.task.ids
    assert "train/bee/03.png" in caplog.text

  def test_takes_gray_and_transparent_and_large_images(self, make_config, data):
    gray = np.full((300, 40), 90, np.uint8)
    cv2.imwrite(os.fspath(data / "train" / "ant" / "gray.jpg"), gray)
    clear = np.full((33, 90, 4), 90, np.uint8)
    cv2.imwrite(os.fspath(data / "train" / "ant" / "clear.webp"), clear)
    small = np.full((2, 3, 3), 90, np.uint8)
    cv2.imwrite(os.fspath(data / "train" / "ant" / "small.png"), small)
    assets = experiment.load(make_config(data))
    assert len(assets.task.ids) == 35
