"""Tests of decern_jax/data/pipeline.py."""

import gc
import itertools
import threading
import time

import numpy as np
import pytest

from decern_jax.data.dataset import Split
from decern_jax.data.pipeline import image_batches, map_ordered


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
  @pytest.mark.parametrize("num_workers", [1, 2, 7])
  @pytest.mark.parametrize(
    ("batch_size", "expected"),
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

  @pytest.mark.parametrize("how", ["exhaust", "close", "drop"])
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

  @pytest.mark.parametrize("option", ["batch_size", "num_workers"])
  def test_rejects_counts_below_one(self, option):
    options = {"batch_size": 2, "num_workers": 2, option: 0}
    with pytest.raises(ValueError, match=f"`{option}` >= 1, got 0"):
      image_batches(make_split(3), identity, **options)

  @pytest.mark.parametrize("outside", [-1, 3])
  def test_rejects_positions_outside_the_split(self, outside):
    with pytest.raises(ValueError, match=rf"in \[0, 3\), got {outside}"):
      image_batches(
        make_split(3),
        identity,
        batch_size=2,
        num_workers=2,
        positions=np.array([0, outside]),
      )

  @pytest.mark.parametrize("positions", [np.zeros(2), np.zeros((2, 1), int)])
  def test_rejects_positions_that_are_no_vector_of_integers(self, positions):
    with pytest.raises(ValueError, match=rf"got {positions.dtype} \[2"):
      image_batches(
        make_split(3),
        identity,
        batch_size=2,
        num_workers=2,
        positions=positions,
      )


class TestMapOrdered:
  @pytest.mark.parametrize("num_ahead", [1, 3, 50])
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
