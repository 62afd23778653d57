"""Runs every configuration on data made in the form of its own."""

import dataclasses
import functools
import importlib
import json
import pathlib

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow_datasets as tfds

from configs import common, paper
from decern_jax import models
from decern_jax.data import sources
from decern_jax.models import pretrained
from decern_jax.models.backbones import resnet, vit
from decern_jax.runs import check, driver, experiment, records
from tests import tiny
from tests.data import bronze
from tests.table import each

SIZE = 32
NUM_EXAMPLES = 12
PUBLISHED = {
  "bronze_ding": (11, 1470, None),
  "caltech101": (100, 4128, 2465),
  "caltech_birds2011": (200, 5994, 5794),
  "food101": (101, 75750, 25250),
  "oxford_flowers102": (102, 1020, 6149),
  "oxford_iiit_pet": (37, 3680, 3669),
  "stanford_dogs": (120, 12000, 8580),
}

CREATE = models.create

# The three architectures, of few and narrow layers.
_RESNET = {"stage_sizes": (1, 1, 1, 1), "use_bottleneck": False, "width": 4}
_VIT = {"width": 16, "num_heads": 2, "patch_size": 16, "grid_size": 2}
_DINOV2 = {"use_layer_scale": True, "use_patch_mean": True}
TINY_MODULES = {
  "resnet50": (functools.partial(resnet.ResNet, **_RESNET), 32),
  "vit_small16": (
    functools.partial(vit.VisionTransformer, depth=4, **_VIT),
    4 * 16,
  ),
  "dinov2_small14": (
    functools.partial(vit.VisionTransformer, depth=4, **_VIT, **_DINOV2),
    5 * 16,
  ),
}


def fake_source(self, split, **unused):
  """Stands in for `as_data_source` of any builder under `mock_data`."""
  rng = np.random.default_rng(len(split))
  return [
    {
      "image": cv2.imencode(".png", tiny.draw(label, rng))[1].tobytes(),
      "image/file_name": f"{split}_{label}.jpg",
      "label": label,
    }
    for label in range(NUM_EXAMPLES)
  ]


def write_split_file(path: pathlib.Path) -> pathlib.Path:
  """Writes a split of the fake Caltech101, whose folders tfds has in order."""
  with tfds.testing.mock_data(as_data_source_fn=fake_source):
    features = tfds.builder("caltech101").info.features
  assert isinstance(features, tfds.features.FeaturesDict)
  classes = features["label"]
  assert isinstance(classes, tfds.features.ClassLabel)
  names = classes.names
  rows = {"train": [], "val": [], "test": []}
  for label in range(NUM_EXAMPLES):
    for split in ("train", "test"):
      file = f"{names[label]}/{split}_{label}.jpg"
      rows[split].append([file, label, names[label]])
  path.write_text(json.dumps(rows))
  return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """Data that tfds has not, and weights of the small architectures."""
  folder = tmp_path_factory.mktemp("paper")
  tiny.write_image_folder(folder / "images")
  rows = [(f"ding{i}", i % 11 + 1) for i in range(NUM_EXAMPLES)]
  tests = [(f"test{i}", i + 1) for i in range(3)]
  bronze.write_release(folder / "bronze", {"train": rows, "test": tests})
  write_split_file(folder / "split.json")
  for name, (module, _) in TINY_MODULES.items():
    image = jnp.zeros((1, SIZE, SIZE, 3))
    variables = jax.jit(module().init)(jax.random.key(0), image)
    pretrained.save_safetensors(folder / f"{name}.safetensors", variables)
  tiny.write_weights(folder / "small_cnn.safetensors")
  return folder


@functools.cache
def create_once(name: str, **options) -> models.Backbone:
  """Gives all runs the same functions, which so compile once."""
  return CREATE(name, **options)


@pytest.fixture
def small(monkeypatch):
  """Makes the models small, and takes the data sets at the size they have."""
  monkeypatch.setattr(models, "create", create_once)
  for name, (module, dim) in TINY_MODULES.items():
    changes = {"module": module, "dim": dim}
    if name == "vit_small16":
      changes["published"] = ("blocks_3.norm*", "norm.*")
    row = dataclasses.replace(models.MODELS[name], **changes)
    monkeypatch.setitem(models.MODELS, name, row)
  for name, row in sources.DATASETS.items():
    classes = NUM_EXAMPLES if name == "caltech101" else row.num_classes
    monkeypatch.setitem(
      sources.DATASETS,
      name,
      dataclasses.replace(
        row, num_train=None, num_test=None, num_classes=classes
      ),
    )


def shrink(config, folder: pathlib.Path):
  """Returns a configuration with two short rounds on small images."""
  paths = {
    "image_folder": folder / "images",
    "bronze_ding": folder / "bronze",
  }
  if config.dataset.name in paths:
    config.dataset.path = str(paths[config.dataset.name])
  if config.dataset.split_file:
    config.dataset.split_file = str(folder / "split.json")
  if config.model.name == "mobilenet_v2":
    config.model.name = "small_cnn"
  config.model.weights = str(folder / f"{config.model.name}.safetensors")
  config.dataset.resize_size = config.dataset.image_size = SIZE
  config.num_rounds = 2
  config.seeds = (1,)
  config.train.num_epochs = config.train.warmup_epochs = 1
  config.selection.initial_budget = 5
  config.selection.budget = 2
  if config.selection.num_candidates is not None:
    config.selection.num_candidates = 4
  config.system.cache_dir = str(folder / "cache")
  config.system.num_devices = 1
  return config.lock()


def load(config) -> experiment.Assets:
  check.check(config)
  with tfds.testing.mock_data(as_data_source_fn=fake_source):
    return experiment.load(config)


def run(config, workdir) -> list[records.Record]:
  assets = load(config)
  built = experiment.build(config, assets, seed=1, workdir=workdir)
  driver.run(built, num_rounds=config.num_rounds, workdir=workdir)
  return records.read(workdir)


# All but the quickstart, which `smoke_test` has, and those of several labels
# per image, which `multilabel_run_test` has.
FILES = sorted(
  path.stem
  for path in (tiny.ROOT / "configs").glob("*.py")
  if path.stem not in ("__init__", "common", "quickstart")
  and path.stem
  not in ("bigearthnet", "label_file", "land_cover", "my_images", "uc_merced")
  and not path.stem.startswith("pretrain_")
)


@pytest.mark.usefixtures("small")
class TestRun:
  @each("name", FILES)
  def test_every_file_opens_its_data_and_its_model(self, name, folder):
    """What then trains depends on the backbone: see the next test."""
    config = importlib.import_module(f"configs.{name}").get_config()
    assert config.selection.strategy == "decern"
    assets = load(shrink(config, folder))
    assert assets.task.capacity == 7
    train, test = assets.dataset.train, assets.dataset.test
    assert test is not None
    assert train.labels.max() < len(assets.dataset.class_names)
    assert {len(train.ids), len(test.ids)} <= {3, 12, 24, 32}
    assert train.read(0).ndim == 3

  @each("backbone", common.PAPER_BACKBONES)
  def test_every_backbone_runs(self, backbone, folder, tmp_path):
    config = paper.get_config(f"food101/{backbone}/2x")
    # DECERN takes long to compile, and `smoke_test` has it.
    config.selection.strategy = "margin"
    found = run(shrink(config, folder), tmp_path)
    assert len(found) == 2
    before = pretrained.read_safetensors(folder / f"{backbone}.safetensors")
    after = pretrained.read_safetensors(tmp_path / "model.safetensors")
    assert set(after) - set(before) == {"head.kernel", "head.bias"}
    changed = {
      name for name in before if not np.array_equal(before[name], after[name])
    }
    assert (
      changed
      == {
        "dinov2_small14": set(),
        "vit_small16": {
          name
          for name in before
          if "blocks_3.norm" in name or name.startswith("params.norm.")
        },
        # The statistics of all layers move, the parameters of the last stage.
        "resnet50": {
          name
          for name in before
          if name.startswith(("batch_stats.", "params.layer4_"))
        },
      }[backbone]
    )


class TestPaper:
  def test_has_as_many_settings_as_the_paper(self):
    assert len(set(paper.SETTINGS)) == 26

  @each("setting", paper.SETTINGS)
  def test_every_setting_is_the_published_one(self, setting):
    config = paper.get_config(setting).lock()
    check.check(config)
    dataset, backbone, budget = setting.split("/")
    row = sources.DATASETS[config.dataset.name]
    assert (config.dataset.name, config.model.name) == (dataset, backbone)
    assert (row.num_classes, row.num_train, row.num_test) == PUBLISHED[dataset]
    assert f"{config.selection.budget_per_class}x" == budget
    assert config.selection.budget is None
    assert config.selection.initial_budget is None
    assert config.seeds == (1, 11, 111, 1111, 11111)
    assert (config.train.scope, config.train.augment) == ("published", True)
    assert not config.train.freeze_batch_norm
    is_bicubic = config.dataset.interpolation == "bicubic"
    assert is_bicubic == backbone.startswith("dinov2")
    num_candidates = 15_150 if dataset == "food101" else None
    assert config.selection.num_candidates == num_candidates

  @each("setting", paper.SETTINGS)
  def test_every_setting_fits_its_pool(self, setting):
    config = paper.get_config(setting)
    row = sources.DATASETS[config.dataset.name]
    budget = config.selection.budget_per_class * row.num_classes
    assert config.num_rounds * budget <= row.num_train
    is_cut = config.num_rounds < 8
    assert is_cut == (8 * budget > row.num_train)

  @each(
    "setting, expected",
    [
      ("cub/vgg/3x", "data set of the paper 'cub'"),
      ("food101/vgg/3x", "variant 'vgg/3x'; expected a backbone"),
      ("food101/resnet50", "'food101/resnet50'; expected a data set, a"),
    ],
  )
  def test_rejects_unknown_setting(self, setting, expected):
    with pytest.raises(ValueError, match=f"Unknown .*{expected}"):
      paper.get_config(setting)

  def test_two_labels_per_class_and_round_are_all_flowers_after_5_rounds(self):
    config = paper.get_config("oxford_flowers102/dinov2_small14/2x")
    assert config.num_rounds * 2 * 102 == PUBLISHED["oxford_flowers102"][1]


class TestGetPaperConfig:
  @each(
    "dataset, variant, expected",
    [
      ("food101", "", ("vit_small16", 2)),
      ("oxford_flowers102", "", ("vit_small16", 1)),
      ("food101", "resnet50", ("resnet50", 2)),
      ("food101", "1x", ("vit_small16", 1)),
      ("food101", "1x/resnet50", ("resnet50", 1)),
    ],
  )
  def test_leaves_the_published_values(self, dataset, variant, expected):
    config = common.get_paper_config(dataset, variant)
    found = config.model.name, config.selection.budget_per_class
    assert found == expected

  @each(
    "dataset, variant, expected",
    [
      ("cub", "resnet50", "data set of the paper 'cub'"),
      ("food101", "vgg", "variant 'vgg'"),
      ("food101", "3x", "variant '3x'"),
      ("food101", "1x/2x", "variant '1x/2x'"),
      ("food101", "resnet50/", "variant 'resnet50/'"),
    ],
  )
  def test_rejects_unknown_names(self, dataset, variant, expected):
    with pytest.raises(ValueError, match=f"Unknown {expected}; expected"):
      common.get_paper_config(dataset, variant)
