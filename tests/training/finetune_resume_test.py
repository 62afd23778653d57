"""Tests that a fine-tuning stopped inside a round ends as one that was not."""

import dataclasses
import itertools
import threading

import numpy as np
import pytest

from decern_jax.distributed import processes
from decern_jax.distributed.sharding import make_mesh
from decern_jax.training import finetune
from tests.table import each
from tests.training import finetuned
from tests.training.finetuned import (
  NARROW,
  NUM_EPOCHS,
  PLAIN,
  assert_close,
  assert_same,
  fit,
)


@pytest.fixture
def setup() -> finetune.Setup:
  """Of a network with batch normalisation."""
  return finetuned.make_setup(NARROW)


def stop_after(num_steps: int, setup: finetune.Setup, workdir) -> None:
  """Fine-tunes until so many steps are made."""
  with finetuned.stopped_before_step(num_steps):
    fit(setup, workdir)


@pytest.fixture
def count_steps(monkeypatch):
  """Collects the numbers of the epochs that steps are made in."""
  found, step = [], finetune.train_step

  def count(state, *args, **options):
    found.append(int(state.epoch))
    return step(state, *args, **options)

  monkeypatch.setattr(finetune, "train_step", count)
  return found


class TestResume:
  @each("name, num_steps", [(NARROW, 0), (NARROW, 3), (PLAIN, 5)])
  def test_ends_as_the_uninterrupted(
    self, tmp_path, count_steps, name, num_steps
  ):
    """An epoch has two steps; one that was begun is begun again."""
    setup, expected = finetuned.make_setup(name), finetuned.fitted(name)
    stop_after(num_steps, setup, tmp_path)
    num_saved = num_steps // finetuned.STEPS_OF_EPOCH
    assert finetuned.saved_epochs(tmp_path) == [*range(1, num_saved + 1)]
    count_steps.clear()
    assert_same(fit(setup, tmp_path), expected)
    assert sorted({*count_steps}) == [*range(num_saved, NUM_EPOCHS)]
    assert len(count_steps) == 2 * (NUM_EPOCHS - num_saved)

  @each("num_steps", [1, 2])
  def test_after_sigterm_goes_on_with_the_next_batch(
    self, setup, tmp_path, count_steps, monkeypatch, num_steps
  ):
    """An epoch has two steps: after an odd number of them one is begun."""
    calls = itertools.count()
    count_steps.clear()
    with monkeypatch.context() as patch:
      patch.setattr(processes, "is_stopping", lambda: next(calls) == num_steps)
      with pytest.raises(processes.PreemptedError):
        fit(setup, tmp_path)
    assert len(count_steps) == num_steps
    assert_same(fit(setup, tmp_path), finetuned.fitted(NARROW))
    assert len(count_steps) == 2 * NUM_EPOCHS

  def test_of_a_finished_training_makes_no_step(
    self, setup, tmp_path, count_steps
  ):
    """As after a kill before the record of the round is on the disk."""
    fit(setup, tmp_path)
    count_steps.clear()
    assert_same(fit(setup, tmp_path), finetuned.fitted(NARROW))
    assert count_steps == []

  def test_after_a_stop_in_every_epoch(self, setup, tmp_path):
    for num_saved in range(1, NUM_EPOCHS):
      stop_after(3, setup, tmp_path)
      assert finetuned.saved_epochs(tmp_path)[-1] == num_saved
    assert_same(fit(setup, tmp_path), finetuned.fitted(NARROW))

  def test_goes_on_with_other_threads_and_devices(self, setup, tmp_path):
    stop_after(3, setup, tmp_path)
    other = dataclasses.replace(setup, mesh=make_mesh(8), num_workers=1)
    found, expected = fit(other, tmp_path), finetuned.fitted(NARROW)
    np.testing.assert_array_equal(found.losses[:1], expected.losses[:1])
    assert_close(found, expected)

  def test_falls_back_from_a_damaged_state(self, setup, tmp_path, caplog):
    stop_after(5, setup, tmp_path)
    last = tmp_path / finetune.FOLDER / "0" / str(2 * finetuned.STEPS_OF_EPOCH)
    files = [path for path in last.rglob("*") if path.is_file()]
    max(files, key=lambda path: path.stat().st_size).write_bytes(b"")
    assert_same(fit(setup, tmp_path), finetuned.fitted(NARROW))
    assert f"Step {last.name} cannot be restored" in caplog.text

  def test_clears_the_states_of_earlier_rounds_away(self, setup, tmp_path):
    for round_num in (3, 4):
      fit(setup, tmp_path, finetuned.make_state(round_num))
      (folder,) = (tmp_path / finetune.FOLDER).iterdir()
      assert folder.name == str(round_num)
    assert_same(fit(setup, tmp_path), finetuned.fitted(NARROW))

  def test_saves_nothing_before_it_is_due(self, setup, tmp_path):
    fit(dataclasses.replace(setup, checkpoint_seconds=3600.0), tmp_path)
    assert finetuned.saved_epochs(tmp_path) == []

  def test_closes_its_threads_when_it_is_stopped(self, setup, tmp_path):
    stop_after(3, setup, tmp_path)
    names = [thread.name for thread in threading.enumerate()]
    assert not [name for name in names if name.startswith("images")]
