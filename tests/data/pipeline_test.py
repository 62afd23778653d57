"""Tests of batches of images."""

import contextlib
import gc
import itertools
import threading
import time

import numpy as np
import pytest

from decern_jax.data import pipeline
from decern_jax.data.dataset import Split
from decern_jax.data.pipeline import (
  BatchPlan,
  image_batches,
  map_ordered,
  prefetch,
  training_batches,
)
from decern_jax.distributed.sharding import make_mesh
from decern_jax.ops import keys
from decern_jax.pretraining import views
from tests.pretraining import tiny_pretraining as tiny_run
from tests.table import each


class TestMapOrdered:
  @each("num_ahead", [1, 3, 50])
  def test_matches_map(self, num_ahead):
    results = map_ordered(
      lambda x: x * x, range(20), num_workers=3, num_ahead=num_ahead
    )
    assert list(results) == [x * x for x in range(20)]

  def test_items_are_consumed_as_results_are(self):
    items = itertools.count()
    results = map_ordered(str, items, num_workers=2, num_ahead=4)
    assert next(results) == "0"
    assert next(items) == 5
    results.close()

  def test_exception_of_the_function_is_raised_in_its_place(self):
    results = map_ordered(
      lambda x: 1 // x, [2, 1, 0, 1], num_workers=2, num_ahead=4
    )
    assert next(results) == 0
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
      next(results)
    assert list(results) == []


def fill(index: int) -> np.ndarray:
  return np.full((2, 2, 3), index, np.uint8)


def make_split(num_examples: int, read=fill) -> Split:
  """Examples whose image is filled with their index."""
  labels = np.zeros(num_examples, np.int32)
  return Split(tuple(f"example {i}" for i in range(num_examples)), labels, read)


def identity(image: np.ndarray) -> np.ndarray:
  return image


def batches_of(
  num_examples: int, size: int, workers=2, *, read=fill, **options
):
  split = make_split(num_examples, read)
  options = {"batch_size": size, "num_workers": workers, **options}
  return image_batches(split, options.pop("transform", identity), **options)


def indices_of(batches) -> list[list[int]]:
  return [batch[:, 0, 0, 0].tolist() for batch in batches]


def num_threads() -> int:
  return sum(t.name.startswith("images") for t in threading.enumerate())


def check_threads_end(batches, how: str) -> None:
  """Checks that an iterator's threads end when it does."""
  next(batches)
  assert num_threads() > 0
  if how == "exhaust":
    list(batches)
  elif how == "close":
    batches.close()
  else:
    del batches
    gc.collect()
  assert num_threads() == 0


def check_error_names_the_example(batches) -> None:
  assert indices_of(itertools.islice(batches, 2)) == [[0, 1], [2, 3]]
  with pytest.raises(RuntimeError, match="'example 4'.*no pixels"):
    next(batches)
  assert num_threads() == 0


class TestImageBatches:
  @each("num_workers", [1, 2, 7])
  @each(
    "batch_size, expected",
    [
      (1, [[0], [1], [2], [3], [4]]),
      (2, [[0, 1], [2, 3], [4]]),
      (5, [[0, 1, 2, 3, 4]]),
      (9, [[0, 1, 2, 3, 4]]),
    ],
  )
  def test_every_example_comes_once_in_order(
    self, batch_size, expected, num_workers
  ):
    batches = list(batches_of(5, batch_size, num_workers))
    assert indices_of(batches) == expected
    assert batches[0].dtype == np.uint8
    assert batches[0].shape[1:] == (2, 2, 3)

  def test_slow_examples_do_not_change_the_order(self):
    def read(index: int) -> np.ndarray:
      time.sleep(0.005 * (index % 3))
      return fill(index)

    batches = batches_of(20, 8, 4, read=read)
    assert sum(indices_of(batches), []) == list(range(20))

  @each(
    "indices, expected",
    [(np.array([7, 3, 3]), [[7, 3], [3]]), (np.array([], np.int32), [])],
  )
  def test_indices_choose_and_order_the_examples(self, indices, expected):
    assert indices_of(batches_of(9, 2, indices=indices)) == expected

  def test_transform_is_applied(self):
    batches = batches_of(3, 3, transform=lambda x: x[:1, :1] + 1)
    assert next(batches).tolist() == [[[[i + 1] * 3]] for i in range(3)]

  def test_examples_are_read_in_parallel(self):
    barrier = threading.Barrier(3, timeout=10)

    def read(index: int) -> np.ndarray:
      barrier.wait()  # breaks unless three threads meet here
      return fill(index)

    assert indices_of(batches_of(6, 6, 3, read=read)) == [[0, 1, 2, 3, 4, 5]]

  def test_reads_at_most_two_batches_ahead(self):
    started = []

    def read(index: int) -> np.ndarray:
      started.append(index)
      return fill(index)

    batches = batches_of(100, 5, 4, read=read)
    next(batches)
    time.sleep(0.1)
    assert 5 <= len(started) <= 15
    batches.close()

  def test_error_names_the_example(self):
    def read(index: int) -> np.ndarray:
      if index == 4:
        raise ValueError("no pixels")
      return fill(index)

    check_error_names_the_example(batches_of(9, 2, read=read))

  @each("how", ["exhaust", "close", "drop"])
  def test_threads_end_with_the_iterator(self, how):
    check_threads_end(batches_of(40, 2, 3), how)

  @each(
    "options, message",
    [
      ({"batch_size": 0}, "`batch_size` >= 1, got 0"),
      ({"num_workers": 0}, "`num_workers` >= 1, got 0"),
      ({"indices": np.array([0, -1])}, r"in \[0, 3\), got -1"),
      ({"indices": np.array([0, 3])}, r"in \[0, 3\), got 3"),
      ({"indices": np.zeros(2)}, r"got float64 \[2"),
      ({"indices": np.zeros((2, 1), int)}, r"got int64 \[2"),
    ],
  )
  def test_rejects_what_does_not_fit(self, options, message):
    with pytest.raises(ValueError, match=message):
      batches_of(3, 2, **options)


def add_noise(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  """Keeps the index in the first channel, and draws the second."""
  image[..., 1] = rng.integers(256, size=image.shape[:2])
  return image


def keep(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  return image


def make_plans(sizes: list[int]) -> list[BatchPlan]:
  """Plans of these sizes; indices count on, modulo 10."""
  stream = itertools.count()
  return [
    BatchPlan(np.array([next(stream) % 10 for _ in range(size)]), (7, batch))
    for batch, size in enumerate(sizes)
  ]


def train(plans, augment=keep, *, num_examples=10, read=fill, **options):
  return training_batches(
    make_split(num_examples, read),
    plans,
    augment,
    **{"num_workers": 2, **options},
  )


class TestTrainingBatches:
  @each("num_workers", [1, 2, 7])
  @each("num_ahead", [1, 3, 128])
  def test_there_is_one_batch_per_plan_in_order(self, num_workers, num_ahead):
    plans = make_plans([3, 1, 4, 2])
    batches = list(train(plans, num_workers=num_workers, num_ahead=num_ahead))
    assert indices_of(batches) == [[0, 1, 2], [3], [4, 5, 6, 7], [8, 9]]
    assert batches[0].dtype == np.uint8
    assert batches[0].shape == (3, 2, 2, 3)

  def test_generator_is_seeded_by_plan_and_position(self):
    (batch,) = train([BatchPlan(np.array([5, 2]), (3, 8))], add_noise)
    for image, index in zip(batch, [5, 2], strict=True):
      rng = np.random.default_rng((3, 8, index))
      expected = rng.integers(256, size=(2, 2))
      np.testing.assert_array_equal(image[..., 1], expected)

  def test_is_independent_of_the_number_of_threads(self):
    def read(index: int) -> np.ndarray:
      time.sleep(0.002 * (index % 3))
      return fill(index)

    one, many = (
      list(train(make_plans([4] * 5), add_noise, read=read, num_workers=count))
      for count in (1, 6)
    )
    np.testing.assert_array_equal(one, many)

  def test_skipping_plans_resumes(self):
    plans = make_plans([4] * 5)
    whole, rest = (list(train(part, add_noise)) for part in (plans, plans[3:]))
    np.testing.assert_array_equal(whole[3:], rest)

  def test_another_seed_gives_other_draws(self):
    plans = [BatchPlan(np.arange(4), (0, epoch)) for epoch in range(2)]
    one, other = train(plans, add_noise)
    assert (one[..., 1] != other[..., 1]).any()
    np.testing.assert_array_equal(one[..., 0], other[..., 0])

  def test_threads_decode_across_plans(self):
    barrier = threading.Barrier(6, timeout=10)

    def read(index: int) -> np.ndarray:
      barrier.wait()  # breaks unless the six of three plans meet here
      return fill(index)

    batches = train(make_plans([2, 2, 2]), read=read, num_workers=6)
    assert indices_of(batches) == [[0, 1], [2, 3], [4, 5]]

  def test_one_pool_of_threads_serves_all_plans(self):
    names = set()

    def read(index: int) -> np.ndarray:
      names.add(threading.current_thread().name)
      return fill(index)

    list(train(make_plans([1] * 30), read=read))
    assert len(names) <= 2

  @each("num_ahead, num_plans", [(1, 3), (5, 5)])
  def test_plans_are_consumed_as_the_look_ahead_reaches_them(
    self, num_ahead, num_plans
  ):
    taken, started = [], []

    def endless():
      for epoch in itertools.count():
        taken.append(epoch)
        yield BatchPlan(np.arange(2), (epoch,))

    def read(index: int) -> np.ndarray:
      started.append(index)
      return fill(index)

    batches = train(endless(), read=read, num_ahead=num_ahead)
    assert taken == []
    next(batches)
    next(batches)
    time.sleep(0.05)
    assert len(taken) == num_plans
    assert 4 <= len(started) <= 4 + num_ahead
    batches.close()

  def test_no_plans_give_no_batches(self):
    assert not list(train([]))

  def test_batches_share_no_memory(self):
    batches = train(make_plans([3, 3]))
    assert not np.shares_memory(next(batches), next(batches))

  def test_error_names_the_example(self):
    def augment(image, rng):
      if image[0, 0, 0] == 4:
        raise ValueError("no pixels")
      return image

    check_error_names_the_example(train(make_plans([2, 2, 2]), augment))

  @each("how", ["exhaust", "close", "drop"])
  def test_threads_end_with_the_iterator(self, how):
    plans = make_plans([2] * 20)
    check_threads_end(train(plans, num_workers=3, num_ahead=4), how)

  @each("option", ["num_workers", "num_ahead"])
  def test_rejects_counts_below_one(self, option):
    with pytest.raises(ValueError, match=f"`{option}` >= 1, got 0"):
      train([], **{option: 0})

  @each(
    "plan, match",
    [
      (BatchPlan(np.array([0, 3]), (1,)), r"in \[0, 3\), got 3"),
      (BatchPlan(np.array([0, -1]), (1,)), r"in \[0, 3\), got -1"),
      (BatchPlan(np.zeros(2), (1,)), r"got float64 \[2\]"),
      (BatchPlan(np.array([], int), (1,)), "at least 1 example, got 0"),
      (BatchPlan(np.array([0]), (1, -2)), r"got \(1, -2\)"),
      (BatchPlan(np.array([0]), (2**32,)), r"got \(4294967296,\)"),
    ],
  )
  def test_rejects_a_plan_that_does_not_fit(self, plan, match):
    good = BatchPlan(np.array([0, 1, 2]), (1,))
    batches = train([good, good, plan], num_examples=3, num_ahead=1)
    assert indices_of([next(batches)]) == [[0, 1, 2]]
    with pytest.raises(ValueError, match=match):
      list(batches)
    assert num_threads() == 0


class TestPrefetch:
  @each("num_ahead", [0, 1, 2, 9])
  def test_matches_map(self, num_ahead):
    results = prefetch(range(5), str, num_ahead=num_ahead)
    assert list(results) == ["0", "1", "2", "3", "4"]

  @each("num_ahead", [0, 1, 3])
  def test_puts_that_many_before_they_are_asked_for(self, num_ahead):
    put = []
    results = prefetch(range(10), put.append, num_ahead=num_ahead)
    assert put == []
    for num_asked in range(1, 7):
      next(results)
      assert put == list(range(num_asked + num_ahead))

  def test_closes_its_source(self):
    closed = []

    def batches():
      try:
        yield from range(9)
      finally:
        closed.append(True)

    results = prefetch(batches(), str)
    next(results)
    assert not closed
    results.close()
    assert closed

  def test_threads_of_its_source_end_with_it(self):
    batches = batches_of(40, 2, 3)
    results = prefetch(batches, identity)
    next(results)
    assert num_threads() > 0
    results.close()
    assert num_threads() == 0

  def test_failing_put_closes_its_source(self):
    batches = batches_of(40, 2, 3)
    with pytest.raises(ZeroDivisionError):
      next(prefetch(batches, lambda batch: 1 // 0))
    assert num_threads() == 0

  def test_rejects_negative_num_ahead(self):
    with pytest.raises(ValueError, match="`num_ahead` >= 0, got -1"):
      prefetch([], str, num_ahead=-1)


def seeds_of(*entropy):
  """Maps a pass to seeds that are read off the plans."""
  return lambda number: ((*entropy, 0, number), (*entropy, 1, number))


def plan(num_examples=20, *, size=8, seeds=None, first=0, steps=6):
  plans = pipeline.plan_batches(
    100 + np.arange(num_examples),
    batch_size=size,
    seeds=seeds or seeds_of(1, 2, 3),
    first=first,
    num_steps=steps,
  )
  return [(plan.indices.tolist(), plan.seed) for plan in plans]


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
    assert [len(indices) for indices, _ in found] == sizes * 3
    assert [seed[-1] for _, seed in found] == [
      number for number in range(3) for _ in sizes
    ]
    for indices, _ in found:
      assert len(set(indices)) == len(indices)

  def test_may_end_within_a_pass(self):
    assert plan(steps=5) == plan(steps=6)[:5]

  def test_the_examples_left_out_change(self):
    found = plan(10, size=4, steps=20)
    left_out = {
      index
      for number in range(10)
      for index in {*range(100, 110)}
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
      tuple(indices)
      for entropy in entropies
      for indices, _ in plan(size=20, seeds=seeds_of(*entropy), steps=3)
    ]
    assert len(set(orders)) == 4 * 3


class TestDeviceBatches:
  def batches(self, plan, *, num_workers=2, num_devices=1, batch_size=8):
    return pipeline.device_batches(
      tiny_run.make_split(),
      plan,
      lambda image, rng: views.make_views(image, rng, views=tiny_run.VIEWS),
      batch_size=batch_size,
      mesh=make_mesh(num_devices),
      num_workers=num_workers,
    )

  def plan(self, first=0, batch_size=8):
    return pipeline.plan_batches(
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
          split.read(index),
          np.random.default_rng((*plan.seed, index)),
          views=tiny_run.VIEWS,
        )
        for index in plan.indices.tolist()
      ]
      np.testing.assert_array_equal(images, expected)
      np.testing.assert_array_equal(labels, split.labels[plan.indices])

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
