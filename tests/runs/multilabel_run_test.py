"""Whole runs where an image has several labels, from a file of labels."""

import csv
import dataclasses
import importlib
import os

import cv2
from etils import epath
import jax
import numpy as np
import pytest
import tensorflow_datasets as tfds

from configs import label_file, land_cover
from decern_jax.cli import compare
from decern_jax.data import sources
from decern_jax.data.sources import rendered_land_cover
from decern_jax.runs import check, driver, experiment, model_file, records
from decern_jax.training import finetune
from tests import tiny
from tests.models import tiny_models
from tests.table import each

MODEL = "tiny_resnet"
LABELS = ("water", "land", "road")
NUM_IMAGES = 40
METRICS = ("macro_f1", "micro_f1", "macro_ap", "hamming_loss", "loss")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """Images of three labels each, a file that tells them, and weights."""
  folder = tmp_path_factory.mktemp("labels")
  rng = np.random.default_rng(0)
  with open(folder / "labels.csv", "w", newline="") as file:
    table = csv.writer(file)
    table.writerow(["path", "split", *LABELS])
    for number in range(NUM_IMAGES):
      labels = (rng.random(3) < 0.5).astype(int)
      image = tiny.draw(0, rng) // 2 + np.uint8(90 * labels)
      cv2.imwrite(os.fspath(folder / f"{number}.png"), image)
      part = "test" if number % 4 == 0 else "train"
      table.writerow([f"{number}.png", part, *labels])
  tiny_models.write_weights(folder / "weights.safetensors")
  with tiny_models.in_table():
    yield folder


def make_config(folder, **changes):
  config = label_file.get_config()
  values = {
    "num_rounds": 3,
    "dataset.path": os.fspath(folder / "labels.csv"),
    "dataset.image_size": tiny.SIZE,
    "dataset.resize_size": tiny.SIZE,
    "model.name": MODEL,
    "model.weights": os.fspath(folder / "weights.safetensors"),
    "train.num_epochs": 4,
    "train.warmup_epochs": 1,
    "selection.initial_budget": 6,
    "selection.budget": 4,
    "system.num_devices": 1,
    "system.embed_batch_size": 32,
    "system.cache_dir": os.fspath(folder / "cache"),
    **changes,
  }
  config.update_from_flattened_dict(values)
  return config


def run(config, workdir, num_rounds=3) -> list[records.Record]:
  check.check(config)
  built = experiment.build(
    config, experiment.load(config), seed=1, workdir=workdir
  )
  driver.run(built, num_rounds=num_rounds, workdir=workdir)
  return records.read(workdir)


def check_records(found: list[records.Record]) -> None:
  assert [record["num_labeled"] for record in found] == [6, 10, 14]
  for record in found:
    assert set(METRICS) <= set(record["test"])
    assert 0.0 <= record["test"]["macro_f1"] <= 1.0


class TestRun:
  @each("name", ["decern_multilabel", "learning_loss"])
  def test_buys_labels_and_reports_the_metrics(self, folder, tmp_path, name):
    config = make_config(folder, **{"selection.strategy": name})
    check_records(run(config, tmp_path))
    assert (tmp_path / model_file.FILE_NAME).exists()

  def test_an_interrupted_run_knows_the_model_of_the_round_before(
    self, folder, tmp_path
  ):
    config = make_config(
      folder, **{"selection.strategy": "temporal_discrepancy"}
    )
    expected = run(config, tmp_path / "whole")
    check_records(expected)
    run(config, tmp_path / "begun", num_rounds=1)
    found = run(config, tmp_path / "begun")
    assert [r["selected"] for r in found] == [r["selected"] for r in expected]

  def test_identity_tells_that_an_image_has_several_labels(self, folder):
    digest = experiment.load(make_config(folder)).digest
    assert digest["is_multi_label"] is True

  def test_refuses_a_strategy_without_the_form(self, folder):
    config = make_config(folder, **{"selection.strategy": "decern"})
    message = "several labels per example.*'decern_multilabel'.*got 'decern'"
    with pytest.raises(ValueError, match=message):
      experiment.load(config)

  def test_thins_the_pool_to_a_long_tail(self, folder):
    config = make_config(folder, **{"dataset.long_tail_ratio": 4.0})
    thinned = experiment.load_dataset(
      config.dataset, num_workers=2, cache_dir=config.system.cache_dir
    )
    assert 0 < len(thinned.train.ids) < 30
    assert thinned.test is not None
    assert len(thinned.test.ids) == 10


class TestLandCover:
  def test_names_what_its_data_set_has(self):
    config = land_cover.get_config()
    check.check(config)
    data = rendered_land_cover.load_rendered_land_cover()
    assert data.train.labels.ndim == 2
    budget = config.selection.initial_budget + 5 * config.selection.budget
    assert budget < len(data.train.ids)


def fake_source(self, split, **unused):
  """Stands in for `as_data_source` of any builder under `mock_data`."""
  rng = np.random.default_rng(len(split))
  return [
    {
      "image": cv2.imencode(".png", tiny.draw(i % 4, rng))[1].tobytes(),
      "filename": f"{i}.tif".encode(),
      "labels": np.flatnonzero(rng.random(3) < 0.5),
    }
    for i in range(NUM_IMAGES)
  ]


class TestPaperConfigs:
  """Those of both papers, on data made in the form of their own."""

  @each("name", ["uc_merced", "bigearthnet"])
  def test_opens_the_data_and_fine_tunes_as_many_steps_in_every_round(
    self, name, folder, tmp_path, monkeypatch
  ):
    steps, step = [], finetune.train_step

    def note(state, *args, **options):
      steps.append(len(args[1]))
      return step(state, *args, **options)

    monkeypatch.setattr(finetune, "train_step", note)
    rows = {"num_train": None, "num_test": None, "num_classes": None}
    row = dataclasses.replace(sources.DATASETS[name], **rows)
    monkeypatch.setitem(sources.DATASETS, name, row)
    table = tmp_path / "labels.csv"
    lines = (f"{i},{i % 2},{i // 2 % 2},1" for i in range(NUM_IMAGES))
    table.write_text("\n".join(["filename,water,land,road", *lines]))
    config = importlib.import_module(f"configs.{name}").get_config()
    assert config.train.steps_per_epoch * config.train.num_epochs >= 500
    assert config.selection.strategy == "gradient_magnitude_clustered"
    values = {
      "num_rounds": 2,
      "dataset.image_size": tiny.SIZE,
      "dataset.resize_size": tiny.SIZE,
      "model.name": MODEL,
      "model.weights": os.fspath(folder / "weights.safetensors"),
      "train.num_epochs": 2,
      "train.warmup_epochs": 1,
      "train.steps_per_epoch": 2,
      # One size of batches in all rounds, so that one program is compiled.
      "train.batch_size": 6,
      "selection.strategy": "random",
      "selection.initial_budget": 6,
      "selection.budget": 4,
      "system.num_devices": 1,
      "system.cache_dir": os.fspath(tmp_path / "cache"),
    }
    if name == "uc_merced":
      values["dataset.label_file"] = os.fspath(table)
    config.update_from_flattened_dict(values)
    check.check(config)
    with tfds.testing.mock_data(as_data_source_fn=fake_source):
      assets = experiment.load(config)
    assert assets.is_multi_label
    assert any(jax.tree.leaves(assets.mask))
    if name == "bigearthnet":
      return  # From here on both are the same.
    built = experiment.build(config, assets, seed=1, workdir=tmp_path / "run")
    driver.run(built, num_rounds=2, workdir=tmp_path / "run")
    found = records.read(tmp_path / "run")
    assert [record["num_labeled"] for record in found] == [6, 10]
    assert steps == [6] * 8

  def test_ask_for_what_the_papers_did(self):
    for name, (first, step, last) in {
      "uc_merced": (40, 20, 400),
      "bigearthnet": (1_000, 1_000, 18_000),
    }.items():
      config = importlib.import_module(f"configs.{name}").get_config()
      budgets = config.selection
      assert (budgets.initial_budget, budgets.budget) == (first, step)
      assert first + (config.num_rounds - 1) * budgets.budget == last


class TestCompare:
  def test_writes_the_page(self, folder, tmp_path):
    config = make_config(
      folder, strategies=("entropy", "random"), seeds=(1,), num_rounds=2
    )
    page = compare.compare(config, epath.Path(tmp_path), photos=True)
    text = page.read_text()
    assert "Selected classes" in text
    assert "macro F1" in text
