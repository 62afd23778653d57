"""Tests of decern_jax/runs/pretraining.py, on a folder of tiny images."""

import jax
import numpy as np
import pytest

from configs import pretrain_common
from decern_jax import models
from decern_jax.data import sources
from decern_jax.runs import pretraining
from decern_jax.training.recipe import Recipe
from tests import networks, tiny
from tests.pretraining import tiny_pretraining as tiny_run
from tests.table import each


def make_plain(**changes):
  config = pretrain_common.get_config()
  config.dataset.name = "rendered"
  changes = {name.replace("__", "."): value for name, value in changes.items()}
  config.update_from_flattened_dict(changes)
  return config.lock()


class TestCheck:
  @each("objective", ["simclr", "barlow_twins", "moco_v2"])
  def test_accepts_the_defaults(self, objective):
    pretraining.check(make_plain(pretrain__objective=objective))

  @each(
    "change, message",
    [
      (
        {"pretrain__objective": "byol"},
        r"Unknown objective 'byol'; expected one of \['barlow_twins', 'moco",
      ),
      ({"train__optimizer": "adamv"}, "Unknown optimizer 'adamv'"),
      ({"dataset__name": "imagenet"}, "Unknown dataset 'imagenet'"),
      ({"model__name": "resnet19"}, "Unknown model 'resnet19'"),
      ({"model__dtype": "float16"}, "Unknown dtype 'float16'"),
      ({"dataset__interpolation": "no"}, "Unknown interpolation 'no'"),
      ({"seed": -1}, "0 <= `seed` <= 4294967295, got -1"),
      ({"dataset__image_size": 16}, "32 <= `dataset.image_size`, got 16"),
      ({"dataset__resize_size": 60}, "64 <= `dataset.resize_size`, got 60"),
      ({"pretrain__temperature": 0.0}, "<= `pretrain.temperature`.*got 0.0"),
      ({"pretrain__temperature": -0.2}, "`pretrain.temperature`.*got -0.2"),
      ({"pretrain__off_diagonal_weight": -1.0}, "off_diagonal_weight`"),
      ({"pretrain__momentum": 1.5}, "`pretrain.momentum` <= 1.0, got 1.5"),
      ({"pretrain__queue_size": 0}, "1 <= `pretrain.queue_size`, got 0"),
      ({"pretrain__projector": (64, 0)}, "1 <= `pretrain.projector`, got 0"),
      ({"train__batch_size": 1}, "2 <= `train.batch_size`, got 1"),
      ({"train__num_epochs": 0}, "1 <= `train.num_epochs`, got 0"),
      ({"train__warmup_epochs": 300}, "`train.warmup_epochs` <= 200, got 300"),
      ({"train__learning_rate": 0.0}, "`train.learning_rate`.*got 0.0"),
      ({"train__weight_decay": -1.0}, "`train.weight_decay`.*got -1.0"),
      ({"views__min_area": 0.0}, "`views.min_area` <= 1.0, got 0.0"),
      ({"views__blur": 1.5}, "`views.blur` <= 1.0, got 1.5"),
      ({"views__jitter_strength": -1.0}, "`views.jitter_strength`"),
      ({"views__vertical_flip": float("nan")}, "`views.vertical_flip`"),
      ({"probe__every_epochs": -1}, "0 <= `probe.every_epochs`, got -1"),
      ({"probe__num_examples": 1}, "2 <= `probe.num_examples`, got 1"),
      ({"probe__num_neighbors": 0}, "1 <= `probe.num_neighbors`, got 0"),
      ({"probe__temperature": 0.0}, "`probe.temperature`.*got 0.0"),
      ({"system__num_workers": 0}, "1 <= `system.num_workers`, got 0"),
      ({"system__num_devices": 0}, "1 <= `system.num_devices`, got 0"),
      ({"system__embed_batch_size": 0}, "`system.embed_batch_size`, got 0"),
      ({"system__checkpoint_seconds": -1.0}, "checkpoint_seconds`.*got -1.0"),
    ],
  )
  def test_rejects_values_out_of_range(self, change, message):
    with pytest.raises(ValueError, match=message):
      pretraining.check(make_plain(**change))

  def test_rejects_a_queue_that_is_no_multiple_of_the_batch(self):
    change = {"pretrain__objective": "moco_v2", "pretrain__queue_size": 1000}
    message = "`pretrain.queue_size` a multiple of the 128 .*, got 1000"
    with pytest.raises(ValueError, match=message):
      pretraining.check(make_plain(**change))
    del change["pretrain__objective"]
    pretraining.check(make_plain(**change))

  def test_rejects_groups_that_do_not_divide_the_batch(self):
    change = {"pretrain__objective": "moco_v2", "pretrain__norm_groups": 3}
    message = "`train.batch_size` a multiple of the 3 .*, got 128"
    with pytest.raises(ValueError, match=message):
      pretraining.check(make_plain(**change))


class TestProjector:
  @each(
    "objective, widths, use_norm",
    [
      ("simclr", (2048, 128), True),
      ("barlow_twins", (2048, 2048, 2048), True),
      ("moco_v2", (2048, 128), False),
    ],
  )
  def test_is_the_published_one(self, objective, widths, use_norm):
    found = pretraining.make_projector(
      make_plain(pretrain__objective=objective)
    )
    assert (found.widths, found.use_norm) == (widths, use_norm)

  def test_has_other_widths_if_they_are_set(self):
    found = pretraining.make_projector(make_plain(pretrain__projector=(64, 32)))
    assert found.widths == (64, 32)


class TestMakeRecipe:
  def make(self, num_examples, num_devices=1):
    return pretraining.make_recipe(
      make_plain(), num_examples=num_examples, num_devices=num_devices
    )

  @each("num_examples, steps", [(128, 1), (255, 1), (256, 2)])
  def test_drops_images_that_fill_no_batch(self, num_examples, steps):
    found = self.make(num_examples)
    assert found.steps_per_epoch == steps
    assert found == Recipe(
      optimizer="adamw",
      learning_rate=1e-3,
      weight_decay=1e-4,
      num_epochs=200,
      warmup_epochs=10,
      batch_size=128,
      steps_per_epoch=steps,
    )

  def test_rejects_a_batch_larger_than_the_pool(self):
    message = "`train.batch_size` <= 127 training images, got 128"
    with pytest.raises(ValueError, match=message):
      self.make(127)

  def test_rejects_a_batch_that_does_not_divide_by_the_devices(self):
    message = "`train.batch_size` a multiple of the 3 of `devices`, got 128"
    with pytest.raises(ValueError, match=message):
      self.make(300, num_devices=3)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
  """Folders of images by the number of validation images of a class."""
  parent = tmp_path_factory.mktemp("images")
  return {
    count: tiny.write_image_folder(parent / str(count), num_val=count)
    for count in (0, 3)
  }


@pytest.fixture
def make_config(folders, tmp_path):
  def make(*, num_val=0, **changes):
    folder = folders[num_val]
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
    setup, digest = pretraining.build(make_config())
    assert len(setup.train.ids) == 32 == digest["images"]
    assert all(id_.startswith("train/") for id_ in setup.train.ids)
    assert setup.recipe.steps_per_epoch == 4

  def test_random_weights_follow_from_the_seed(self, make_config):
    config = make_config()
    first, digest = pretraining.build(config)
    with config.unlocked():
      config.seed = 1
    other, other_digest = pretraining.build(config)
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
    setup, digest = pretraining.build(make_config(model__weights=weights))
    expected = models.create("small_cnn", weights=weights, image_size=tiny.SIZE)
    assert setup.backbone.fingerprint == expected.fingerprint
    assert digest["model"] == expected.fingerprint

  def test_has_no_probe_unless_asked(self, make_config):
    setup, _ = pretraining.build(make_config(probe__every_epochs=0))
    assert setup.probe is None

  @pytest.fixture
  def use_tiny_network(self, monkeypatch):
    """Its program is compiled once for all tests."""
    backbone = networks.make_backbone(use_norm=True)
    monkeypatch.setattr(models, "create", lambda *_, **__: backbone)

  @each("num_val", [0, 3])
  @pytest.mark.usefixtures("use_tiny_network")
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
    setup, _ = pretraining.build(make_config(num_val=num_val))
    assert setup.probe is not None
    found = setup.probe(setup.backbone.variables)
    assert set(found) == {"knn_accuracy"}
    assert seen == ({"train", "val"} if num_val else {"train"})

  @pytest.mark.usefixtures("use_tiny_network")
  def test_probes_several_labels(self, make_config, monkeypatch):
    load = sources.load

    def with_labels(*args, **options):
      dataset = load(*args, **options)
      labels = np.eye(4, dtype=np.int32)[dataset.train.labels]
      return dataset._replace(train=dataset.train._replace(labels=labels))

    monkeypatch.setattr(sources, "load", with_labels)
    setup, _ = pretraining.build(make_config())
    assert setup.probe is not None
    assert set(setup.probe(setup.backbone.variables)) == {"knn_macro_f1"}

  def test_backbone_has_the_bands_of_the_images(self, make_config, monkeypatch):
    load = sources.load

    def with_bands(*args, **options):
      return load(*args, **options)._replace(train=tiny_run.make_split(6))

    monkeypatch.setattr(sources, "load", with_bands)
    setup, _ = pretraining.build(make_config(probe__every_epochs=0))
    kernel = setup.backbone.variables["params"]["stem"]["kernel"]
    assert kernel.shape[2] == 6

  def test_rejects_a_batch_larger_than_the_pool(self, make_config):
    message = "`train.batch_size` <= 32 training images, got 64"
    with pytest.raises(ValueError, match=message):
      pretraining.build(make_config(train__batch_size=64))

  def test_rejects_a_batch_that_does_not_divide_by_the_devices(
    self, make_config
  ):
    change = {"train__batch_size": 12, "system__num_devices": 8}
    assert jax.device_count() == 8
    with pytest.raises(ValueError, match="multiple of the 8 of `devices`"):
      pretraining.build(make_config(**change))
