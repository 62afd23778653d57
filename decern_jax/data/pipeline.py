"""Batches of images, decoded by threads a little ahead of their consumer."""

import collections
from collections.abc import Callable, Iterable, Iterator
import contextlib
import itertools
from typing import NamedTuple, TypeVar

import numpy as np

from decern_jax.data.dataset import Split
from decern_jax.data.ordered import map_ordered

# Enough that no thread waits while the consumer works on a batch.
_BATCHES_AHEAD = 2

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class BatchPlan(NamedTuple):
  """What one training batch is made of.

  Attributes:
    positions: int [examples], at least one: which examples, in this order. An
      example that comes twice is augmented alike.
    seed: Names the randomness of the batch, each number in [0, 2**32), as many
      in all plans; different seeds give independent draws.
  """

  positions: np.ndarray
  seed: tuple[int, ...]


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

  images = map_ordered(
    lambda position: _read(split, position, transform),
    positions.tolist(),
    num_workers=num_workers,
    num_ahead=_BATCHES_AHEAD * batch_size,
  )
  return _batched(images, itertools.repeat(batch_size))


def training_batches(
  split: Split,
  plans: Iterable[BatchPlan],
  augment: Callable[[np.ndarray, np.random.Generator], np.ndarray],
  *,
  num_workers: int,
  num_ahead: int = 128,
) -> Iterator[np.ndarray]:
  """Reads, augments and batches images in a pool of threads, plan by plan.

  The threads decode one stream of images: they do not wait where a batch or an
  epoch ends. A batch depends on its plan alone, neither on the threads nor on
  the plans before it: to resume, leave out the plans that are done. The threads
  end with the iterator: when it is exhausted, closed or dropped.

  Args:
    split: The examples.
    plans: One per batch, consumed as the look-ahead reaches them.
    augment: Makes a decoded image, uint8 [height, width, channels], one of the
      shape that all images of a batch share, drawing from the generator, which
      is seeded by the plan and the position; called from several threads.
    num_workers: Threads, at least 1.
    num_ahead: Images that are decoded before they are asked for, at least 1.

  Returns:
    An iterator over uint8 [examples, size, size, channels], one per plan, in
    their order; no two share memory.

  Raises:
    ValueError: If an option is outside its range; while iterating, as soon as
      the look-ahead reaches a plan that does not fit the split.
    RuntimeError: While iterating, if an example cannot be read; names it.
  """
  _check_at_least_one(num_workers=num_workers, num_ahead=num_ahead)

  def load(item: tuple[int, tuple[int, ...]]) -> np.ndarray:
    position, seed = item
    rng = np.random.default_rng((*seed, position))
    return _read(split, position, lambda image: augment(image, rng))

  # The look-ahead and the batching go through the plans at their own paces.
  ahead, current = itertools.tee(_checked(plans, len(split.ids)))
  images = map_ordered(
    load,
    ((position, p.seed) for p in ahead for position in p.positions.tolist()),
    num_workers=num_workers,
    num_ahead=num_ahead,
  )
  return _batched(images, (len(plan.positions) for plan in current))


def prefetch(
  batches: Iterable[_Item],
  put: Callable[[_Item], _Result],
  *,
  num_ahead: int = 2,
) -> Iterator[_Result]:
  """Puts batches, on a device for instance, before they are asked for.

  Args:
    batches: Closed when the iterator is exhausted or closed, if it can be.
    put: Called once per batch, in order, in the consumer's thread; best if it
      returns before its work is done, as `jax.device_put` does.
    num_ahead: Batches that are put before they are asked for; 0 puts each when
      it is asked for.

  Returns:
    An iterator over what `put` returns. It raises what `batches` and `put`
    raise when that happens, up to `num_ahead` batches early.

  Raises:
    ValueError: If `num_ahead` is negative.
  """
  if num_ahead < 0:
    raise ValueError(f"Expected `num_ahead` >= 0, got {num_ahead}.")
  return _prefetched(batches, put, num_ahead)


def _read(
  split: Split, position: int, transform: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
  """Reads and transforms one example; an error names it."""
  try:
    return transform(split.read(position))
  except Exception as error:
    raise RuntimeError(
      f"Example {split.ids[position]!r} cannot be read: {error}"
    ) from error


def _batched(
  images: Iterator[np.ndarray], sizes: Iterable[int]
) -> Iterator[np.ndarray]:
  """Stacks images until they end; closes `images` when it is closed."""
  with contextlib.closing(images):
    for size in sizes:
      batch = list(itertools.islice(images, size))
      if not batch:
        return
      yield np.stack(batch)


def _prefetched(
  batches: Iterable[_Item], put: Callable[[_Item], _Result], num_ahead: int
) -> Iterator[_Result]:
  """Yields what was put; closes `batches` when it is closed."""
  ready = collections.deque()
  with contextlib.ExitStack() as stack:
    if hasattr(batches, "close"):
      stack.callback(batches.close)
    for batch in batches:
      ready.append(put(batch))
      if len(ready) > num_ahead:
        yield ready.popleft()
    while ready:
      yield ready.popleft()


def _checked(
  plans: Iterable[BatchPlan], num_examples: int
) -> Iterator[BatchPlan]:
  """Checks each plan when it is asked for."""
  for plan in plans:
    _check_positions(plan.positions, num_examples)
    if not len(plan.positions):
      raise ValueError("Expected `positions` of at least 1 example, got 0.")
    if any(not 0 <= number < 2**32 for number in plan.seed):
      raise ValueError(f"Expected `seed` in [0, 2**32), got {plan.seed}.")
    yield plan


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
