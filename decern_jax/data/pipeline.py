"""Batches of images, decoded by threads a little ahead of their consumer."""

import collections
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
import contextlib
import itertools
from typing import TypeVar

import numpy as np

from decern_jax.data.dataset import Split

# Enough that no thread waits while the consumer works on a batch.
_BATCHES_AHEAD = 2

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def image_batches(
  split: Split,
  transform: Callable[[np.ndarray], np.ndarray],
  *,
  batch_size: int,
  num_workers: int,
  positions: np.ndarray | None = None,
) -> Iterator[np.ndarray]:
  """Reads, transforms and batches images in a pool of threads.

  At most two batches are decoded ahead of the one that is asked for. The order
  does not depend on the number of threads, which end with the iterator: when it
  is exhausted, closed or dropped.

  Args:
    split: The examples.
    transform: Makes a decoded image, uint8 [height, width, channels], one of
      the shape that all images of a batch share; called from several threads.
    batch_size: Images per batch, at least 1.
    num_workers: Threads, at least 1.
    positions: int [examples], which examples to read, in this order; all of
      them when None.

  Returns:
    An iterator over uint8 [batch_size, size, size, channels]; the last batch
    may be shorter.

  Raises:
    ValueError: If an argument is outside its range.
    RuntimeError: While iterating, if an example cannot be read; names it.
  """
  num_examples = len(split.ids)
  positions = np.arange(num_examples) if positions is None else positions
  _check_at_least_one(batch_size=batch_size, num_workers=num_workers)
  _check_positions(positions, num_examples)

  def load(position: int) -> np.ndarray:
    try:
      return transform(split.read(position))
    except Exception as error:
      raise RuntimeError(
        f"Example {split.ids[position]!r} cannot be read: {error}"
      ) from error

  images = map_ordered(
    load,
    positions.tolist(),
    num_workers=num_workers,
    num_ahead=_BATCHES_AHEAD * batch_size,
  )
  return _batched(images, batch_size)


def map_ordered(
  function: Callable[[_Item], _Result],
  items: Iterable[_Item],
  *,
  num_workers: int,
  num_ahead: int,
) -> Iterator[_Result]:
  """Maps in a pool of threads, in order, with bounded look-ahead.

  Args:
    function: Called from several threads.
    items: Its arguments, consumed as results are.
    num_workers: Threads, at least 1.
    num_ahead: How many items are started before their result is asked for, at
      least 1.

  Yields:
    The results, in the order of the items. The first exception that `function`
    raises is raised in place of its result, and ends the iterator.
  """
  remaining = iter(items)
  pool = futures.ThreadPoolExecutor(num_workers, thread_name_prefix="images")
  try:
    pending = collections.deque(
      pool.submit(function, item)
      for item in itertools.islice(remaining, num_ahead)
    )
    while pending:
      result = pending.popleft().result()
      pending.extend(
        pool.submit(function, item) for item in itertools.islice(remaining, 1)
      )
      yield result
  finally:
    pool.shutdown(wait=True, cancel_futures=True)


def _batched(
  images: Iterator[np.ndarray], batch_size: int
) -> Iterator[np.ndarray]:
  """Stacks every `batch_size` images; closes `images` when it is closed."""
  with contextlib.closing(images):
    while batch := list(itertools.islice(images, batch_size)):
      yield np.stack(batch)


def _check_at_least_one(**options: int) -> None:
  """Refuses counts below 1."""
  for name, value in options.items():
    if value < 1:
      raise ValueError(f"Expected `{name}` >= 1, got {value}.")


def _check_positions(positions: np.ndarray, num_examples: int) -> None:
  """Refuses anything but a vector of positions in the split."""
  if positions.ndim != 1 or not np.issubdtype(positions.dtype, np.integer):
    raise ValueError(
      "Expected `positions` to be a vector of integers, got "
      f"{positions.dtype} {list(positions.shape)}."
    )
  outside = positions[(positions < 0) | (positions >= num_examples)]
  if outside.size:
    raise ValueError(
      f"Expected `positions` in [0, {num_examples}), got {outside[0]}."
    )
