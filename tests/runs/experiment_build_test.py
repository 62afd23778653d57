"""Tests of decern_jax/runs/experiment.py, on a tiny folder of images."""

import functools

import numpy as np
import pytest

from decern_jax import strategies
from decern_jax.runs import experiment
from decern_jax.runs.round import draw_first_state
from decern_jax.training import frozen
from decern_jax.training.recipe import Recipe
from tests import tiny
from tests.table import each


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """Data, weights and a cache that all tests of this file share."""
  folder = tmp_path_factory.mktemp("experiment")
  tiny.write_image_folder(folder / "data", num_train=8, num_test=6, num_val=1)
  tiny.write_weights(folder / "weights.safetensors")
  return folder


@pytest.fixture
def make_config(folder):
  """Makes a configuration of a tiny run, with changes by dotted name."""
  return functools.partial(
    tiny.make_config,
    folder / "data",
    folder / "weights.safetensors",
    folder / "cache",
  )


@pytest.fixture(scope="module")
def assets(folder):
  config = tiny.make_config(
    folder / "data", folder / "weights.safetensors", folder / "cache"
  )
  return experiment.load(config)


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
    recorded = Recorded(config, reads)
    assets = experiment.load(recorded)
    built = experiment.build(recorded, assets, seed=1, workdir=tmp_path)
    built.advance(built.init())
    unread = {name for name, _ in tiny.leaves(config.to_dict())} - reads
    # The commands go through the lists; one experiment has one of each.
    others = strategies.STRATEGIES.values()
    options = {f"selection.{name}" for row in others for name in row.options}
    options -= {"selection.uncertainty_gamma", "selection.diversity_gamma"}
    # Read with a pool that is thinned, and with features that all rounds share.
    options |= {"dataset.long_tail_seed", "system.pool_on_host"}
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
      return strategies.Selection(positions[: options["budget"]], None)

    row = strategies.STRATEGIES[name]._replace(select=select)
    monkeypatch.setitem(strategies.STRATEGIES, name, row)
    config = make_config(
      **{
        "selection.strategy": name,
        "selection.uncertainty_gamma": 0.25,
        "selection.diversity_gamma": 0.75,
      }
    )
    built = experiment.build(config, assets, seed=1, workdir=tmp_path)
    built.advance(built.init())
    assert seen == [{"budget": 4, **options}]

  def test_trains_as_configured(
    self, make_config, assets, monkeypatch, tmp_path
  ):
    seen, fit = [], frozen.fit_head

    def note(*args, recipe):
      seen.append(recipe)
      return fit(*args, recipe=recipe)

    monkeypatch.setattr(frozen, "fit_head", note)
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
