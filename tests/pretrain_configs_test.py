"""Tests of configs/pretrain_*.py."""

import importlib
import re

from configs import common, pretrain_common
from decern_jax.runs import pretraining
from tests import tiny
from tests.table import each

FILES = sorted(
  path.stem
  for path in (tiny.ROOT / "configs").glob("pretrain_*.py")
  if path.stem != "pretrain_common"
)
each_file = each("name", FILES)
COMMON = dict(tiny.leaves(pretrain_common.get_config().to_dict()))


def load(name):
  return importlib.import_module(f"configs.{name}")


def docstring_of(name: str) -> str:
  """Returns the docstring of a configuration's file."""
  docstring = load(name).__doc__
  assert docstring is not None
  return docstring


class TestPretrainCommon:
  def test_has_no_field_that_a_flag_cannot_set(self):
    """A list cannot be overridden; a tuple can."""
    lists = [name for name, value in COMMON.items() if isinstance(value, list)]
    assert lists == []

  def test_has_the_published_values(self):
    assert COMMON["pretrain.temperature"] == 0.2
    assert COMMON["pretrain.off_diagonal_weight"] == 0.0051
    assert COMMON["pretrain.momentum"] == 0.999

  def test_opens_data_by_the_fields_of_all_configurations(self):
    found = set(pretrain_common.get_config().dataset)
    assert found == set(common.get_config().dataset)

  def test_names_no_data(self):
    assert COMMON["dataset.name"] is None

  def test_each_call_makes_a_new_one(self):
    pretrain_common.get_config().train.num_epochs = 1
    assert pretrain_common.get_config().train.num_epochs == 200


class TestGetConfig:
  @each_file
  def test_invents_no_field_and_keeps_types(self, name):
    found = dict(tiny.leaves(load(name).get_config().to_dict()))
    assert set(found) == set(COMMON)
    for field, value in found.items():
      if COMMON[field] is not None:
        assert type(value) is type(COMMON[field]), field

  @each_file
  def test_has_values_in_range(self, name):
    pretraining.check(load(name).get_config().lock())

  @each_file
  def test_leaves_where_and_how_to_run_alone(self, name):
    config = load(name).get_config()
    assert config.system == pretrain_common.get_config().system

  @each_file
  def test_docstring_has_the_command(self, name):
    text = re.sub(r"\s*\\\n\s*", " ", docstring_of(name))
    line = re.findall(r"^  python -m decern_jax\.pretrain (.*)$", text, re.M)[0]
    file, *overrides = re.findall(r"--([\w.]+)=(\S+)", line)
    assert file == ("config", f"configs/{name}.py")
    config = load(name).get_config()
    for field, value in overrides:
      if field.startswith("config."):
        config.update_from_flattened_dict(
          {field.removeprefix("config."): value}
        )
    assert "workdir" in dict(overrides)
    pretraining.check(config.lock())
