"""Tests of decern_jax/cli/compare.py, on a tiny folder of images."""

import json

from etils import epath
import pytest

from configs import pretrain_common
from decern_jax.cli import compare, pretrain
from decern_jax.pretraining import loop
from decern_jax.runs import experiment, records, runner
from tests import tiny
from tests.table import each

STRATEGIES = ("margin", "random")
SEEDS = (1, 11)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp("compare")
  tiny.write_image_folder(folder / "data")
  tiny.write_weights(folder / "weights.safetensors")
  return folder


@pytest.fixture
def make_config(folder):
  def make(**changes):
    return tiny.make_config(
      folder / "data",
      folder / "weights.safetensors",
      folder / "cache",
      **{"seeds": SEEDS, "strategies": STRATEGIES, **changes},
    )

  return make


@pytest.fixture
def start(make_config, tmp_path):
  def run(*, photos: bool = True, **changes):
    parent = epath.Path(tmp_path / "runs")
    return compare.compare(make_config(**changes), parent, photos=photos)

  return run


class TestCompare:
  def test_runs_every_strategy_with_every_seed(self, start, tmp_path):
    page = start()
    for strategy in STRATEGIES:
      for seed in SEEDS:
        found = records.read(tmp_path / "runs" / strategy / f"seed{seed}")
        assert [record["num_labeled"] for record in found] == [4, 8, 12]
    assert page.is_file()
    text = page.read_text()
    assert all(strategy in text for strategy in STRATEGIES)

  def test_runs_only_what_is_missing(self, start, tmp_path, monkeypatch):
    start(seeds=(1,))
    asked, build = [], experiment.build

    def note(config, assets, *, seed, workdir):
      asked.append((config.selection.strategy, seed))
      return build(config, assets, seed=seed, workdir=workdir)

    monkeypatch.setattr(experiment, "build", note)
    start()
    assert asked == [("margin", 11), ("random", 11)]
    asked.clear()
    start()
    assert asked == []

  def test_goes_on_where_it_was_interrupted(self, start, monkeypatch):
    run_seed = runner._run_seed

    def stop(config, assets, seed, folder, report):
      if (config.selection.strategy, seed) == ("random", 1):
        raise KeyboardInterrupt
      run_seed(config, assets, seed, folder, report)

    with monkeypatch.context() as patch:
      patch.setattr(runner, "_run_seed", stop)
      with pytest.raises(KeyboardInterrupt):
        start()
    assert start().is_file()

  def test_opens_the_data_once(self, start, monkeypatch):
    calls, load = [], experiment.load

    def note(config):
      calls.append(config.selection.strategy)
      return load(config)

    monkeypatch.setattr(experiment, "load", note)
    start()
    assert calls == ["margin"]

  def test_strategies_share_the_first_round(self, start, tmp_path):
    start(seeds=(1,))
    first, second = (
      records.read(tmp_path / "runs" / strategy / "seed1")[0]
      for strategy in STRATEGIES
    )
    assert first["test"] == second["test"]
    assert first["train"] == second["train"]

  def test_refuses_images_without_labels(self, start, tmp_path):
    message = "a data set with labels.*'unlabeled_folder'.*decern_jax.main"
    with pytest.raises(ValueError, match=message):
      start(dataset__name="unlabeled_folder")
    assert not (tmp_path / "runs" / "margin").exists()

  def test_leaves_photos_out_when_asked_to(self, start):
    assert len(start(photos=False).read_text()) < len(start().read_text())

  @each(
    "strategies, message",
    [
      ((), r"distinct `strategies`, at least one, got \(\)"),
      (("margin", "margin"), r"distinct `strategies`.*'margin'"),
      (("margin", "oracle"), "Unknown strategy 'oracle'; expected"),
    ],
  )
  def test_rejects_strategies_before_any_work(
    self, start, tmp_path, strategies, message
  ):
    with pytest.raises(ValueError, match=message):
      start(strategies=strategies)
    assert not (tmp_path / "runs").exists()


class TestPretrainedConfig:
  @pytest.fixture
  def make_pretraining(self, folder):
    def make(**changes):
      config = pretrain_common.get_config()
      values = {
        "dataset.name": "image_folder",
        "dataset.path": str(folder / "data"),
        "dataset.resize_size": tiny.SIZE,
        "dataset.image_size": tiny.SIZE,
        "model.name": "small_cnn",
        "pretrain.projector": (8,),
        "train.num_epochs": 1,
        "train.warmup_epochs": 0,
        "train.batch_size": 8,
        "probe.every_epochs": 0,
        "system.num_devices": 1,
        "system.num_workers": 2,
        "system.cache_dir": str(folder / "cache"),
      }
      config.update_from_flattened_dict({**values, **changes})
      return config.lock()

    return make

  def test_runs_start_from_what_was_pretrained(
    self, make_config, make_pretraining, tmp_path, monkeypatch
  ):
    where = epath.Path(tmp_path / "pretrain")
    config = compare.pretrained_config(
      make_config(seeds=(1,)), make_pretraining(), where
    )
    assert config.model.weights == str(where / pretrain.WEIGHTS_FILE)
    compare.compare(config, epath.Path(tmp_path / "runs"), photos=False)
    settings = json.loads(
      (tmp_path / "runs" / "random" / "seed1" / "config.json").read_text()
    )
    assert settings["model.weights"] == config.model.weights
    # Once: the second command finds it.
    monkeypatch.setattr(loop, "run", None)
    again = compare.pretrained_config(
      make_config(seeds=(1,)), make_pretraining(), where
    )
    assert again.model.weights == config.model.weights

  @each(
    "changes, pretraining, message",
    [
      ({}, {"model.name": "resnet18"}, "got 'small_cnn' and 'resnet18'"),
      ({"strategies": ("oracle",)}, {}, "Unknown strategy 'oracle'"),
      ({"train__num_epochs": 0}, {}, "1 <= `train.num_epochs`, got 0"),
    ],
  )
  def test_tells_mistakes_before_any_work(
    self, make_config, make_pretraining, tmp_path, changes, pretraining, message
  ):
    where = epath.Path(tmp_path / "pretrain")
    with pytest.raises(ValueError, match=message):
      compare.pretrained_config(
        make_config(**changes), make_pretraining(**pretraining), where
      )
    assert not where.exists()
