"""Tests of configs/."""

import importlib
import pathlib
import re

import pytest

from configs import common, pretrain_common
from decern_jax.data import sources
from decern_jax.models import MODELS
from decern_jax.runs import check, pretraining
from tests import tiny
from tests.table import each

ALL_FILES = sorted(
  path.stem
  for path in (tiny.ROOT / "configs").glob("*.py")
  if path.stem not in ("__init__", "common", "pretrain_common")
)
PRETRAIN_FILES = [name for name in ALL_FILES if name.startswith("pretrain_")]
FILES = [name for name in ALL_FILES if name not in PRETRAIN_FILES]
each_file = each("name", FILES)


def load(name: str):
  return importlib.import_module(f"configs.{name}")


def docstring_of(name: str) -> str:
  """Returns the docstring of a configuration's file."""
  docstring = load(name).__doc__
  assert docstring is not None
  return docstring


def common_of(name: str):
  """Returns the file of all fields of a configuration."""
  return pretrain_common if name in PRETRAIN_FILES else common


def fields_of(module) -> dict:
  return dict(tiny.leaves(module.get_config().to_dict()))


COMMON = fields_of(common)


class TestCommon:
  @each("module", [common, pretrain_common])
  def test_has_no_field_that_a_flag_cannot_set(self, module):
    """A list cannot be overridden; a tuple can."""
    fields = fields_of(module)
    lists = [name for name, value in fields.items() if isinstance(value, list)]
    assert lists == []

  def test_names_neither_data_nor_model(self):
    assert COMMON["dataset.name"] is None
    assert COMMON["model.name"] is None

  def test_trains_as_published(self):
    train = {
      name.removeprefix("train."): value
      for name, value in COMMON.items()
      if name.startswith("train.")
    }
    assert train == {
      "method": "supervised",
      "scope": "head",
      "augment": False,
      "freeze_batch_norm": False,
      "num_epochs": 200,
      "steps_per_epoch": None,
      "batch_size": 128,
      "optimizer": "adamw",
      "weight_decay": 0.0,
      "learning_rate": 1e-3,
      "warmup_epochs": 5,
      "warmup_learning_rate": 1e-6,
      "final_learning_rate": 1e-5,
    }
    assert COMMON["selection.options.uncertainty_gamma"] == 0.5
    assert COMMON["selection.options.diversity_gamma"] == 0.8

  @each("module", [common, pretrain_common])
  def test_each_call_makes_a_new_one(self, module):
    module.get_config().train.num_epochs = 1
    assert module.get_config().train.num_epochs == 200

  def test_misspelled_field_is_refused_once_locked(self):
    config = common.get_config().lock()
    with pytest.raises(AttributeError, match="learning_rate"):
      config.train.learning_rat = 1.0


class TestPretrainCommon:
  def test_has_the_published_values(self):
    fields = fields_of(pretrain_common)
    assert fields["pretrain.temperature"] == 0.2
    assert fields["pretrain.off_diagonal_weight"] == 0.0051
    assert fields["pretrain.momentum"] == 0.999

  def test_opens_data_by_the_fields_of_all_configurations(self):
    found = set(pretrain_common.get_config().dataset)
    assert found == set(common.get_config().dataset)

  def test_names_no_data(self):
    assert pretrain_common.get_config().dataset.name is None


class TestGetConfig:
  @each("name", ALL_FILES)
  def test_invents_no_field_and_keeps_types(self, name):
    found, expected = fields_of(load(name)), fields_of(common_of(name))
    assert set(found) == set(expected)
    for field, value in found.items():
      if expected[field] is not None:
        assert type(value) is type(expected[field]), field

  @each("name", ALL_FILES)
  def test_has_values_in_range(self, name):
    checker = pretraining if name in PRETRAIN_FILES else check
    checker.check(load(name).get_config().lock())

  @each("name", ALL_FILES)
  def test_leaves_where_and_how_to_run_alone(self, name):
    expected = common_of(name).get_config().system
    assert load(name).get_config().system == expected

  @each_file
  def test_docstring_has_the_command(self, name):
    text = re.sub(r"\s*\\\n\s*", " ", docstring_of(name))
    command = re.findall(r"^  decern-jax run (.*)$", text, re.M)[0]
    file, *overrides = re.findall(r"--([\w.]+)=(\S+(?: \d+\)\")*)", command)
    assert file[0] == "config"
    assert file[1].partition(":")[0] == name
    for flag, _ in overrides:
      assert flag.removeprefix("config.") in COMMON

  @each("name", PRETRAIN_FILES)
  def test_docstring_has_the_command_of_pretraining(self, name):
    text = re.sub(r"\s*\\\n\s*", " ", docstring_of(name))
    line = re.findall(r"^  decern-jax pretrain (.*)$", text, re.M)[0]
    file, *overrides = re.findall(r"--([\w.]+)=(\S+)", line)
    assert file == ("config", name)
    config = load(name).get_config()
    for field, value in overrides:
      if field.startswith("config."):
        config.update_from_flattened_dict(
          {field.removeprefix("config."): value}
        )
    assert "workdir" in dict(overrides)
    pretraining.check(config.lock())

  @each_file
  def test_docstring_names_what_the_user_must_set(self, name):
    config, docstring = load(name).get_config(), docstring_of(name)
    assert config.dataset.name is not None
    assert config.model.name is not None
    if (
      config.model.weights is None
      and MODELS[config.model.name].packaged is None
    ):
      assert "--config.model.weights=" in docstring
    if config.dataset.name == "image_folder":
      assert "--config.dataset.path=" in docstring
    if sources.DATASETS[config.dataset.name].tfds_name and name != "paper":
      assert f"decern-jax prepare {config.dataset.name}`" in docstring

  def test_there_is_one_for_every_use(self):
    assert {"quickstart", "image_folder", "cub"} <= set(FILES)

  def test_quickstart_needs_nothing(self):
    config = load("quickstart").get_config()
    assert config.dataset.path is None
    assert config.model.weights is None

  def test_files_hold_no_path_of_a_machine(self):
    for path in pathlib.Path(tiny.ROOT / "configs").glob("*.py"):
      assert not re.search(r"[\"' =](/|~/)\w", path.read_text()), path
