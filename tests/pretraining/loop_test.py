"""Tests of decern_jax/pretraining/loop.py: an interruption changes nothing."""

from dataclasses import replace
import functools
import itertools
import tempfile
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from decern_jax.distributed import processes
from decern_jax.distributed.sharding import make_mesh
from decern_jax.pretraining import journal, loop, step
from tests import tiny
from tests.pretraining import tiny_pretraining as tiny_run
from tests.pretraining.tiny_pretraining import (
  NUM_EPOCHS,
  OBJECTIVES,
  RECIPE,
  STEPS_OF_EPOCH,
  make_setup,
)
from tests.table import each


class StopError(Exception):
  """Stands in for a kill."""


def mean_weight(variables) -> dict[str, float]:
  kernel = np.asarray(variables["params"]["first"]["kernel"])
  return {"knn_accuracy": float(kernel.mean())}


def run(setup, workdir):
  """Returns the state, and the records without what a run costs."""
  state = loop.run(setup, workdir)
  found = tiny.without_costs(journal.read(workdir))
  return jax.tree.map(np.asarray, state), found


@functools.cache
def uninterrupted(objective="simclr"):
  with tempfile.TemporaryDirectory() as folder:
    return run(make_setup(objective), folder)


def assert_same(found, expected):
  jax.tree.map(np.testing.assert_array_equal, found[0], expected[0])
  assert found[1] == expected[1]


@pytest.fixture
def stop_after(monkeypatch):
  """Trains until so many steps are made."""

  def stop(num_steps, setup, workdir):
    calls, make = itertools.count(), step.pretrain_step

    def step_or_stop(*args, **options):
      if next(calls) == num_steps:
        raise StopError
      return make(*args, **options)

    with monkeypatch.context() as patch:
      patch.setattr(step, "pretrain_step", step_or_stop)
      with pytest.raises(StopError):
        loop.run(setup, workdir)

  return stop


def saved_steps(workdir):
  folder = workdir / loop.FOLDER
  return sorted(int(path.name) for path in folder.iterdir())


class TestRun:
  @each("objective", OBJECTIVES)
  def test_ends_after_all_steps_with_a_record_of_each_epoch(self, objective):
    state, records = uninterrupted(objective)
    assert state.step == NUM_EPOCHS * STEPS_OF_EPOCH
    assert [record["epoch"] for record in records] == [0, 1, 2]
    assert [record["loss"] for record in records[1:]] == state.losses.tolist()
    # Of the last step of each epoch: the end of the warm-up, half the cosine.
    rates = [record["learning_rate"] for record in records[1:]]
    expected = [RECIPE.learning_rate, RECIPE.learning_rate / 2]
    np.testing.assert_allclose(rates, expected, rtol=1e-6)

  @each(
    "objective, num_steps",
    [("simclr", 0), ("simclr", 1), ("simclr", 2), ("moco_v2", 3)],
  )
  def test_ends_as_the_uninterrupted(
    self, tmp_path, stop_after, objective, num_steps
  ):
    """Also inside an epoch, which has two steps."""
    setup = make_setup(objective)
    stop_after(num_steps, setup, tmp_path)
    assert saved_steps(tmp_path)[-1] == num_steps
    assert_same(run(setup, tmp_path), uninterrupted(objective))

  def test_after_a_stop_in_every_step(self, tmp_path, stop_after):
    setup = make_setup()
    for _ in range(NUM_EPOCHS * STEPS_OF_EPOCH - 1):
      stop_after(1, setup, tmp_path)
    assert_same(run(setup, tmp_path), uninterrupted())

  def test_after_a_stop_between_two_savings(self, tmp_path, stop_after):
    setup = make_setup()
    stop_after(1, setup, tmp_path)
    stop_after(2, replace(setup, checkpoint_seconds=3600.0), tmp_path)
    assert saved_steps(tmp_path)[-1] == 1
    assert_same(run(setup, tmp_path), uninterrupted())

  def test_falls_back_from_a_damaged_state(self, tmp_path, stop_after):
    setup = make_setup()
    stop_after(3, setup, tmp_path)
    files = (tmp_path / loop.FOLDER / "3").rglob("*")
    sizes = {path: path.stat().st_size for path in files if path.is_file()}
    max(sizes, key=sizes.__getitem__).write_bytes(b"")
    assert_same(run(setup, tmp_path), uninterrupted())

  def test_drops_a_state_whose_records_are_lost(self, tmp_path, stop_after):
    setup = make_setup()
    stop_after(3, setup, tmp_path)
    (tmp_path / journal.FILE_NAME).unlink()
    assert_same(run(setup, tmp_path), uninterrupted())

  def test_of_a_finished_run_makes_no_step(self, tmp_path, monkeypatch):
    """Also of images whose labels cannot be read."""
    setup = make_setup()
    blind = replace(setup, train=setup.train._replace(labels=None))
    assert_same(run(blind, tmp_path), uninterrupted())
    monkeypatch.setattr(step, "pretrain_step", None)
    seen = []
    state = loop.run(setup, tmp_path, on_epoch=seen.append)
    assert [record["epoch"] for record in seen] == [*range(NUM_EPOCHS + 1)]
    assert_same(
      (state, tiny.without_costs(journal.read(tmp_path))), uninterrupted()
    )

  def test_is_independent_of_shard_count(self, tmp_path):
    """Up to rounding, which Adam lets grow."""
    setup = replace(make_setup("moco_v2"), mesh=make_mesh(8), num_workers=1)
    _, records = run(setup, tmp_path)
    np.testing.assert_allclose(
      [record["loss"] for record in records[1:]],
      [record["loss"] for record in uninterrupted("moco_v2")[1][1:]],
      rtol=1e-3,
    )

  def test_trains_on_other_than_three_bands(self, tmp_path):
    state, records = run(make_setup("simclr", 5), tmp_path)
    kernel = state.params["backbone"]["first"]["kernel"]
    assert kernel.shape[2] == 5
    assert np.isfinite(records[-1]["loss"])

  @each("every, epochs", [(1, [0, 1, 2]), (2, [0, 2]), (9, [0, 2])])
  def test_probes_when_it_is_due(self, tmp_path, every, epochs):
    setup = replace(
      make_setup(),
      probe=mean_weight,
      probe_epochs=every,
      checkpoint_seconds=3600.0,
    )
    state, records = run(setup, tmp_path)
    assert [r["epoch"] for r in records if "probe" in r] == epochs
    assert records[-1]["probe"] == mean_weight(loop.variables_of(state))

  def test_saves_and_ends_when_it_is_asked_to(self, tmp_path, monkeypatch):
    setup = replace(make_setup(), checkpoint_seconds=3600.0)
    answers = iter([False] * 3 + [True])
    with monkeypatch.context() as patch:
      patch.setattr(processes, "is_stopping", lambda: next(answers))
      with pytest.raises(processes.PreemptedError):
        loop.run(setup, tmp_path)
    # It asks after epoch 0, and after every step.
    assert saved_steps(tmp_path) == [3]
    assert_same(run(setup, tmp_path), uninterrupted())

  @each("checkpoint_seconds", [0.0, 3600.0])
  def test_refuses_a_loss_that_is_not_finite(
    self, tmp_path, checkpoint_seconds
  ):
    setup = make_setup()
    variables = jax.tree.map(
      lambda leaf: jnp.full_like(leaf, np.nan), setup.backbone.variables
    )
    bad = replace(
      setup,
      backbone=setup.backbone._replace(variables=variables),
      checkpoint_seconds=checkpoint_seconds,
    )
    message = r"loss became nan in epoch 1; .*learning_rate"
    with pytest.raises(RuntimeError, match=message):
      loop.run(bad, tmp_path)
    assert [step for step in saved_steps(tmp_path) if step] == []

  def test_names_an_image_that_cannot_be_read(self, tmp_path):
    def fail(index):
      raise OSError("no such disk")

    setup = make_setup()
    bad = replace(setup, train=setup.train._replace(read=fail))
    with pytest.raises(RuntimeError, match=r"Example 'train/.*no such disk"):
      loop.run(bad, tmp_path)

  def test_closes_its_threads_when_it_is_stopped(self, tmp_path, stop_after):
    stop_after(2, make_setup(), tmp_path)
    names = [thread.name for thread in threading.enumerate()]
    assert not [name for name in names if name.startswith("images")]


class TestVariablesOf:
  def test_are_those_of_the_backbone(self):
    found = loop.variables_of(tiny_run.create("moco_v2"))
    backbone = tiny_run.make_backbone()
    jax.tree.map(np.testing.assert_array_equal, found, dict(backbone.variables))
    assert set(found) == {"params", "batch_stats"}

  def test_without_normalization_are_parameters_only(self):
    state = tiny_run.create("simclr", use_norm=False)
    assert set(loop.variables_of(state)) == {"params"}
