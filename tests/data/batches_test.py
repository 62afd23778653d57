"""Tests of decern_jax/data/batches.py."""

import contextlib
import threading

import numpy as np

from decern_jax.data import batches
from decern_jax.distributed.sharding import make_mesh
from decern_jax.ops import keys
from decern_jax.pretraining import views
from tests.pretraining import tiny_pretraining as tiny_run
from tests.table import each


def seeds_of(*entropy):
  """Maps a pass to seeds that are read off the plans."""
  return lambda number: ((*entropy, 0, number), (*entropy, 1, number))


def plan(num_examples=20, *, size=8, seeds=None, first=0, steps=6):
  plans = batches.plan_batches(
    100 + np.arange(num_examples),
    batch_size=size,
    seeds=seeds or seeds_of(1, 2, 3),
    first=first,
    num_steps=steps,
  )
  return [(plan.positions.tolist(), plan.seed) for plan in plans]


class TestPlanBatches:
  @each("size", [4, 5, 20, 64])
  def test_a_pass_is_a_permutation(self, size):
    per_pass = max(20 // size, 1)
    found = plan(size=size, steps=3 * per_pass)
    for number in range(3):
      seen = [p for p, seed in found if seed[-1] == number]
      assert sorted(sum(seen, [])) == [*range(100, 120)]

  @each(
    "num_examples, sizes",
    [(20, [8, 8]), (16, [8, 8]), (15, [8]), (8, [8]), (7, [7]), (1, [1])],
  )
  def test_drops_a_last_batch_unless_it_is_the_only_one(
    self, num_examples, sizes
  ):
    found = plan(num_examples, steps=3 * len(sizes))
    assert [len(positions) for positions, _ in found] == sizes * 3
    assert [seed[-1] for _, seed in found] == [
      number for number in range(3) for _ in sizes
    ]
    for positions, _ in found:
      assert len(set(positions)) == len(positions)

  def test_may_end_within_a_pass(self):
    assert plan(steps=5) == plan(steps=6)[:5]

  def test_the_examples_left_out_change(self):
    found = plan(10, size=4, steps=20)
    left_out = {
      position
      for number in range(10)
      for position in {*range(100, 110)}
      - {*found[2 * number][0], *found[2 * number + 1][0]}
    }
    assert len(left_out) > 4

  @each("first", range(7))
  def test_resumed_plan_is_the_tail_of_the_whole(self, first):
    assert plan(first=first) == plan()[first:]

  def test_batches_of_a_pass_share_their_augmentation(self):
    """An example is augmented alike wherever it is in the order."""
    seeds = [seed for _, seed in plan()]
    assert seeds == [(1, 2, 3, 1, number) for number in (0, 0, 1, 1, 2, 2)]

  def test_orders_differ_by_seed_and_pass(self):
    entropies = [keys.host_seed(s, "epochs", r) for s in (1, 2) for r in (0, 1)]
    orders = [
      tuple(positions)
      for entropy in entropies
      for positions, _ in plan(size=20, seeds=seeds_of(*entropy), steps=3)
    ]
    assert len(set(orders)) == 4 * 3


class TestDeviceBatches:
  def batches(self, plan, *, num_workers=2, num_devices=1, batch_size=8):
    return batches.device_batches(
      tiny_run.make_split(),
      plan,
      lambda image, rng: views.make_views(image, rng, views=tiny_run.VIEWS),
      batch_size=batch_size,
      mesh=make_mesh(num_devices),
      num_workers=num_workers,
    )

  def plan(self, first=0, batch_size=8):
    return batches.plan_batches(
      np.arange(tiny_run.POOL),
      batch_size=batch_size,
      seeds=seeds_of(1),
      first=first,
      num_steps=5,
    )

  def test_images_follow_from_the_plan_and_labels_from_the_position(self):
    split = tiny_run.make_split()
    for plan, (images, labels) in zip(
      self.plan(), self.batches(self.plan), strict=True
    ):
      expected = [
        views.make_views(
          split.read(position),
          np.random.default_rng((*plan.seed, position)),
          views=tiny_run.VIEWS,
        )
        for position in plan.positions.tolist()
      ]
      np.testing.assert_array_equal(images, expected)
      np.testing.assert_array_equal(labels, split.labels[plan.positions])

  @each("num_devices", [2, 8])
  def test_splits_a_batch_that_divides(self, num_devices):
    expected = [np.asarray(images) for images, _ in self.batches(self.plan)]
    found = self.batches(self.plan, num_devices=num_devices)
    for (images, labels), whole in zip(found, expected, strict=True):
      np.testing.assert_array_equal(images, whole)
      for array in (images, labels):
        shards = [len(shard.data) for shard in array.addressable_shards]
        assert shards == [8 // num_devices] * num_devices

  def test_gives_each_device_a_batch_that_does_not_divide(self):
    for images, labels in self.batches(
      lambda: self.plan(batch_size=5), num_devices=2, batch_size=5
    ):
      for array in (images, labels):
        assert [len(s.data) for s in array.addressable_shards] == [5, 5]

  def test_are_independent_of_the_threads_and_of_the_start(self):
    whole, tail = (
      [np.asarray(images) for images, _ in found]
      for found in (
        self.batches(self.plan, num_workers=1),
        self.batches(lambda: self.plan(2), num_workers=5),
      )
    )
    np.testing.assert_array_equal(tail, whole[2:])

  def test_closing_ends_the_threads(self):
    with contextlib.closing(self.batches(self.plan)) as made:
      next(made)
    names = [thread.name for thread in threading.enumerate()]
    assert not [name for name in names if name.startswith("images")]
