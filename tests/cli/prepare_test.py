"""Tests of decern_jax/cli/prepare.py."""

import importlib.util
import io
import json
import re
import subprocess
import sys

from absl.testing import flagsaver
import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds

from decern_jax.cli import prepare
from decern_jax.data.sources import DATASETS
from decern_jax.data.sources.tfds import load_tfds
from tests.table import each


class TinyFruit(tfds.core.GeneratorBasedBuilder):
  """Two examples per split, and nothing to download."""

  VERSION = tfds.core.Version("1.0.0")

  def _info(self) -> tfds.core.DatasetInfo:
    features = tfds.features.FeaturesDict(
      {
        "image": tfds.features.Image(),
        "label": tfds.features.ClassLabel(names=["fig", "kiwi"]),
      }
    )
    return tfds.core.DatasetInfo(builder=self, features=features)

  def _split_generators(self, dl_manager):
    del dl_manager
    return {name: self._generate_examples() for name in ("train", "test")}

  def _generate_examples(self):
    image = cv2.imencode(".png", np.zeros((4, 4, 3), np.uint8))[1].tobytes()
    for label in range(2):
      yield label, {"image": io.BytesIO(image), "label": label}


class TestPrepare:
  def test_prepared_data_can_be_loaded(self, tmp_path):
    prepare.prepare("tiny_fruit", data_dir=tmp_path)
    dataset = load_tfds("tiny_fruit", data_dir=tmp_path)
    assert sorted(dataset.train.labels) == [0, 1]
    assert dataset.test is not None
    assert dataset.test.read(0).shape == (4, 4, 3)

  def test_is_done_only_once(self, tmp_path, monkeypatch):
    prepare.prepare("tiny_fruit", data_dir=tmp_path)

    def fail(self, **unused):
      raise AssertionError("prepared again")

    monkeypatch.setattr(TinyFruit, "download_and_prepare", fail, raising=False)
    prepare.prepare("tiny_fruit", data_dir=tmp_path)
    assert len(load_tfds("tiny_fruit", data_dir=tmp_path).train.ids) == 2

  def test_rejects_data_that_are_there_in_another_format(self, tmp_path):
    prepare.prepare("tiny_fruit", data_dir=tmp_path)
    info = tmp_path / "tiny_fruit" / "1.0.0" / "dataset_info.json"
    facts = json.loads(info.read_text()) | {"fileFormat": "tfrecord"}
    info.write_text(json.dumps(facts))
    with pytest.raises(ValueError, match=r"array_record .* got \['tfrecord'\]"):
      prepare.prepare("tiny_fruit", data_dir=tmp_path)

  def test_rejects_unknown_name(self, tmp_path):
    with pytest.raises(ValueError, match="got 'no_such_fruit'"):
      prepare.prepare("no_such_fruit", data_dir=tmp_path)

  def test_rejects_what_is_not_of_tfds(self, tmp_path):
    with pytest.raises(ValueError, match="got 'rendered', which needs no prep"):
      prepare.prepare("rendered", data_dir=tmp_path)

  def test_logs_no_warning_where_nothing_is_prepared(self, tmp_path, caplog):
    prepare.prepare("tiny_fruit", data_dir=tmp_path)
    assert "dataset_info.json" not in caplog.text


class TestCheckCanBePrepared:
  def test_accepts_every_row_of_tfds_and_any_other_name(self):
    rows = [name for name, source in DATASETS.items() if source.tfds_name]
    for name in (*rows, "eurosat/all"):
      prepare.check_can_be_prepared(name)
    assert "caltech101" in rows

  @each(
    "name, advice",
    [
      ("bronze_ding", "https://github.com/zhourixin/bronze-Ding"),
      ("image_folder", "<folder>/<train or test>/<class>/<image>"),
      ("label_file", "your file of paths and labels"),
      ("rendered", "drawn when they are needed"),
    ],
  )
  def test_rejects_other_rows_with_advice(self, name, advice):
    with pytest.raises(ValueError, match=f"got '{name}'.*{advice}"):
      prepare.check_can_be_prepared(name)

  def test_every_row_is_of_tfds_or_has_advice(self):
    for name, source in DATASETS.items():
      assert bool(source.tfds_name) != bool(source.preparation), name


def found_unless(hidden: str):
  """Stands in for `find_spec`, where all packages but one are installed."""
  return lambda name, *args: None if name == hidden else object()


class TestMain:
  @pytest.fixture(autouse=True)
  def parsed(self, tmp_path):
    with flagsaver.as_parsed(data_dir=str(tmp_path)):
      yield

  @pytest.fixture
  def without_tensorflow(self, monkeypatch):
    hidden = found_unless("tensorflow")
    monkeypatch.setattr(importlib.util, "find_spec", hidden)

  @pytest.mark.usefixtures("without_tensorflow")
  def test_without_tensorflow_says_what_to_install_in_one_line(self):
    with pytest.raises(SystemExit) as exit_:
      prepare.main(["prepare", "caltech_birds2011"])
    assert exit_.value.code == (
      "error: Preparing caltech_birds2011 needs the package tensorflow, which"
      " is not installed: pip install 'decern_jax[prepare]'"
    )

  @pytest.mark.usefixtures("without_tensorflow")
  def test_an_unknown_name_needs_no_tensorflow(self):
    with pytest.raises(SystemExit, match="^error: .* got 'no_such_fruit'"):
      prepare.main(["prepare", "no_such_fruit"])

  def test_beam_is_missed_before_the_download(self, monkeypatch, tmp_path):
    monkeypatch.setattr(
      importlib.util, "find_spec", found_unless("apache_beam")
    )
    with pytest.raises(SystemExit, match="needs the package apache_beam.*inst"):
      prepare.main(["prepare", "bigearthnet"])

  def test_without_a_network_says_so_in_one_line(self, monkeypatch):
    def fail(self, **unused):
      raise ConnectionError("no route\nto host")

    monkeypatch.setattr(TinyFruit, "download_and_prepare", fail, raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", found_unless(""))
    with pytest.raises(SystemExit) as exit_:
      prepare.main(["prepare", "tiny_fruit"])
    assert exit_.value.code == (
      "error: tiny_fruit was not prepared: ConnectionError: no route to host"
    )

  @pytest.mark.usefixtures("without_tensorflow")
  def test_what_needs_no_preparation_needs_no_tensorflow(self):
    with pytest.raises(SystemExit, match="^error: .* got 'rendered'.*"):
      prepare.main(["prepare", "rendered"])

  def test_rejects_no_or_several_names(self):
    for names in ([], ["food101", "eurosat"]):
      message = re.escape(f"Expected one data set, got {names}")
      with pytest.raises(SystemExit, match=message):
        prepare.main(["prepare", *names])

  def test_command_names_its_mistake(self):
    result = subprocess.run(
      [sys.executable, "-m", "decern_jax.prepare"],
      capture_output=True,
      text=True,
      check=False,
    )
    assert result.returncode == 1
    assert "Expected one data set, got []" in result.stderr

  @flagsaver.as_parsed(data_dir="somewhere")
  def test_passes_the_name_and_the_data_dir(self, monkeypatch):
    calls = []
    monkeypatch.setattr(
      prepare, "prepare", lambda name, **options: calls.append((name, options))
    )
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    prepare.main(["prepare", "food101"])
    assert calls == [("food101", {"data_dir": "somewhere"})]
