"""Tests of decern_jax/pretraining/batches.py."""

import contextlib
import threading

import numpy as np
import pytest

from decern_jax.pretraining import batches, views
from decern_jax.sharding import make_mesh
from tests.pretraining import tiny_pretraining as tiny_run


def plan(num_examples=10, *, size=4, seed=1, first=0, steps=6):
  plans = batches.plan_batches(
    num_examples, batch_size=size, seed=seed, first=first, num_steps=steps
  )
  return [(plan.positions.tolist(), plan.seed) for plan in plans]


class TestPlanBatches:
  def test_an_epoch_has_each_image_at_most_once(self):
    found = plan(num_examples=10, steps=6)
    for epoch in range(3):
      seen = sum((found[2 * epoch + i][0] for i in (0, 1)), [])
      assert len(set(seen)) == len(seen) == 8
      assert set(seen) <= {*range(10)}

  def test_the_images_left_out_change(self):
    found = plan(num_examples=10, steps=20)
    left_out = {
      number
      for epoch in range(10)
      for number in {*range(10)}
      - {*found[2 * epoch][0], *found[2 * epoch + 1][0]}
    }
    assert len(left_out) > 4

  @pytest.mark.parametrize("first", range(7))
  def test_resumed_plan_is_the_tail_of_the_whole(self, first):
    assert plan(first=first) == plan()[first:]

  def test_orders_and_views_differ_by_seed_and_epoch(self):
    found = plan(size=10, steps=3) + plan(size=10, steps=3, seed=2)
    assert len({tuple(positions) for positions, _ in found}) == 6
    assert len({seed for _, seed in found}) == 6

  def test_batches_of_an_epoch_share_their_seed(self):
    """An image has the same views wherever it is in the order."""
    seeds = [seed for _, seed in plan()]
    assert seeds[0] == seeds[1] != seeds[2]


class TestPut:
  @pytest.mark.parametrize("num_devices", [1, 2, 8])
  def test_splits_the_batch(self, num_devices):
    views = tiny_run.draw_views()
    found = batches.put(views, make_mesh(num_devices))
    np.testing.assert_array_equal(found, views)
    shards = found.addressable_shards
    assert [len(shard.data) for shard in shards] == [8 // num_devices] * len(
      shards
    )


class TestDeviceBatches:
  def batches(self, plans, num_workers=2):
    return batches.device_batches(
      tiny_run.make_split(),
      plans,
      views=tiny_run.VIEWS,
      mesh=make_mesh(1),
      num_workers=num_workers,
    )

  def plans(self, first=0):
    return batches.plan_batches(
      tiny_run.POOL, batch_size=8, seed=1, first=first, num_steps=5
    )

  def test_views_follow_from_seed_epoch_and_position(self):
    split = tiny_run.make_split()
    for plan, found in zip(
      self.plans(), self.batches(self.plans()), strict=True
    ):
      expected = [
        views.make_views(
          split.read(position),
          np.random.default_rng((*plan.seed, position)),
          views=tiny_run.VIEWS,
        )
        for position in plan.positions.tolist()
      ]
      np.testing.assert_array_equal(found, expected)

  def test_are_independent_of_the_threads_and_of_the_start(self):
    whole = [np.asarray(batch) for batch in self.batches(self.plans(), 1)]
    tail = [np.asarray(batch) for batch in self.batches(self.plans(2), 5)]
    np.testing.assert_array_equal(tail, whole[2:])

  def test_closing_ends_the_threads(self):
    with contextlib.closing(self.batches(self.plans())) as made:
      next(made)
    names = [thread.name for thread in threading.enumerate()]
    assert not [name for name in names if name.startswith("images")]
