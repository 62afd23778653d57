"""Test that every file of a run can be on gs://, in a store in memory."""

import io
import os
import subprocess
import sys
from typing import Any

from etils import epath
from fsspec.registry import known_implementations
import numpy as np
from PIL import Image
import pytest

from decern_jax import models
from decern_jax.data.sources.folder import load_image_folder
from decern_jax.io import storage
from decern_jax.models import pretrained
from decern_jax.report import figures, run_report
from decern_jax.runs import model_file, records, workdir
from tests import event_file, tiny
from tests.io import fake_store
from tests.table import each

RUN = "gs://bucket/run"
SETTINGS = {"num_rounds": 2, "seed": 1}


def record(round_num: int) -> dict:
  return {
    "round": round_num,
    "num_labeled": 4 + round_num,
    "train": {"loss": 1.0, "epoch_losses": [2.0, 1.0]},
    "test": {"accuracy": 0.5, "balanced_accuracy": 0.5, "loss": 1.5},
    "selected": ["a.png"],
    "scores": None,
    "seconds": {"train": 2.0},
  }


class TestRecords:
  def test_are_read_back_in_order(self, store):
    assert records.read(RUN) == []
    for round_num in range(3):
      records.append(RUN, record(round_num))
    assert records.read(RUN) == [record(i) for i in range(3)]

  def test_are_truncated(self, store):
    for round_num in range(3):
      records.append(RUN, record(round_num))
    records.truncate(RUN, 2)
    assert records.read(RUN) == [record(0), record(1)]

  def test_are_not_written_anew_without_need(self, store):
    records.append(RUN, record(0))
    del store.requests[:]
    records.truncate(RUN, 1)
    assert {kind for kind, _ in store.requests} == {"get"}

  def test_a_store_that_is_down_holds_none_and_loses_none(self, store):
    records.append(RUN, record(0))
    store.error = OSError("the store is down")
    for use in (
      lambda: records.read(RUN),
      lambda: records.truncate(RUN, 0),
      lambda: records.append(RUN, record(1)),
    ):
      with pytest.raises(OSError, match="the store is down"):
        use()
    store.error = None
    assert records.read(RUN) == [record(0)]


class TestEvents:
  def test_are_all_there_at_the_end(self, store, tmp_path):
    for folder in (RUN, tmp_path):
      with run_report.open_writer(folder) as add:
        for round_num in range(3):
          add(record(round_num))
    remote: Any = epath.Path(RUN)
    found = event_file.read_scalars(remote)
    assert found == event_file.read_scalars(tmp_path)

  def test_replace_those_of_an_earlier_start(self, store):
    for _ in range(2):
      with run_report.open_writer(RUN) as add:
        add(record(0))
    assert len(storage.scan(f"{RUN}/{run_report.FOLDER}")) == 1


class TestWorkdir:
  def test_is_claimed_by_its_settings(self, store):
    workdir.claim(RUN, SETTINGS, file_name=workdir.CONFIG_FILE)
    assert list(store.objects) == ["bucket/run/config.json"]
    other = {**SETTINGS, "num_rounds": 3}
    with pytest.raises(ValueError, match="num_rounds: 2 there, 3 now"):
      workdir.check_free(RUN, other, file_name=workdir.CONFIG_FILE)

  def test_is_refused_in_a_bucket_that_is_not_there(self, store):
    message = "`workdir` that can be written, got gs://other/run"
    with pytest.raises(ValueError, match=message):
      workdir.check_free(
        "gs://other/run", SETTINGS, file_name=workdir.CONFIG_FILE
      )


class TestWeights:
  @pytest.fixture
  def weights(self, store, tmp_path):
    local = tiny.write_weights(tmp_path / "w.safetensors")
    storage.write_atomically("gs://bucket/w.safetensors", local.read_bytes())
    return local

  def test_are_loaded(self, weights):
    remote, local = (
      models.create("small_cnn", weights=file, image_size=tiny.SIZE)
      for file in ("gs://bucket/w.safetensors", weights)
    )
    assert remote.fingerprint == local.fingerprint

  def test_are_saved_as_on_a_disk(self, store, tmp_path):
    variables = {"params": {"a": np.arange(6.0).reshape(2, 3)}}
    for folder in (tmp_path, epath.Path("gs://bucket")):
      pretrained.save_safetensors(folder / "m.safetensors", variables)
    local = (tmp_path / "m.safetensors").read_bytes()
    assert store.objects == {"bucket/m.safetensors": local}

  @each(
    "name, message",
    [
      ("none.safetensors", "got gs://bucket/none.safetensors: no such file"),
      ("folder", "got gs://bucket/folder: a folder"),
      ("w.pth", "got gs://bucket/w.pth: pickled. Copy it to a local disk"),
      ("torn.safetensors", "whole .safetensors file, got gs://bucket/torn"),
    ],
  )
  def test_are_refused(self, weights, name, message):
    storage.write_atomically("gs://bucket/folder/file", b"")
    torn = weights.read_bytes()[:1000]
    storage.write_atomically("gs://bucket/torn.safetensors", torn)
    with pytest.raises(ValueError, match=message):
      models.create(
        "small_cnn", weights=f"gs://bucket/{name}", image_size=tiny.SIZE
      )


class TestModelFile:
  def test_names_what_a_folder_lacks(self, store):
    with pytest.raises(ValueError, match=f"{RUN} without model.safetensors"):
      model_file.load(RUN)


class TestImageFolder:
  @pytest.fixture
  def folder(self, store, tmp_path):
    folder = tiny.write_image_folder(tmp_path / "data")
    (folder / "train" / tiny.CLASSES[0] / "torn.png").write_bytes(b"\x89PNG")
    fake_store.upload(folder, "gs://bucket/data")
    return folder

  def load(self, path, **options):
    return load_image_folder(
      path, num_workers=2, progress=False, cache_dir="gs://bucket/cache"
    )

  def test_is_read_as_from_a_disk(self, folder):
    remote, local = self.load("gs://bucket/data"), self.load(folder)
    assert remote.name == local.name == "data"
    assert remote.class_names == local.class_names
    assert remote.val is None
    for one, other in ((remote.train, local.train), (remote.test, local.test)):
      assert one
      assert other
      assert one.ids == other.ids
      np.testing.assert_array_equal(one.labels, other.labels)
      np.testing.assert_array_equal(one.read(5), other.read(5))

  def test_is_checked_once(self, folder, store):
    self.load("gs://bucket/data")
    del store.requests[:]
    self.load("gs://bucket/data")
    got = [path for kind, path in store.requests if kind == "get"]
    assert len(got) == 2  # the outcome of the check, and the torn file
    assert got[1].endswith("torn.png")

  def test_is_another_when_an_image_is(self, folder):
    before = self.load("gs://bucket/data").fingerprint
    assert self.load("gs://bucket/data").fingerprint == before
    path = f"data/train/{tiny.CLASSES[0]}/00.png"
    storage.write_atomically(
      f"gs://bucket/{path}", storage.read_bytes(f"gs://bucket/{path}")
    )
    assert self.load("gs://bucket/data").fingerprint != before

  @each(
    "path, message",
    [
      ("none", "gs://bucket/none does not exist"),
      ("data/train/ant/00.png", "00.png is a file"),
      ("data/train", "Expected the folders `train` and `test`"),
    ],
  )
  def test_is_refused(self, folder, path, message):
    with pytest.raises(ValueError, match=message):
      self.load(f"gs://bucket/{path}")


class TestFigures:
  def test_are_whole_pictures(self, store):
    path = "gs://bucket/curve.png"
    figures.learning_curve({"random": [[record(0), record(1)]]}, path)
    with Image.open(io.BytesIO(storage.read_bytes(path))) as image:
      assert image.load() is not None


class TestWithoutGcsfs:
  """What a user is told who has not installed it."""

  def test_says_what_to_install(self, monkeypatch):
    missing = {"class": "no_such_package.File", "err": "Please install gcsfs"}
    with fake_store.fresh_connection():
      monkeypatch.delitem(fake_store.REGISTRY, "gcs", raising=False)
      monkeypatch.setitem(known_implementations, "gcs", missing)
      with pytest.raises(ValueError, match=r"pip install 'decern_jax\[gcs\]'"):
        workdir.check_free(RUN, SETTINGS, file_name=workdir.CONFIG_FILE)
      with pytest.raises(ValueError, match=r"pip install 'decern_jax\[gcs\]'"):
        models.create("small_cnn", weights="gs://b/w", image_size=tiny.SIZE)

  @pytest.mark.slow
  @each(
    "flag",
    ["--workdir=gs://bucket/run", "--config.model.weights=gs://bucket/w"],
  )
  def test_says_what_to_install_and_no_more(self, tmp_path, flag):
    script = (
      "import runpy, sys; sys.modules['gcsfs'] = None;"
      "runpy.run_module('decern_jax.main', run_name='__main__')"
    )
    done = subprocess.run(
      [
        sys.executable,
        *("-c", script),
        f"--config={tiny.ROOT / 'configs' / 'quickstart.py'}",
        flag,
      ],
      cwd=tmp_path,
      env={**os.environ, "PYTHONPATH": os.fspath(tiny.ROOT)},
      capture_output=True,
      text=True,
      timeout=120,
      check=False,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: The path 'gs://bucket/")
    assert line.endswith("pip install 'decern_jax[gcs]'")
