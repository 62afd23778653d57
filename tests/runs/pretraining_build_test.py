"""Tests of decern_jax/runs/pretraining_build.py, on a folder of tiny images."""

import jax
import numpy as np
import pytest

from configs import pretrain_common
from decern_jax import models
from decern_jax.data import sources
from decern_jax.runs import pretraining_build
from tests import tiny
from tests.pretraining import tiny_pretraining as tiny_run
from tests.table import each


@pytest.fixture
def make_config(tmp_path):
  def make(*, num_val=0, **changes):
    folder = tiny.write_image_folder(tmp_path / "data", num_val=num_val)
    config = pretrain_common.get_config()
    values = {
      "dataset.name": "image_folder",
      "dataset.path": str(folder),
      "dataset.resize_size": tiny.SIZE,
      "dataset.image_size": tiny.SIZE,
      "model.name": "small_cnn",
      "pretrain.projector": (16, 8),
      "train.batch_size": 8,
      "probe.num_examples": 10,
      "system.num_devices": 1,
      "system.num_workers": 2,
      "system.cache_dir": str(tmp_path / "cache"),
    }
    changes = {name.replace("__", "."): v for name, v in changes.items()}
    config.update_from_flattened_dict({**values, **changes})
    return config.lock()

  return make


class TestBuild:
  def test_trains_on_the_training_images_alone(self, make_config):
    setup, digest = pretraining_build.build(make_config())
    assert len(setup.train.ids) == 32 == digest["images"]
    assert all(id_.startswith("train/") for id_ in setup.train.ids)
    assert setup.recipe.steps_per_epoch == 4

  def test_random_weights_follow_from_the_seed(self, make_config):
    config = make_config()
    first, digest = pretraining_build.build(config)
    with config.unlocked():
      config.seed = 1
    other, other_digest = pretraining_build.build(config)
    kernels = [
      setup.backbone.variables["params"]["stem"]["kernel"]
      for setup in (first, other)
    ]
    assert (kernels[0] != kernels[1]).any()
    assert digest["model"] != other_digest["model"]
    assert digest["data"] == other_digest["data"]

  @each("is_packaged", [True, False])
  def test_starts_from_weights(self, make_config, tmp_path, is_packaged):
    path = tiny.write_weights(tmp_path / "weights.safetensors")
    weights = None if is_packaged else str(path)
    setup, digest = pretraining_build.build(make_config(model__weights=weights))
    expected = models.create("small_cnn", weights=weights, image_size=tiny.SIZE)
    assert setup.backbone.fingerprint == expected.fingerprint
    assert digest["model"] == expected.fingerprint

  def test_has_no_probe_unless_asked(self, make_config):
    setup, _ = pretraining_build.build(make_config(probe__every_epochs=0))
    assert setup.probe is None

  @each("num_val", [0, 3])
  def test_probe_never_reads_a_test_image(
    self, make_config, monkeypatch, num_val
  ):
    load, seen = sources.load, set()

    def watched(*args, **options):
      dataset = load(*args, **options)

      def watch(split):
        def read(position):
          seen.add(split.ids[position].split("/")[0])
          return split.read(position)

        return split and split._replace(read=read)

      return dataset._replace(
        train=watch(dataset.train),
        test=watch(dataset.test),
        val=watch(dataset.val),
      )

    monkeypatch.setattr(sources, "load", watched)
    setup, _ = pretraining_build.build(make_config(num_val=num_val))
    found = setup.probe(setup.backbone.variables)
    assert set(found) == {"knn_accuracy"}
    assert seen == ({"train", "val"} if num_val else {"train"})

  def test_probes_several_labels(self, make_config, monkeypatch):
    load = sources.load

    def with_labels(*args, **options):
      dataset = load(*args, **options)
      labels = np.eye(4, dtype=np.int32)[dataset.train.labels]
      return dataset._replace(train=dataset.train._replace(labels=labels))

    monkeypatch.setattr(sources, "load", with_labels)
    setup, _ = pretraining_build.build(make_config())
    assert set(setup.probe(setup.backbone.variables)) == {"knn_macro_f1"}

  def test_backbone_has_the_bands_of_the_images(self, make_config, monkeypatch):
    load = sources.load

    def with_bands(*args, **options):
      return load(*args, **options)._replace(train=tiny_run.make_split(6))

    monkeypatch.setattr(sources, "load", with_bands)
    setup, _ = pretraining_build.build(make_config(probe__every_epochs=0))
    kernel = setup.backbone.variables["params"]["stem"]["kernel"]
    assert kernel.shape[2] == 6

  def test_rejects_a_batch_larger_than_the_pool(self, make_config):
    message = "`train.batch_size` <= 32 training images, got 64"
    with pytest.raises(ValueError, match=message):
      pretraining_build.build(make_config(train__batch_size=64))

  def test_rejects_a_batch_that_does_not_divide_by_the_devices(
    self, make_config
  ):
    change = {"train__batch_size": 12, "system__num_devices": 8}
    assert jax.device_count() == 8
    with pytest.raises(ValueError, match="multiple of the 8 of `devices`"):
      pretraining_build.build(make_config(**change))
