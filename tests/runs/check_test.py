"""Tests of decern_jax/runs/check.py."""

import pathlib
from typing import Any, cast

from ml_collections import config_dict
import numpy as np
import pytest

from decern_jax import models, strategies
from decern_jax.data import sources, transforms
from decern_jax.io import storage
from decern_jax.runs import check
from decern_jax.runs.config import Config
from decern_jax.training.recipe import METHODS, OPTIMIZERS
from tests import tiny
from tests.table import each

HUB = "hf://timm/vit_small_patch16_224.dino"
NOWHERE = pathlib.Path("/nowhere")


def make_config(**changes) -> config_dict.ConfigDict:
  """Makes a configuration of data and weights that do not exist."""
  return tiny.make_config(NOWHERE, NOWHERE, NOWHERE, **changes)


def check_config(config: config_dict.ConfigDict) -> None:
  check.check(cast(Config, config))


OUT_OF_RANGE = [
  ("num_rounds", 0, "1 <= `num_rounds`, got 0"),
  ("num_rounds", -3, "`num_rounds`, got -3"),
  ("seeds", (), r"at least one, got \(\)"),
  ("seeds", (1, 11, 1), r"distinct `seeds`.*got \(1, 11, 1\)"),
  ("seeds", (-1,), "`seeds` <= 4294967295, got -1"),
  ("seeds", (2**32,), "`seeds` <= 4294967295, got 4294967296"),
  ("seeds", (1.5,), "an integer .*`seeds`.* got 1.5"),
  ("seeds", ("a",), "an integer .*`seeds`.* got 'a'"),
  ("dataset.image_size", 31, "32 <= `dataset.image_size`, got 31"),
  ("dataset.resize_size", 31, "32 <= `dataset.resize_size`, got 31"),
  ("dataset.test_share", 0.0, "`dataset.test_share` .*got 0.0"),
  ("dataset.test_share", 1.0, "`dataset.test_share` .*got 1.0"),
  ("dataset.split_seed", -1, "0 <= `dataset.split_seed`, got -1"),
  ("dataset.long_tail_seed", -1, "0 <= `dataset.long_tail_seed`, got -1"),
  ("dataset.long_tail_ratio", 0.5, "`dataset.long_tail_ratio` .*got 0.5"),
  ("dataset.band_range", (1.0,), r"band_range` as .*got \(1.0,\)"),
  ("model.weights_seed", -1, "0 <= `model.weights_seed` <= 4294967295, got -1"),
  ("train.num_epochs", 0, "1 <= `train.num_epochs`, got 0"),
  ("train.steps_per_epoch", 0, "1 <= `train.steps_per_epoch`, got 0"),
  ("train.batch_size", 0, "1 <= `train.batch_size`, got 0"),
  ("train.learning_rate", 0.0, "`train.learning_rate` .*got 0.0"),
  ("train.learning_rate", -0.1, "`train.learning_rate` .*got -0.1"),
  ("train.learning_rate", np.inf, "`train.learning_rate`, got inf"),
  ("train.learning_rate", np.nan, "`train.learning_rate`, got nan"),
  ("train.weight_decay", -1.0, "`train.weight_decay`.*got -1.0"),
  ("train.warmup_epochs", -1, "0 <= `train.warmup_epochs`, got -1"),
  ("train.warmup_epochs", 21, "`train.warmup_epochs` <= 20, got 21"),
  ("train.warmup_learning_rate", -1e-9, "warmup_learning_rate.*got -1e-09"),
  ("train.warmup_learning_rate", 0.5, "warmup_learning_rate` <= .*got 0.5"),
  ("train.final_learning_rate", -1e-9, "final_learning_rate.*got -1e-09"),
  ("train.final_learning_rate", 0.5, "final_learning_rate` <= .*got 0.5"),
  ("selection.initial_budget", 0, "1 <= `selection.initial_budget`, got 0"),
  ("selection.budget", 0, "1 <= `selection.budget`, got 0"),
  ("selection.budget", -5, "1 <= `selection.budget`, got -5"),
  ("selection.budget_per_class", 0, "1 <= `selection.budget_per_class`, got 0"),
  ("selection.num_candidates", 0, "1 <= `selection.num_candidates`, got 0"),
  ("selection.options.uncertainty_gamma", np.nan, "gamma`, got nan"),
  ("selection.options.diversity_gamma", 1.1, "gamma` <= 1.0, got 1.1"),
  ("selection.options.num_dropout_passes", 1, "2 <= .*passes`, got 1"),
  ("selection.options.cluster_pick", "best", "Unknown `.*pick` 'best'"),
  ("system.embed_batch_size", 0, "1 <= `system.embed_batch_size`, got 0"),
  ("system.num_workers", 0, "1 <= `system.num_workers`, got 0"),
  ("system.num_devices", 0, "1 <= `system.num_devices`, got 0"),
  ("system.checkpoint_seconds", -1.0, "checkpoint_seconds` .*got -1.0"),
  ("system.checkpoint_seconds", np.nan, "checkpoint_seconds`, got nan"),
]
UNKNOWN = [
  ("selection.strategy", "decren", "strategy", strategies.STRATEGIES),
  ("dataset.name", "cifar", "dataset", sources.DATASETS),
  ("model.name", "resnet", "model", models.MODELS),
  ("model.dtype", "float16", "dtype", models.DTYPES),
  ("train.scope", "last", "training scope", models.SCOPES),
  ("train.method", "propagate", "training method", METHODS),
  ("train.optimizer", "adamv", "optimizer", OPTIMIZERS),
  (
    "dataset.interpolation",
    "nearest",
    "interpolation",
    transforms.INTERPOLATIONS,
  ),
]
IN_RANGE = [
  {"num_rounds": 1},
  {"seeds": (0, 2**32 - 1)},
  {"dataset.resize_size": 32, "dataset.image_size": 32},
  {"train.warmup_epochs": 0},
  {"train.warmup_epochs": 20},
  {"train.final_learning_rate": 0.0, "train.warmup_learning_rate": 0.0},
  {"selection.budget": 1, "selection.initial_budget": 1},
  {"selection.options.uncertainty_gamma": -2.0},
  {"selection.options.diversity_gamma": 0.0},
  {"selection.options.diversity_gamma": 1.0},
  {"selection.budget_per_class": 1, "selection.num_candidates": 1},
  {"system.num_workers": 1, "system.num_devices": 1},
  {"system.checkpoint_seconds": 0.0},
]


class TestCheck:
  @each("name, value, message", OUT_OF_RANGE)
  def test_rejects_value_out_of_range(self, name, value, message):
    with pytest.raises(ValueError, match=message):
      check_config(make_config(**{name: value}))

  @each("changes", IN_RANGE)
  def test_accepts_the_ends_of_the_ranges(self, changes):
    check_config(make_config(**changes))

  @each("name, value, kind, known", UNKNOWN)
  def test_lists_what_is_known(self, name, value, kind, known):
    with pytest.raises(ValueError, match=f"Unknown {kind} '{value}'") as error:
      check_config(make_config(**{name: value}))
    assert str(sorted(known)) in str(error.value)

  @each("name", ["dataset.name", "model.name"])
  def test_lists_what_is_known_where_nothing_is_chosen(self, name):
    config = make_config().copy_and_resolve_references()
    name, field = name.split(".")
    section: Any = config[name]
    with config.unlocked():
      section[field] = None
    with pytest.raises(ValueError, match=r"Unknown \w+ None; expected one of"):
      check_config(config)

  @each(
    "name, value, message",
    [
      ("train.augment", 1, "Expected `train.augment` True or False, got 1"),
      ("dataset.path", 3, "Expected `dataset.path` text, got 3"),
      ("dataset.binary_columns", (1,), "`dataset.binary_columns` text, got 1"),
      ("seeds", 1, "Expected `seeds` a tuple, got 1"),
      ("num_rounds", None, "an integer 1 <= `num_rounds`, got None"),
    ],
  )
  def test_rejects_value_of_another_type(self, name, value, message):
    config = make_config().copy_and_resolve_references()
    *path, field = name.split(".")
    section: Any = config[path[0]] if path else config
    with config.unlocked(), section.ignore_type():
      section[field] = value
    with pytest.raises(ValueError, match=message):
      check_config(config)

  @each(
    "model, scope, augment, is_fixed",
    [
      ("mobilenet_v2", "head", False, True),
      ("dinov2_small14", "published", False, True),
      ("mobilenet_v2", "head", True, False),
      ("mobilenet_v2", "published", False, False),
      ("dinov2_small14", "all", False, False),
    ],
  )
  def test_other_methods_need_fixed_features(
    self, model, scope, augment, is_fixed
  ):
    changes = {
      "model.name": model,
      "train.scope": scope,
      "train.augment": augment,
    }
    check_config(make_config(**changes))
    for method in ("logistic", "propagation"):
      config = make_config(**changes, **{"train.method": method})
      if is_fixed:
        check_config(config)
        continue
      with pytest.raises(ValueError, match=f"'supervised'.*got '{method}'"):
        check_config(config)

  def test_rejects_image_larger_than_resized(self):
    config = make_config(
      **{"dataset.resize_size": 40, "dataset.image_size": 48}
    )
    with pytest.raises(ValueError, match="48 <= `dataset.resize_size`, got 40"):
      check_config(config)

  @each("weights, are_a_path", [("gs://b/w.safetensors", True), (HUB, False)])
  def test_asks_the_stores_of_all_paths(self, weights, are_a_path, monkeypatch):
    asked = []
    monkeypatch.setattr(storage, "check_reachable", asked.append)
    changes = {"dataset.path": "gs://b/data", "system.cache_dir": "gs://b/c"}
    check_config(make_config(**{"model.weights": weights, **changes}))
    paths = {*changes.values(), *([weights] if are_a_path else [])}
    assert set(asked) == paths

  def test_opens_neither_data_nor_weights(self):
    check_config(make_config())

  def test_has_a_test_for_every_number(self):
    """A new field of a number needs a range, and a line in this file.

    The ranges of options are tested with the strategies, which declare them.
    """
    tested = {name for name, *_ in OUT_OF_RANGE}
    for name, value in tiny.leaves(make_config().to_dict()):
      if name.startswith("selection.options."):
        continue
      if isinstance(value, int | float) and not isinstance(value, bool):
        assert name in tested
