"""Tests of decern_jax/runs/experiment.py, on a tiny folder of images."""

import json
import os
import shutil

import jax
import numpy as np
import pytest

from decern_jax import models
from decern_jax.data import transforms
from decern_jax.features import embedding
from decern_jax.runs import experiment
from tests import tiny
from tests.table import each

NUM_TRAIN, NUM_TEST, NUM_VAL = 8, 6, 1
NUM_CLASSES = len(tiny.CLASSES)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """Data, weights and a cache that all tests of this file share."""
  folder = tmp_path_factory.mktemp("experiment")
  tiny.write_image_folder(
    folder / "data", num_train=NUM_TRAIN, num_test=NUM_TEST, num_val=NUM_VAL
  )
  tiny.write_weights(folder / "weights.safetensors")
  return folder


@pytest.fixture
def make_config(folder):
  """Makes a configuration of a tiny run, with changes by dotted name."""

  def make(data=folder / "data", cache=folder / "cache", **changes):
    weights = folder / "weights.safetensors"
    return tiny.make_config(data, weights, cache, **changes)

  return make


@pytest.fixture
def no_training(monkeypatch):
  """Fails the test when the first image is to be embedded."""

  def fail(*unused, **options):
    pytest.fail("work has started")

  monkeypatch.setattr(embedding, "embed", fail)


@pytest.fixture
def fake_features(monkeypatch):
  """Reads the images, and takes their mean color for their features."""

  def embed(apply, variables, batches, **unused):
    for batch in batches:
      yield batch.mean(axis=(1, 2), dtype=np.float32)

  monkeypatch.setattr(embedding, "embed", embed)


@pytest.fixture(scope="module")
def assets(folder):
  config = tiny.make_config(
    folder / "data", folder / "weights.safetensors", folder / "cache"
  )
  return experiment.load(config)


class TestLoad:
  def test_has_the_data_and_one_label_per_class(self, make_config):
    assets = experiment.load(make_config())
    task = assets.task
    assert assets.dataset.class_names == tiny.CLASSES
    assert task.ids == assets.dataset.train.ids
    assert task.initial_budget == task.budget == NUM_CLASSES
    assert (task.num_rounds, task.num_candidates) == (3, None)
    assert set(assets.parts) == {"train", "val", "test"}
    for name, size in ("train", 8), ("val", 1), ("test", 6):
      part = assets.parts[name]
      assert int(part.valid.sum()) == NUM_CLASSES * size
      assert part.features.shape[1] == 256

  def test_takes_the_budgets_from_the_configuration(self, make_config):
    config = make_config(
      **{"selection.initial_budget": 7, "selection.budget": 3}
    )
    task = experiment.load(config).task
    assert (task.initial_budget, task.budget) == (7, 3)

  def test_takes_several_labels_per_class(self, make_config):
    config = make_config(
      **{"selection.budget_per_class": 2, "selection.budget": 5}
    )
    task = experiment.load(config).task
    assert (task.initial_budget, task.budget) == (2 * NUM_CLASSES, 5)

  def test_takes_the_number_of_candidates(self, make_config):
    config = make_config(**{"selection.num_candidates": 4})
    assert experiment.load(config).task.num_candidates == 4

  def test_rejects_fewer_candidates_than_budget(self, make_config, no_training):
    config = make_config(**{"selection.num_candidates": 3})
    with pytest.raises(ValueError, match=r"num_candidates` >= .* 4, got 3"):
      experiment.load(config)

  def test_features_are_those_of_the_model_and_transform(self, make_config):
    config = make_config(**{"dataset.resize_size": 40})
    assets = experiment.load(config)
    dataset = assets.dataset
    backbone = models.create(
      "small_cnn", weights=config.model.weights, image_size=tiny.SIZE
    )
    for position in (0, 31):
      image = transforms.resize_and_center_crop(
        dataset.train.read(position), resize_size=40, image_size=tiny.SIZE
      )
      expected = backbone.apply(backbone.variables, image[None])[0]
      # Features have length 1 or so and any sign: near 0 an entry has few
      # digits.
      np.testing.assert_allclose(
        assets.parts["train"].features[position],
        expected,
        rtol=1e-4,
        atol=1e-5,
      )

  def test_uses_the_devices_asked_for(self, make_config, assets):
    two = experiment.load(make_config(**{"system.num_devices": 2}))
    assert two.parts["train"].features.sharding.mesh.size == 2
    assert assets.parts["train"].features.sharding.mesh.size == 8

  def test_rejects_more_devices_than_there_are(self, make_config, no_training):
    with pytest.raises(ValueError, match="8 devices, got 9"):
      experiment.load(make_config(**{"system.num_devices": 9}))

  def test_computes_features_once(self, make_config, tmp_path, monkeypatch):
    first = experiment.load(make_config(cache=tmp_path))
    monkeypatch.setattr(embedding, "embed", lambda *args, **options: 1 / 0)
    second = experiment.load(make_config(cache=tmp_path))
    for name, part in first.parts.items():
      np.testing.assert_array_equal(part.features, second.parts[name].features)

  @each(
    "changes",
    [
      {"dataset.resize_size": 36},
      {"dataset.image_size": 34, "dataset.resize_size": 34},
      {"dataset.interpolation": "bicubic"},
      {"model.weights": "other"},
    ],
  )
  def test_computes_features_anew_when_they_would_differ(
    self, make_config, folder, changes, monkeypatch, tmp_path
  ):
    experiment.load(make_config())
    if "model.weights" in changes:
      other = tiny.write_weights(folder / "other.safetensors", seed=1)
      changes = {"model.weights": os.fspath(other)}
    calls = []

    def embed(apply, variables, batches, **options):
      calls.append(len(np.concatenate(list(batches))))
      yield np.zeros((calls[-1], 3), np.float32)

    monkeypatch.setattr(embedding, "embed", embed)
    cache = shutil.copytree(folder / "cache", tmp_path / "cache")
    experiment.load(make_config(cache=cache, **changes))
    assert calls == [32, 4, 24]

  def test_features_hardly_depend_on_system(self, make_config, tmp_path):
    expected = experiment.load(make_config()).parts["train"].features
    changes = {
      "system.embed_batch_size": 5,
      "system.num_workers": 1,
      "system.num_devices": 1,
    }
    config = make_config(cache=tmp_path, **changes)
    actual = experiment.load(config).parts["train"].features
    np.testing.assert_allclose(actual, expected[:32], rtol=1e-4, atol=1e-6)

  def test_shows_no_bar_where_there_is_no_terminal(
    self, make_config, tmp_path, capfd, fake_features
  ):
    experiment.load(make_config(cache=tmp_path))
    assert capfd.readouterr().err == ""

  @each(
    "changes, total",
    [
      ({"num_rounds": 9}, r"4 \+ 8 · 4 = 36"),
      ({"selection.budget": 15}, r"4 \+ 2 · 15 = 34"),
      ({"selection.initial_budget": 33, "num_rounds": 1}, r"33 \+ 0 · 4 = 33"),
    ],
  )
  def test_rejects_budget_above_pool(
    self, make_config, no_training, changes, total
  ):
    with pytest.raises(
      ValueError, match=f"<= 32 training examples, got {total}"
    ):
      experiment.load(make_config(**changes))

  def test_accepts_budget_equal_to_pool(self, make_config):
    changes = {"selection.initial_budget": 22, "selection.budget": 5}
    assert experiment.load(make_config(**changes)).task.initial_budget == 22

  def test_rejects_features_that_are_not_finite(
    self, make_config, tmp_path, monkeypatch
  ):
    def embed(apply, variables, batches, **options):
      rows = np.zeros((len(np.concatenate(list(batches))), 3), np.float32)
      if len(rows) > 5:
        rows[5, 1] = np.nan
      yield rows

    monkeypatch.setattr(embedding, "embed", embed)
    message = r"NaN or infinity for 1 examples, the first 'train/ant/05\.png'"
    with pytest.raises(ValueError, match=message):
      experiment.load(make_config(cache=tmp_path))

  def test_computes_none_where_the_backbone_trains(
    self, make_config, no_training
  ):
    assets = experiment.load(make_config(**{"train.scope": "published"}))
    assert assets.parts is None
    assert any(jax.tree.leaves(assets.mask))
    # This model has no batch normalisation.
    assert not assets.use_batch_statistics

  def test_says_that_augmented_images_have_no_cached_features(
    self, make_config, caplog
  ):
    assets = experiment.load(make_config(**{"train.augment": True}))
    assert assets.parts is not None
    assert "every epoch computes features anew" in caplog.text

  def test_says_nothing_where_they_are_cached(self, make_config, caplog):
    experiment.load(make_config())
    assert not caplog.records

  def test_draws_weights_from_their_seed(self, make_config):
    """A backbone that was never trained, to compare with."""
    features_of = []
    for seed in (0, 0, 1):
      assets = experiment.load(
        make_config(model__weights="random", model__weights_seed=seed)
      )
      features_of.append(np.asarray(assets.parts["train"].features))
    np.testing.assert_array_equal(features_of[0], features_of[1])
    assert (features_of[0] != features_of[2]).any()

  def test_rejects_weights_of_another_model(self, make_config, no_training):
    with pytest.raises(ValueError, match="weights of another model"):
      experiment.load(make_config(**{"model.name": "mobilenet_v2"}))

  def test_rejects_missing_weights(self, make_config, no_training):
    with pytest.raises(ValueError, match=r"/nowhere/w\.safetensors"):
      experiment.load(
        make_config(**{"model.weights": "/nowhere/w.safetensors"})
      )


@pytest.mark.usefixtures("fake_features")
class TestDigest:
  """What `load` says of the data, by which a folder knows its run."""

  def test_is_what_json_gives_back(self, assets):
    digest = assets.digest
    assert json.loads(json.dumps(digest)) == digest
    assert digest["class_names"] == list(tiny.CLASSES)
    assert digest["is_multi_label"] is False
    assert set(digest) == {
      *("class_names", "is_multi_label", "train", "val", "test", "model")
    }

  def test_tells_how_many_examples_there_are(self, assets):
    assert assets.digest["train"].startswith("32 examples ")
    assert assets.digest["test"].startswith("24 examples ")

  def test_is_the_same_for_a_copy(self, make_config, folder, tmp_path):
    shutil.copytree(folder / "data", tmp_path / "elsewhere")
    cache = tmp_path / "cache"
    expected = experiment.load(make_config(cache=cache)).digest
    copy = make_config(tmp_path / "elsewhere", cache)
    assert experiment.load(copy).digest == expected

  @each("part", ["train", "val", "test"])
  def test_differs_by_the_names_of_a_part(
    self, make_config, folder, tmp_path, part
  ):
    data = tmp_path / "data"
    shutil.copytree(folder / "data", data)
    (data / part / "bee" / "00.png").rename(data / part / "bee" / "zz.png")
    cache = tmp_path / "cache"
    changed = experiment.load(make_config(data, cache)).digest
    before = experiment.load(make_config(cache=cache)).digest
    assert {name for name in before if before[name] != changed[name]} == {part}

  def test_takes_names_that_are_no_text(self, make_config, folder, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(folder / "data", data)
    image = (data / "train" / "bee" / "00.png").read_bytes()
    name = os.fsencode(data / "train" / "bee") + b"/caf\xe9.png"
    with open(name, "wb") as file:
      file.write(image)
    config = make_config(data, tmp_path / "cache")
    digest = experiment.load(config).digest
    assert digest["train"].startswith("33 examples ")
