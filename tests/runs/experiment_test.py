"""Tests of decern_jax/runs/experiment.py, on a tiny folder of images."""

import dataclasses
import json
import os
import shutil
from typing import cast

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
import numpy as np
import pytest

from decern_jax import models, strategies
from decern_jax.data import transforms
from decern_jax.features import embedding
from decern_jax.runs import experiment
from decern_jax.runs.config import Config
from decern_jax.runs.round import draw_first_state
from decern_jax.training import head, learner
from decern_jax.training.recipe import Recipe
from tests import tiny
from tests.table import each

NUM_TRAIN, NUM_TEST, NUM_VAL = 8, 6, 1
NUM_CLASSES = len(tiny.CLASSES)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  return tmp_path_factory.mktemp("experiment")


@pytest.fixture(scope="module")
def make_config(folder):
  """Makes a configuration of a tiny run, with changes by dotted name."""
  return tiny.write_inputs(
    folder, num_train=NUM_TRAIN, num_test=NUM_TEST, num_val=NUM_VAL
  )


def split_of(assets: experiment.Assets, name: str) -> learner.PlacedSplit:
  assert assets.splits is not None
  return assets.splits[name]


def train_features(assets: experiment.Assets) -> jax.Array:
  features = split_of(assets, "train").features
  assert isinstance(features, jax.Array)
  return features


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
def assets(make_config):
  return experiment.load(make_config())


class TestLoad:
  def test_has_the_data_and_one_label_per_class(self, assets):
    task = assets.task
    assert assets.dataset.class_names == tiny.CLASSES
    assert task.ids == assets.dataset.train.ids
    assert task.initial_budget == task.budget == NUM_CLASSES
    assert (task.num_rounds, task.num_candidates) == (3, None)
    assert set(assets.splits) == {"train", "val", "test"}
    for name, size in ("train", 8), ("val", 1), ("test", 6):
      part = assets.splits[name]
      assert int(part.valid.sum()) == NUM_CLASSES * size
      assert part.features.shape[1] == 256

  @each(
    "changes, expected",
    [
      ({"initial_budget": 7, "budget": 3}, (7, 3, None)),
      ({"budget_per_class": 2, "budget": 5}, (2 * NUM_CLASSES, 5, None)),
      ({"num_candidates": 4}, (NUM_CLASSES, NUM_CLASSES, 4)),
      ({"initial_budget": 22, "budget": 5}, (22, 5, None)),
    ],
  )
  def test_takes_the_budgets_from_the_configuration(
    self, make_config, changes, expected
  ):
    config = make_config(**{f"selection.{k}": v for k, v in changes.items()})
    task = experiment.load(config).task
    assert (task.initial_budget, task.budget, task.num_candidates) == expected

  @each(
    "initial_budget, budget, num_rounds, expected",
    [
      (4, 4, 50, (4, 8)),
      (5, 4, 50, (5, 7)),
      (31, 2, 50, (31, 1)),
      (30, 2, 50, (30, 2)),
      (40, 4, 50, (32, 1)),
      (4, 4, 3, (4, 3)),
    ],
  )
  def test_asks_people_for_no_more_labels_than_there_are_images(
    self, make_config, assets, initial_budget, budget, num_rounds, expected
  ):
    config = make_config(
      num_rounds=num_rounds,
      dataset__name="unlabeled_folder",
      selection__initial_budget=initial_budget,
      selection__budget=budget,
    )
    task = experiment.load(config, dataset=assets.dataset).task
    assert (task.initial_budget, task.num_rounds) == expected

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
    apply = jax.jit(backbone.apply)
    for position in (0, 31):
      image = transforms.resize_and_center_crop(
        dataset.train.read(position), resize_size=40, image_size=tiny.SIZE
      )
      expected = apply(backbone.variables, image[None])[0]
      # Features have length 1 or so and any sign: near 0 an entry has few
      # digits.
      np.testing.assert_allclose(
        train_features(assets)[position], expected, rtol=1e-4, atol=1e-5
      )

  def test_uses_the_devices_asked_for(
    self, make_config, assets, tmp_path, fake_features
  ):
    changes = {"system.num_devices": 2}
    two = experiment.load(make_config(cache=tmp_path, **changes))
    for found, num_devices in ((two, 2), (assets, 8)):
      sharding = train_features(found).sharding
      assert isinstance(sharding, NamedSharding)
      assert sharding.mesh.size == num_devices

  def test_rejects_more_devices_than_there_are(self, make_config, no_training):
    with pytest.raises(ValueError, match="8 devices, got 9"):
      experiment.load(make_config(**{"system.num_devices": 9}))

  def test_computes_features_once(self, make_config, assets, no_training):
    second = experiment.load(make_config())
    for name, part in assets.splits.items():
      np.testing.assert_array_equal(
        part.features, split_of(second, name).features
      )

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
    self, make_config, assets, folder, changes, monkeypatch, tmp_path
  ):
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

  def test_features_hardly_depend_on_system(
    self, make_config, assets, tmp_path
  ):
    expected = train_features(assets)
    changes = {
      "system.embed_batch_size": 5,
      "system.num_workers": 1,
      "system.num_devices": 1,
    }
    config = make_config(cache=tmp_path, **changes)
    actual = train_features(experiment.load(config))
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
    assert assets.splits is None
    assert any(jax.tree.leaves(assets.mask))
    # This model has no batch normalisation.
    assert not assets.use_batch_statistics

  def test_says_that_augmented_images_have_no_cached_features(
    self, make_config, caplog
  ):
    assets = experiment.load(make_config(**{"train.augment": True}))
    assert assets.splits is not None
    assert "every epoch computes the features" in caplog.text

  def test_says_nothing_where_they_are_cached(
    self, make_config, assets, caplog
  ):
    experiment.load(make_config())
    assert not caplog.records

  def test_draws_weights_from_their_seed(
    self, make_config, monkeypatch, no_training
  ):
    """A backbone that was never trained, to compare with."""
    asked = []

    def draw(name, **options):
      asked.append((name, options["weights"], options["seed"]))
      raise KeyboardInterrupt

    monkeypatch.setattr(models, "create", draw)
    config = make_config(model__weights="random", model__weights_seed=7)
    with pytest.raises(KeyboardInterrupt):
      experiment.load(config)
    assert asked == [("small_cnn", "random", 7)]

  def test_rejects_weights_of_another_model(self, make_config, no_training):
    with pytest.raises(ValueError, match="got those of another model"):
      experiment.load(make_config(**{"model.name": "mobilenet_v2"}))

  def test_rejects_missing_weights(self, make_config, no_training):
    with pytest.raises(ValueError, match=r"/nowhere/w\.safetensors"):
      experiment.load(
        make_config(**{"model.weights": "/nowhere/w.safetensors"})
      )


class TestWithLabels:
  @each("num_labels, capacity", [(3, 12), (12, 12), (13, 16), (17, 32)])
  def test_has_room_for_them_in_few_sizes(self, assets, num_labels, capacity):
    labels = assets.dataset.train.labels
    found = experiment.with_labels(
      assets, tiny.CLASSES, labels, num_labels=num_labels
    )
    assert found.task.capacity == capacity

  def test_changes_labels_classes_and_what_identifies_the_data(self, assets):
    names, labels = ("no", "yes"), np.arange(32, dtype=np.int32) % 2
    found = experiment.with_labels(assets, names, labels, num_labels=2)
    assert found.dataset.class_names == names
    train = split_of(found, "train")
    np.testing.assert_array_equal(train.labels[:32], labels)
    assert found.task.label_counts is None
    assert not found.is_multi_label
    differing = {k for k, v in assets.digest.items() if found.digest[k] != v}
    assert differing == {"class_names", "train"}

  def test_knows_several_labels_per_image(self, assets):
    labels = np.arange(64, dtype=np.int32).reshape(32, 2) % 3 % 2
    found = experiment.with_labels(assets, ("a", "b"), labels, num_labels=2)
    assert found.is_multi_label
    assert found.digest["is_multi_label"] is True
    np.testing.assert_array_equal(found.task.label_counts, labels.sum(0))


class TestFirstFeatures:
  def test_are_those_of_the_cache(self, make_config, assets):
    indices = np.array([31, 0])
    found = experiment.first_features(make_config(), assets, indices)
    expected = np.asarray(assets.splits["train"].features)[indices]
    np.testing.assert_array_equal(found, expected)

  def test_are_computed_where_the_backbone_trains(
    self, make_config, assets, fake_features
  ):
    without = dataclasses.replace(assets, splits=None)
    indices = np.array([31, 0])
    found = experiment.first_features(make_config(), without, indices)
    assert found.shape == (2, 3)
    assert found.std() > 0


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


class Recorded:
  """A configuration that notes which of its fields are read."""

  def __init__(self, config, reads: set[str], prefix: str = ""):
    self._config = config
    self._reads = reads
    self._prefix = prefix

  def __getitem__(self, name: str):
    value = self._config[name]
    if hasattr(value, "to_dict"):
      return Recorded(value, self._reads, f"{self._prefix}{name}.")
    self._reads.add(f"{self._prefix}{name}")
    return value

  __getattr__ = __getitem__


class TestFields:
  def test_every_field_is_read_for_more_than_its_check(
    self, make_config, tmp_path
  ):
    config = make_config(
      **{
        "num_rounds": 1,
        "selection.strategy": "decern",
        "train.scope": "published",
        "train.num_epochs": 1,
        "train.warmup_epochs": 1,
      }
    )
    reads = set()
    recorded = cast(Config, Recorded(config, reads))
    assets = experiment.load(recorded)
    built = experiment.build(recorded, assets, seed=1, workdir=tmp_path)
    built.advance(built.init())
    unread = {name for name, _ in tiny.leaves(config.to_dict())} - reads
    # The commands go through the lists; an experiment has one entry of each.
    others = strategies.STRATEGIES.values()
    options = {
      f"selection.options.{name}" for row in others for name in row.option_names
    }
    decern = strategies.STRATEGIES["decern"]
    options -= {f"selection.options.{name}" for name in decern.option_names}
    # Read with a pool that is thinned, and with features that all rounds share.
    options |= {
      "dataset.long_tail_seed",
      "system.pool_on_host",
      "train.method",
    }
    # Read where labels come from people.
    options |= {"labels.class_names", "labels.formats"}
    assert unread == {"seeds", "strategies"} | options


class TestBuild:
  def test_starts_with_a_random_initial_set(
    self, make_config, assets, tmp_path
  ):
    built = experiment.build(make_config(), assets, seed=3, workdir=tmp_path)
    expected = draw_first_state(assets.task, seed=3)
    np.testing.assert_array_equal(built.init().labeled_at, expected.labeled_at)

  def test_runs_rounds_to_the_end(self, make_config, assets, tmp_path):
    built = experiment.build(
      make_config(num_rounds=3), assets, seed=3, workdir=tmp_path
    )
    state, records = built.init(), []
    for _ in range(3):
      state, record = built.advance(state)
      records.append(record)
    assert [record["num_labeled"] for record in records] == [4, 8, 12]
    assert [len(record["selected"]) for record in records] == [4, 4, 0]

  @each(
    "name, options",
    [
      ("decern", {"uncertainty_gamma": 0.25, "diversity_gamma": 0.75}),
      ("margin", {}),
    ],
  )
  def test_gives_a_strategy_its_options(
    self, make_config, assets, name, options, monkeypatch, tmp_path
  ):
    seen = []

    def select(key, pool, **options):
      seen.append(options)
      positions = np.flatnonzero(np.asarray(pool.candidates))
      first = jnp.asarray(positions[: options["budget"]])
      return strategies.Selection(first, None)

    row = dataclasses.replace(strategies.STRATEGIES[name], select=select)
    monkeypatch.setitem(strategies.STRATEGIES, name, row)
    config = make_config(
      **{
        "selection.strategy": name,
        "selection.options.uncertainty_gamma": 0.25,
        "selection.options.diversity_gamma": 0.75,
      }
    )
    built = experiment.build(config, assets, seed=1, workdir=tmp_path)
    built.advance(built.init())
    assert seen == [{"budget": 4, **options}]

  def test_trains_as_configured(
    self, make_config, assets, monkeypatch, tmp_path
  ):
    seen, fit = [], head.fit_head

    def note(*args, recipe):
      seen.append(recipe)
      return fit(*args, recipe=recipe)

    monkeypatch.setattr(head, "fit_head", note)
    values = {
      "num_epochs": 7,
      "batch_size": 3,
      "learning_rate": 0.25,
      "warmup_epochs": 2,
      "warmup_learning_rate": 0.125,
      "final_learning_rate": 0.0625,
      "steps_per_epoch": 2,
      "optimizer": "lars",
      "weight_decay": 0.125,
    }
    config = make_config(**{f"train.{k}": v for k, v in values.items()})
    built = experiment.build(config, assets, seed=1, workdir=tmp_path)
    built.advance(built.init())
    assert seen[0] == Recipe(**values)
