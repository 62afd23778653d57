"""Tests of decern_jax/data/pipeline.py."""

import gc
import itertools
import threading
import time

import numpy as np
import pytest

from decern_jax.data.dataset import Split
from decern_jax.data.pipeline import (
  BatchPlan,
  image_batches,
  prefetch,
  training_batches,
)
from tests.table import each


def make_split(num_examples: int, read=None) -> Split:
  """Examples whose image is filled with their position."""
  return Split(
    ids=tuple(f"example {i}" for i in range(num_examples)),
    labels=np.zeros(num_examples, np.int32),
    read=read or (lambda i: np.full((2, 2, 3), i, np.uint8)),
  )


def identity(image: np.ndarray) -> np.ndarray:
  return image


def positions_of(batches) -> list[list[int]]:
  return [batch[:, 0, 0, 0].tolist() for batch in batches]


def num_threads() -> int:
  return sum(t.name.startswith("images") for t in threading.enumerate())


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
    batches = list(
      image_batches(
        make_split(5), identity, batch_size=batch_size, num_workers=num_workers
      )
    )
    assert positions_of(batches) == expected
    assert batches[0].dtype == np.uint8
    assert batches[0].shape[1:] == (2, 2, 3)

  def test_slow_examples_do_not_change_the_order(self):
    def read(position: int) -> np.ndarray:
      time.sleep(0.005 * (position % 3))
      return np.full((2, 2, 3), position, np.uint8)

    batches = image_batches(
      make_split(20, read), identity, batch_size=8, num_workers=4
    )
    assert sum(positions_of(batches), []) == list(range(20))

  def test_positions_choose_and_order_the_examples(self):
    batches = image_batches(
      make_split(9),
      identity,
      batch_size=2,
      num_workers=2,
      positions=np.array([7, 3, 3]),
    )
    assert positions_of(batches) == [[7, 3], [3]]

  def test_no_positions_give_no_batches(self):
    batches = image_batches(
      make_split(9),
      identity,
      batch_size=2,
      num_workers=2,
      positions=np.array([], np.int32),
    )
    assert list(batches) == []

  def test_transform_is_applied(self):
    batches = image_batches(
      make_split(3), lambda x: x[:1, :1] + 1, batch_size=3, num_workers=2
    )
    assert next(batches).tolist() == [[[[i + 1] * 3]] for i in range(3)]

  def test_examples_are_read_in_parallel(self):
    barrier = threading.Barrier(3, timeout=10)

    def read(position: int) -> np.ndarray:
      barrier.wait()  # breaks unless three threads meet here
      return np.full((2, 2, 3), position, np.uint8)

    batches = image_batches(
      make_split(6, read), identity, batch_size=6, num_workers=3
    )
    assert positions_of(batches) == [[0, 1, 2, 3, 4, 5]]

  def test_reads_at_most_two_batches_ahead(self):
    started = []

    def read(position: int) -> np.ndarray:
      started.append(position)
      return np.full((2, 2, 3), position, np.uint8)

    batches = image_batches(
      make_split(100, read), identity, batch_size=5, num_workers=4
    )
    next(batches)
    time.sleep(0.1)
    assert 5 <= len(started) <= 15
    batches.close()

  def test_error_names_the_example(self):
    def read(position: int) -> np.ndarray:
      if position == 4:
        raise ValueError("no pixels")
      return np.full((2, 2, 3), position, np.uint8)

    batches = image_batches(
      make_split(9, read), identity, batch_size=2, num_workers=2
    )
    assert positions_of(itertools.islice(batches, 2)) == [[0, 1], [2, 3]]
    with pytest.raises(RuntimeError, match="'example 4'.*no pixels"):
      next(batches)
    assert num_threads() == 0

  @each("how", ["exhaust", "close", "drop"])
  def test_threads_end_with_the_iterator(self, how):
    batches = image_batches(
      make_split(40), identity, batch_size=2, num_workers=3
    )
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

  @each("option", ["batch_size", "num_workers"])
  def test_rejects_counts_below_one(self, option):
    options = {"batch_size": 2, "num_workers": 2, option: 0}
    with pytest.raises(ValueError, match=f"`{option}` >= 1, got 0"):
      image_batches(make_split(3), identity, **options)

  @each("outside", [-1, 3])
  def test_rejects_positions_outside_the_split(self, outside):
    with pytest.raises(ValueError, match=rf"in \[0, 3\), got {outside}"):
      image_batches(
        make_split(3),
        identity,
        batch_size=2,
        num_workers=2,
        positions=np.array([0, outside]),
      )

  @each("positions", [np.zeros(2), np.zeros((2, 1), int)])
  def test_rejects_positions_that_are_no_vector_of_integers(self, positions):
    with pytest.raises(ValueError, match=rf"got {positions.dtype} \[2"):
      image_batches(
        make_split(3),
        identity,
        batch_size=2,
        num_workers=2,
        positions=positions,
      )


def add_noise(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  """Keeps the position in the first channel, and draws the second."""
  image[..., 1] = rng.integers(256, size=image.shape[:2])
  return image


def keep(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  return image


def make_plans(sizes: list[int]) -> list[BatchPlan]:
  """Plans of these sizes; positions count on, modulo 10."""
  stream = itertools.count()
  return [
    BatchPlan(np.array([next(stream) % 10 for _ in range(size)]), (7, batch))
    for batch, size in enumerate(sizes)
  ]


class TestTrainingBatches:
  @each("num_workers", [1, 2, 7])
  @each("num_ahead", [1, 3, 128])
  def test_there_is_one_batch_per_plan_in_order(self, num_workers, num_ahead):
    batches = list(
      training_batches(
        make_split(10),
        make_plans([3, 1, 4, 2]),
        keep,
        num_workers=num_workers,
        num_ahead=num_ahead,
      )
    )
    assert positions_of(batches) == [[0, 1, 2], [3], [4, 5, 6, 7], [8, 9]]
    assert batches[0].dtype == np.uint8
    assert batches[0].shape == (3, 2, 2, 3)

  def test_generator_is_seeded_by_plan_and_position(self):
    (batch,) = training_batches(
      make_split(10),
      [BatchPlan(np.array([5, 2]), (3, 8))],
      add_noise,
      num_workers=2,
    )
    for image, position in zip(batch, [5, 2], strict=True):
      rng = np.random.default_rng((3, 8, position))
      expected = rng.integers(256, size=(2, 2))
      np.testing.assert_array_equal(image[..., 1], expected)

  def test_is_independent_of_the_number_of_threads(self):
    def read(position: int) -> np.ndarray:
      time.sleep(0.002 * (position % 3))
      return np.full((2, 2, 3), position, np.uint8)

    one, many = (
      list(
        training_batches(
          make_split(10, read),
          make_plans([4] * 5),
          add_noise,
          num_workers=num_workers,
        )
      )
      for num_workers in (1, 6)
    )
    np.testing.assert_array_equal(one, many)

  def test_skipping_plans_resumes(self):
    plans = make_plans([4] * 5)
    whole, rest = (
      list(training_batches(make_split(10), part, add_noise, num_workers=2))
      for part in (plans, plans[3:])
    )
    np.testing.assert_array_equal(whole[3:], rest)

  def test_another_seed_gives_other_draws(self):
    positions = np.arange(4)
    plans = [BatchPlan(positions, (0, epoch)) for epoch in range(2)]
    one, other = training_batches(
      make_split(10), plans, add_noise, num_workers=2
    )
    assert (one[..., 1] != other[..., 1]).any()
    np.testing.assert_array_equal(one[..., 0], other[..., 0])

  def test_threads_decode_across_plans(self):
    barrier = threading.Barrier(6, timeout=10)

    def read(position: int) -> np.ndarray:
      barrier.wait()  # breaks unless the six of three plans meet here
      return np.full((2, 2, 3), position, np.uint8)

    batches = training_batches(
      make_split(10, read), make_plans([2, 2, 2]), keep, num_workers=6
    )
    assert positions_of(batches) == [[0, 1], [2, 3], [4, 5]]

  def test_one_pool_of_threads_serves_all_plans(self):
    names = set()

    def read(position: int) -> np.ndarray:
      names.add(threading.current_thread().name)
      return np.full((2, 2, 3), position, np.uint8)

    list(
      training_batches(
        make_split(10, read), make_plans([1] * 30), keep, num_workers=2
      )
    )
    assert len(names) <= 2

  @each("num_ahead, num_plans", [(1, 3), (5, 5)])
  def test_plans_are_consumed_as_the_look_ahead_reaches_them(
    self, num_ahead, num_plans
  ):
    taken = []

    def endless():
      for epoch in itertools.count():
        taken.append(epoch)
        yield BatchPlan(np.arange(2), (epoch,))

    started = []

    def read(position: int) -> np.ndarray:
      started.append(position)
      return np.full((2, 2, 3), position, np.uint8)

    batches = training_batches(
      make_split(10, read), endless(), keep, num_workers=2, num_ahead=num_ahead
    )
    assert taken == []
    next(batches)
    next(batches)
    time.sleep(0.05)
    assert len(taken) == num_plans
    assert 4 <= len(started) <= 4 + num_ahead
    batches.close()

  def test_no_plans_give_no_batches(self):
    assert not list(training_batches(make_split(3), [], keep, num_workers=2))

  def test_batches_share_no_memory(self):
    batches = training_batches(
      make_split(10), make_plans([3, 3]), keep, num_workers=2
    )
    assert not np.shares_memory(next(batches), next(batches))

  def test_error_names_the_example(self):
    def augment(image, rng):
      if image[0, 0, 0] == 4:
        raise ValueError("no pixels")
      return image

    batches = training_batches(
      make_split(9), make_plans([2, 2, 2]), augment, num_workers=2
    )
    assert positions_of(itertools.islice(batches, 2)) == [[0, 1], [2, 3]]
    with pytest.raises(RuntimeError, match="'example 4'.*no pixels"):
      next(batches)
    assert num_threads() == 0

  @each("how", ["exhaust", "close", "drop"])
  def test_threads_end_with_the_iterator(self, how):
    batches = training_batches(
      make_split(10), make_plans([2] * 20), keep, num_workers=3, num_ahead=4
    )
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

  @each("option", ["num_workers", "num_ahead"])
  def test_rejects_counts_below_one(self, option):
    options = {"num_workers": 2, "num_ahead": 2, option: 0}
    with pytest.raises(ValueError, match=f"`{option}` >= 1, got 0"):
      training_batches(make_split(3), [], keep, **options)

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
    batches = training_batches(
      make_split(3), [good, good, plan], keep, num_workers=2, num_ahead=1
    )
    assert positions_of([next(batches)]) == [[0, 1, 2]]
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
    batches = image_batches(
      make_split(40), identity, batch_size=2, num_workers=3
    )
    results = prefetch(batches, identity)
    next(results)
    assert num_threads() > 0
    results.close()
    assert num_threads() == 0

  def test_failing_put_closes_its_source(self):
    batches = image_batches(
      make_split(40), identity, batch_size=2, num_workers=3
    )
    with pytest.raises(ZeroDivisionError):
      next(prefetch(batches, lambda batch: 1 // 0))
    assert num_threads() == 0

  def test_rejects_negative_num_ahead(self):
    with pytest.raises(ValueError, match="`num_ahead` >= 0, got -1"):
      prefetch([], str, num_ahead=-1)
