"""Tests of decern_jax/runs/model_file.py."""

import functools
import json
import shutil

from etils import epath
import jax
import numpy as np
import pytest

from decern_jax import models
from decern_jax.cli import main
from decern_jax.models import pretrained
from decern_jax.runs import driver, experiment, model_file
from tests import tiny
from tests.models import tiny_models
from tests.table import each

MODEL = "tiny_resnet"
SAVE = model_file.save


def check_equal(found, expected) -> None:
  """Checks that trees have the same structure and the same numbers."""
  assert jax.tree.structure(found) == jax.tree.structure(expected)
  jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp("model_file")
  tiny.write_image_folder(folder / "data")
  tiny_models.write_weights(folder / "weights.safetensors")
  with tiny_models.in_table():
    yield folder


@pytest.fixture(scope="module")
def make_config(folder):
  def make(**changes):
    return tiny.make_config(
      folder / "data",
      folder / "weights.safetensors",
      folder / "cache",
      num_rounds=2,
      model__name=MODEL,
      train__num_epochs=2,
      train__warmup_epochs=1,
      train__batch_size=4,
      system__num_devices=1,
      **changes,
    )

  return make


@pytest.fixture(scope="module")
def run(folder, make_config):
  """Runs a scope to its end, and returns its folder and its last model."""

  @functools.cache
  def run(scope):
    saved = []
    with pytest.MonkeyPatch.context() as patch:
      patch.setattr(
        model_file, "save", lambda *args: saved.append(args[1]) or SAVE(*args)
      )
      main.run(make_config(train__scope=scope), epath.Path(folder / scope))
    (model,) = saved
    return folder / scope, model

  return run


@pytest.fixture(params=["head", "published"])
def finished(request, run):
  return run(request.param)


@pytest.fixture
def copy(run, tmp_path):
  """Makes copies of a finished run, to be spoiled."""
  workdir, _ = run("head")

  def copy():
    shutil.rmtree(tmp_path / "run", ignore_errors=True)
    (tmp_path / "run").mkdir()
    for name in ("model.safetensors", "config.json", "data.json"):
      shutil.copy(workdir / name, tmp_path / "run" / name)
    return tmp_path / "run"

  return copy


class TestSave:
  def test_models_create_loads_the_model(self, finished):
    workdir, model = finished
    backbone = models.create(
      MODEL, weights=workdir / "model.safetensors", image_size=tiny.SIZE
    )
    check_equal(dict(backbone.variables), dict(model.variables))
    check_equal(backbone.head, model.head)

  def test_a_new_run_starts_from_the_model(
    self, finished, make_config, tmp_path
  ):
    workdir, model = finished
    weights = workdir / "model.safetensors"
    config = make_config(**{"model.weights": str(weights)})
    assets = experiment.load(config)
    check_equal(dict(assets.backbone.variables), dict(model.variables))
    state = driver.run(
      experiment.build(config, assets, seed=1, workdir=tmp_path),
      num_rounds=2,
      workdir=tmp_path,
    )
    assert int(state.round) == 2

  def test_training_changes_what_its_scope_says(self, finished, make_config):
    workdir, _ = finished
    before = models.create(
      MODEL, weights=make_config().model.weights, image_size=tiny.SIZE
    ).variables
    leaves = jax.tree.leaves(
      jax.tree.map(
        np.array_equal,
        dict(before),
        dict(model_file.load(workdir).backbone.variables),
      )
    )
    assert all(leaves) == (workdir.name == "head")
    assert any(leaves)


class TestLoad:
  def test_returns_what_the_run_ended_with(self, finished):
    workdir, model = finished
    found = model_file.load(workdir)
    check_equal(dict(found.backbone.variables), dict(model.variables))
    check_equal(found.backbone.head, model.head)
    assert found.class_names == tiny.CLASSES
    assert found.transform == {
      "resize_size": tiny.SIZE,
      "image_size": tiny.SIZE,
      "interpolation": "bilinear",
    }

  @each("name", ["model.safetensors", "config.json", "data.json"])
  def test_rejects_a_folder_without_a_file(self, copy, name):
    folder = copy()
    (folder / name).unlink()
    with pytest.raises(
      ValueError, match=rf"finished run, got .*/run without {name}\."
    ):
      model_file.load(folder)

  def test_rejects_a_folder_that_does_not_exist(self, tmp_path):
    message = "without model.safetensors, config.json, data.json"
    with pytest.raises(ValueError, match=message):
      model_file.load(tmp_path / "nowhere")

  @each(
    "file, name",
    [
      ("config.json", "model.dtype"),
      ("config.json", "model.name"),
      ("config.json", "dataset.image_size"),
      ("config.json", "dataset.resize_size"),
      ("config.json", "dataset.interpolation"),
      ("data.json", "class_names"),
      ("data.json", "is_multi_label"),
    ],
  )
  def test_rejects_a_run_of_another_version(self, copy, file, name):
    folder = copy()
    settings = json.loads((folder / file).read_text())
    del settings[name]
    (folder / file).write_text(json.dumps(settings))
    with pytest.raises(
      ValueError, match=rf"this version .*{file} without {name}\."
    ):
      model_file.load(folder)

  @each("content", ["{", "[1]", "\0"])
  def test_rejects_settings_that_are_none(self, copy, content):
    folder = copy()
    (folder / "config.json").write_text(content)
    with pytest.raises(ValueError, match=r"settings in .*/run/config\.json"):
      model_file.load(folder)

  def test_rejects_a_head_of_other_classes(self, copy):
    folder = copy()
    data = json.loads((folder / "data.json").read_text())
    data["class_names"].append("eel")
    (folder / "data.json").write_text(json.dumps(data))
    with pytest.raises(ValueError, match=r"head of 5 classes in .*, got 4\."):
      model_file.load(folder)

  def test_rejects_weights_without_a_head(self, copy):
    folder = copy()
    path = folder / "model.safetensors"
    tensors = pretrained.read_safetensors(path)
    backbone = {k: v for k, v in tensors.items() if not k.startswith("head.")}
    pretrained.save_safetensors(path, backbone)
    with pytest.raises(ValueError, match=r"head of 4 classes in .*, got 0\."):
      model_file.load(folder)
