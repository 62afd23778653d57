"""Tests of whole runs that learn to predict losses, by the driver."""

import dataclasses
import itertools
from typing import cast

import numpy as np
import pytest

from decern_jax.distributed import processes
from decern_jax.runs import check, driver, experiment, model_file, records
from decern_jax.runs.config import Config
from decern_jax.strategies import learning_loss
from decern_jax.training import finetune
from tests import networks, tasks, tiny
from tests.training import finetuned
from tests.training.finetuned import NARROW, assert_close, assert_same, fit

NUM_ROUNDS = 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp("run")
  tiny.write_image_folder(folder / "data")
  tiny.write_weights(folder / "weights.safetensors", networks.Network())
  with networks.in_table():
    yield folder


@pytest.fixture
def make_run(folder):
  """Makes a function that runs a configuration in a folder."""

  def make(
    strategy: str = "learning_loss_clustered",
    *,
    num_devices: int = 1,
    **changes,
  ):
    made = tiny.make_config(
      folder / "data",
      folder / "weights.safetensors",
      folder / "cache",
      num_rounds=NUM_ROUNDS,
      model__name=networks.NAME,
      selection__strategy=strategy,
      train__num_epochs=3,
      train__warmup_epochs=1,
      train__batch_size=4,
      system__num_devices=num_devices,
      system__checkpoint_seconds=0.0,
      **changes,
    )
    config = cast(Config, made)
    check.check(config)
    assets = experiment.load(config)

    def run(workdir):
      driver.run(
        experiment.build(config, assets, seed=1, workdir=workdir),
        num_rounds=NUM_ROUNDS,
        workdir=workdir,
      )
      return records.read(workdir)

    return run

  return make


class TestFrozen:
  def test_selects_the_same_on_every_mesh_and_again(self, make_run, tmp_path):
    found = {
      num_devices: make_run("learning_loss", num_devices=num_devices)(
        tmp_path / name
      )
      for num_devices, name in ((1, "one"), (8, "eight"))
    }
    again = make_run("learning_loss")(tmp_path / "again")
    assert tasks.without_seconds(again) == tasks.without_seconds(found[1])
    selected = [record["selected"] for record in found[1]]
    assert [len(ids) for ids in selected] == [4, 0]
    assert [record["selected"] for record in found[8]] == selected
    assert np.isfinite(found[1][0]["scores"]).all()

  def test_reads_a_pool_on_the_host(self, make_run, tmp_path):
    found = [
      make_run("learning_loss", system__pool_on_host=on_host)(tmp_path / name)
      for on_host, name in ((True, "host"), (False, "devices"))
    ]
    assert found[0][0]["selected"] == found[1][0]["selected"]

  def test_augmented_images_train_the_module_too(self, make_run, tmp_path):
    found = make_run("learning_loss", train__augment=True)(tmp_path)
    assert len(found[0]["selected"]) == 4


class TestFineTuned:
  def test_stopped_inside_a_round_ends_as_the_uninterrupted(
    self, make_run, tmp_path
  ):
    """The rounds have 1 and 2 steps in each of 3 epochs."""
    run = make_run(train__scope="published")
    expected = run(tmp_path / "whole")
    assert [len(record["selected"]) for record in expected] == [4, 0]
    with finetuned.stopped_before_step(2):
      run(tmp_path / "stopped")
    assert (tmp_path / "stopped" / finetune.FOLDER).is_dir()
    found = run(tmp_path / "stopped")
    assert tasks.without_seconds(found) == tasks.without_seconds(expected)
    models = [
      (tmp_path / name / model_file.FILE_NAME).read_bytes()
      for name in ("whole", "stopped")
    ]
    assert models[0] == models[1]


@pytest.fixture(scope="module")
def setup() -> finetune.Setup:
  return dataclasses.replace(
    finetuned.make_setup(NARROW), auxiliary=learning_loss.LOSS_MODULE
  )


@pytest.fixture(scope="module")
def expected(setup, tmp_path_factory):
  return fit(setup, tmp_path_factory.mktemp("whole"))


class TestFit:
  """Fine-tunings of a network with batch normalization."""

  def test_after_sigterm_goes_on_with_the_next_batch(
    self, setup, expected, tmp_path, monkeypatch
  ):
    """An epoch has two steps: the second is begun."""
    calls = itertools.count()
    with monkeypatch.context() as patch:
      patch.setattr(processes, "is_stopping", lambda: next(calls) == 3)
      with pytest.raises(processes.PreemptedError):
        fit(setup, tmp_path)
    assert_same(fit(setup, tmp_path), expected)

  def test_module_trains_together_with_another_model(self, expected):
    without = finetuned.fitted(NARROW)
    assert without.auxiliary is None
    kernels = [layer.kernel.shape for layer in expected.auxiliary.hidden]
    assert kernels == [(4, 128), (6, 128)]
    assert (expected.losses != without.losses).any()
    # The first step is made from equal parameters.
    np.testing.assert_allclose(expected.losses[0], without.losses[0], rtol=0.05)

  def test_is_independent_of_shard_count(self, setup, expected, tmp_path):
    other = dataclasses.replace(
      setup, mesh=finetuned.make_mesh(8), checkpoint_seconds=3600.0
    )
    found = fit(other, tmp_path)
    assert_close(
      dataclasses.replace(found, auxiliary=None),
      dataclasses.replace(expected, auxiliary=None),
    )
