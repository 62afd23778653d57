"""Tests of decern_jax/io/checkpoint.py on the state of a training."""

from typing import Any

import jax
from jax.sharding import NamedSharding, PartitionSpec
import numpy as np

from decern_jax.distributed.sharding import make_mesh
from decern_jax.io import checkpoint
from decern_jax.ops.head import LinearHead
from decern_jax.training import finetune
from tests import networks, tasks
from tests.table import each

BACKBONES = {
  "nothing": {},
  "nested": {
    "a": {"kernel": np.ones((2, 3), np.float32)},
    "b": np.zeros(2, "f4"),
  },
}


def make_state(name: str, *, step: int) -> finetune.TrainState:
  kernel: Any = np.ones((3, 2), np.float32)
  bias: Any = np.zeros(2, np.float32)
  head = LinearHead(kernel, bias)
  state = finetune.create(
    BACKBONES[name],
    head,
    {"norm": {"mean": np.ones(3, np.float32)}} if BACKBONES[name] else {},
    recipe=tasks.RECIPE,
  )
  # Every array has values of its own.
  leaves, structure = jax.tree.flatten(state)
  return structure.unflatten(
    [leaf + (step + index) for index, leaf in enumerate(leaves)]
  )


def assert_same(actual, expected) -> None:
  assert jax.tree.structure(actual) == jax.tree.structure(expected)
  for ours, theirs in zip(
    *map(jax.tree.leaves, (actual, expected)), strict=True
  ):
    assert ours.dtype == theirs.dtype
    np.testing.assert_array_equal(ours, theirs)


def restore(directory, initial):
  with checkpoint.open_manager(directory) as manager:
    return checkpoint.restore_latest(manager, initial)


class TestTrainState:
  @each("name", BACKBONES)
  def test_is_restored_with_its_structure(self, tmp_path, name, caplog):
    """Named tuples stay what they are, and so do empty dictionaries."""
    state = make_state(name, step=5)
    with checkpoint.open_manager(tmp_path) as manager:
      checkpoint.save(manager, 5, state)
    found = restore(tmp_path, make_state(name, step=0))
    assert_same(found, state)
    assert isinstance(found.head, LinearHead)
    assert not caplog.records

  def test_after_a_step_fits_the_state_before_the_first(self, tmp_path):
    """What the optimiser holds must not change its form."""
    case = networks.Case()
    state, _ = case.step(case.create(), networks.draw_batches(1)[0])
    with checkpoint.open_manager(tmp_path) as manager:
      checkpoint.save(manager, 1, state)
      manager.wait_until_finished()
    assert_same(restore(tmp_path, case.create()), state)

  def test_is_restored_to_the_devices_of_the_initial_one(self, tmp_path):
    state = make_state("nested", step=3)
    with checkpoint.open_manager(tmp_path) as manager:
      checkpoint.save(manager, 3, state)
    everywhere = NamedSharding(make_mesh(8), PartitionSpec())
    initial = jax.device_put(make_state("nested", step=0), everywhere)
    found = restore(tmp_path, initial)
    assert_same(found, state)
    for leaf in jax.tree.leaves(found):
      assert leaf.sharding == everywhere

  def test_of_another_model_is_not_taken(self, tmp_path, caplog):
    with checkpoint.open_manager(tmp_path) as manager:
      checkpoint.save(manager, 2, make_state("nested", step=2))
    initial = make_state("nothing", step=0)
    assert restore(tmp_path, initial) is initial
    assert "Step 2 cannot be restored" in caplog.text

  def test_is_not_dropped_without_a_last_step(self, tmp_path):
    state = make_state("nothing", step=1)
    with checkpoint.open_manager(tmp_path) as manager:
      for step in (1, 1000):
        checkpoint.save(manager, step, state)
    assert_same(restore(tmp_path, make_state("nothing", step=0)), state)


class TestDigest:
  def test_differs_by_every_array(self):
    leaves, structure = jax.tree.flatten(make_state("nested", step=0))
    digests = {checkpoint.digest(structure.unflatten(leaves))}
    for index, leaf in enumerate(leaves):
      changed = [*leaves[:index], leaf + 1, *leaves[index + 1 :]]
      digests.add(checkpoint.digest(structure.unflatten(changed)))
    assert len(digests) == 1 + len(leaves)
