"""Tests of decern_jax/cli/compare.py, on a tiny folder of images."""

import functools
import pathlib
import shutil

from etils import epath
import pytest

from configs import pretrain_common
from decern_jax.cli import compare, pretrain
from decern_jax.runs import experiment, records, runner
from tests import tiny
from tests.table import each

STRATEGIES = ("margin", "random")
SEEDS = (1, 11)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  return tmp_path_factory.mktemp("compare")


@pytest.fixture(scope="module")
def make_config(folder):
  make = tiny.write_inputs(folder)
  return functools.partial(make, seeds=SEEDS, strategies=STRATEGIES)


@pytest.fixture(scope="module")
def whole(make_config, folder) -> pathlib.Path:
  """The folder of a comparison of which everything is done."""
  compare.compare(make_config(), epath.Path(folder / "runs"), photos=True)
  return folder / "runs"


@pytest.fixture
def begun(whole, tmp_path) -> pathlib.Path:
  """A copy of it without the second seed, and without a report."""
  runs = shutil.copytree(whole, tmp_path / "runs")
  for folder in ("margin/seed11", "random/seed11", "report"):
    shutil.rmtree(runs / folder)
  return runs


@pytest.fixture
def start(make_config, tmp_path):
  """Compares in `tmp_path / "runs"`, with changes by dotted name."""

  def run(*, photos: bool = True, **changes):
    parent = epath.Path(tmp_path / "runs")
    return compare.compare(make_config(**changes), parent, photos=photos)

  return run


class TestCompare:
  def test_runs_every_strategy_with_every_seed(self, whole):
    for strategy in STRATEGIES:
      for seed in SEEDS:
        found = records.read(whole / strategy / f"seed{seed}")
        assert [record["num_labeled"] for record in found] == [4, 8, 12]
    text = (whole / "report" / "report.html").read_text()
    assert all(strategy in text for strategy in STRATEGIES)

  def test_strategies_share_the_first_round(self, whole):
    first, second = (
      records.read(whole / strategy / "seed1")[0] for strategy in STRATEGIES
    )
    assert first["test"] == second["test"]
    assert first["train"] == second["train"]

  def test_runs_only_what_is_missing_and_opens_the_data_once(
    self, start, begun, monkeypatch
  ):
    asked, build, loads, load = [], experiment.build, [], experiment.load

    def note(config, assets, *, seed, workdir):
      asked.append((config.selection.strategy, seed))
      return build(config, assets, seed=seed, workdir=workdir)

    def note_load(config):
      loads.append(config.selection.strategy)
      return load(config)

    monkeypatch.setattr(experiment, "build", note)
    monkeypatch.setattr(experiment, "load", note_load)
    start()
    assert asked == [("margin", 11), ("random", 11)]
    assert loads == ["margin"]

  def test_goes_on_where_it_was_interrupted(self, start, begun, monkeypatch):
    run_seed = runner._run_seed

    def stop(config, assets, seed, folder, report):
      if config.selection.strategy == "random":
        raise KeyboardInterrupt
      run_seed(config, assets, seed, folder, report)

    with monkeypatch.context() as patch:
      patch.setattr(runner, "_run_seed", stop)
      with pytest.raises(KeyboardInterrupt):
        start()
    assert (begun / "margin" / "seed11" / "learning_curve.png").exists()
    page = begun / "report" / "report.html"
    assert not page.exists()
    start()
    assert page.is_file()

  def test_writes_the_report_of_finished_runs_without_photos(
    self, start, whole, tmp_path, monkeypatch
  ):
    shutil.copytree(whole, tmp_path / "runs")
    monkeypatch.setattr(experiment, "build", None)
    page = start(photos=False)
    with_photos = whole / page.relative_to(tmp_path / "runs")
    assert len(page.read_text()) < len(with_photos.read_text())

  def test_refuses_images_without_labels(self, start, tmp_path):
    message = "a data set with labels.*'unlabeled_folder'.*decern-jax run"
    with pytest.raises(ValueError, match=message):
      start(dataset__name="unlabeled_folder")
    assert not (tmp_path / "runs" / "margin").exists()

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
  def make_pretraining(self, **changes):
    config = pretrain_common.get_config()
    values = {"dataset.name": "image_folder", "model.name": "small_cnn"}
    config.update_from_flattened_dict({**values, **changes})
    return config.lock()

  def test_runs_start_from_what_was_pretrained(
    self, make_config, tmp_path, monkeypatch
  ):
    """`pretrain_test` has the pre-training, which here only leaves weights."""
    asked, where = [], epath.Path(tmp_path / "pretrain")
    pretraining = self.make_pretraining()

    def run(*args):
      asked.append(args)
      where.mkdir()
      tiny.write_weights(pathlib.Path(where / pretrain.WEIGHTS_FILE), seed=3)

    monkeypatch.setattr(pretrain, "run", run)
    config = make_config(seeds=(1,))
    found = compare.pretrained_config(config, pretraining, where)
    assert asked == [(pretraining, where)]
    assert found.model.weights == str(where / pretrain.WEIGHTS_FILE)
    assert found.seeds == (1,)
    assert config.model.weights != found.model.weights

  @each(
    "changes, pretraining, message",
    [
      ({}, {"model.name": "resnet18"}, "got 'small_cnn' and 'resnet18'"),
      ({"strategies": ("oracle",)}, {}, "Unknown strategy 'oracle'"),
      ({"train__num_epochs": 0}, {}, "1 <= `train.num_epochs`, got 0"),
    ],
  )
  def test_tells_mistakes_before_any_work(
    self, make_config, tmp_path, changes, pretraining, message
  ):
    where = epath.Path(tmp_path / "pretrain")
    with pytest.raises(ValueError, match=message):
      compare.pretrained_config(
        make_config(**changes), self.make_pretraining(**pretraining), where
      )
    assert not where.exists()
