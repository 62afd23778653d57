"""Batches of images, which threads decode ahead of their consumer."""

import collections
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent import futures
import contextlib
import dataclasses
import itertools
from typing import TypeVar

import jax
from jax.sharding import Mesh
import numpy as np

from decern_jax.data.dataset import Split
from decern_jax.distributed import sharding

# Enough to keep the threads busy while the consumer works on a batch.
_BATCHES_AHEAD = 2

Seed = tuple[int, ...]

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@dataclasses.dataclass(frozen=True)
class BatchPlan:
  """The examples and the randomness of one training batch.

  Attributes:
    indices: int [examples], at least one: the examples, in this order. A
      repeated example is augmented in the same way each time.
    seed: Seed of the augmentation: numbers in [0, 2**32), equally many in all
      plans. Different seeds give independent draws.
  """

  indices: np.ndarray
  seed: tuple[int, ...]


def map_ordered(
  function: Callable[[_Item], _Result],
  items: Iterable[_Item],
  *,
  num_workers: int,
  num_ahead: int,
) -> Generator[_Result, None, None]:
  """Maps in a pool of threads, in order, with bounded look-ahead.

  Args:
    function: Called from several threads.
    items: Its arguments. One is taken for each result.
    num_workers: Threads, at least 1.
    num_ahead: Items that are started before their results are requested, at
      least 1.

  Yields:
    The results, in the order of the items. The first exception of `function` is
    raised in place of its result and ends the iterator.
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


def image_batches(
  split: Split,
  transform: Callable[[np.ndarray], np.ndarray],
  *,
  batch_size: int,
  num_workers: int,
  indices: np.ndarray | None = None,
) -> Generator[np.ndarray, None, None]:
  """Reads, transforms and batches images in a pool of threads.

  At most two batches are decoded ahead of the requested one. The order does not
  depend on the number of threads. The threads end with the iterator: when it is
  exhausted, closed or dropped.

  Args:
    split: The examples.
    transform: Maps a decoded image, uint8 [height, width, channels], to one of
      the shape that all images of a batch share. Called from several threads.
    batch_size: Images per batch, at least 1.
    num_workers: Threads, at least 1.
    indices: int [examples], the examples to read, in this order; None for all.

  Returns:
    An iterator over uint8 [batch_size, size, size, channels]; the last batch
    may be shorter.

  Raises:
    ValueError: If an argument is outside its range.
    RuntimeError: While iterating, if an example cannot be read. The message
      names it.
  """
  num_examples = len(split.ids)
  indices = np.arange(num_examples) if indices is None else indices
  _check_at_least_one(batch_size=batch_size, num_workers=num_workers)
  _check_indices(indices, num_examples)

  images = map_ordered(
    lambda index: _read(split, index, transform),
    indices.tolist(),
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
) -> Generator[np.ndarray, None, None]:
  """Reads, augments and batches images in a pool of threads, plan by plan.

  The threads decode one stream of images, and do not wait at the end of a batch
  or an epoch. A batch depends only on its plan, not on the threads nor on the
  plans before it, so that training resumes with the remaining plans. The
  threads end with the iterator: when it is exhausted, closed or dropped.

  Args:
    split: The examples.
    plans: One per batch, taken as the look-ahead reaches them.
    augment: Maps a decoded image, uint8 [height, width, channels], to one of
      the shape that all images of a batch share. It draws from the generator,
      which is seeded by the plan and the index. Called from several threads.
    num_workers: Threads, at least 1.
    num_ahead: Images that are decoded before they are requested, at least 1.

  Returns:
    An iterator over uint8 [examples, size, size, channels], one per plan, in
    their order; no two share memory.

  Raises:
    ValueError: If an option is outside its range; while iterating, when the
      look-ahead reaches a plan that does not fit the split.
    RuntimeError: While iterating, if an example cannot be read. The message
      names it.
  """
  _check_at_least_one(num_workers=num_workers, num_ahead=num_ahead)

  def load(item: tuple[int, tuple[int, ...]]) -> np.ndarray:
    index, seed = item
    rng = np.random.default_rng((*seed, index))
    return _read(split, index, lambda image: augment(image, rng))

  # Images are loaded for several plans before the first batch is made.
  ahead, current = itertools.tee(_checked(plans, len(split.ids)))
  images = map_ordered(
    load,
    ((index, p.seed) for p in ahead for index in p.indices.tolist()),
    num_workers=num_workers,
    num_ahead=num_ahead,
  )
  return _batched(images, (len(plan.indices) for plan in current))


def prefetch(
  batches: Iterable[_Item],
  put: Callable[[_Item], _Result],
  *,
  num_ahead: int = 2,
) -> Generator[_Result, None, None]:
  """Puts batches on a device, or elsewhere, before they are requested.

  Args:
    batches: Closed with the iterator, if it can be closed.
    put: Called once per batch, in order, in the consumer's thread. It should
      return before its work is done, as `jax.device_put` does.
    num_ahead: Batches that are put before they are requested, at least 0.

  Returns:
    An iterator over what `put` returns. It raises the exceptions of `batches`
    and `put` up to `num_ahead` batches early.

  Raises:
    ValueError: If `num_ahead` is negative.
  """
  if num_ahead < 0:
    raise ValueError(f"Expected `num_ahead` >= 0, got {num_ahead}.")
  return _prefetched(batches, put, num_ahead)


def plan_batches(
  indices: np.ndarray,
  *,
  batch_size: int,
  seeds: Callable[[int], tuple[Seed, Seed]],
  first: int,
  num_steps: int,
) -> Iterator[BatchPlan]:
  """Plans the batches of training steps; each epoch has its own order.

  The last batch of an epoch is dropped if it is not full, unless it is the only
  one.

  Args:
    indices: int [examples], the examples to train on, at least one.
    batch_size: Examples of a batch.
    seeds: Maps the number of an epoch to the seed of its order and to that of
      its augmentation. The augmentation of an example does not depend on the
      order.
    first: Number of completed steps.
    num_steps: Number of steps of the whole training.

  Yields:
    The plan of step `first`, then of each following step.
  """
  size = min(batch_size, len(indices))
  planned, order, augmentation = None, indices, ()
  for step in range(first, num_steps):
    number, batch = divmod(step, len(indices) // size)
    if number != planned:
      ordering, augmentation = seeds(number)
      order = np.random.default_rng(ordering).permutation(indices)
      planned = number
    yield BatchPlan(order[batch * size : (batch + 1) * size], augmentation)


def device_batches(
  split: Split,
  plan: Callable[[], Iterator[BatchPlan]],
  augment: Callable[[np.ndarray, np.random.Generator], np.ndarray],
  *,
  batch_size: int,
  mesh: Mesh,
  num_workers: int,
  num_ahead: int = 128,
  has_labels: bool = True,
) -> Generator[tuple[jax.Array, ...], None, None]:
  """Yields images and labels on the devices, ahead of their use.

  Threads prepare the images while the devices compute. Each process reads only
  the images of its own devices.

  Args:
    split: The examples.
    plan: Returns the plans of the batches, from the first one on.
    augment: As in `training_batches`; its results may have any shape.
    batch_size: Examples of every batch. If it is not divisible by the number of
      devices, each device gets the whole batch.
    mesh: Mesh that the batches are split over.
    num_workers: Threads that prepare images.
    num_ahead: Images that are prepared before they are requested.
    has_labels: Whether labels are returned; else they are never read.

  Returns:
    An iterator over uint8 [batch, ...] and, with labels, int32 [batch, ...].
  """
  divides = batch_size % mesh.size == 0
  own = (
    sharding.local_rows(batch_size, mesh) if divides else np.arange(batch_size)
  )

  def plan_own() -> Iterator[BatchPlan]:
    for batch in plan():
      yield dataclasses.replace(batch, indices=batch.indices[own])

  def pair() -> Iterator[tuple[np.ndarray, ...]]:
    labels = np.asarray(split.labels, np.int32) if has_labels else None
    # The images are read ahead, and so have their own iterator of plans.
    batches = training_batches(
      split, plan_own(), augment, num_workers=num_workers, num_ahead=num_ahead
    )
    with contextlib.closing(batches):
      for images, batch in zip(batches, plan_own(), strict=True):
        wanted = [] if labels is None else [labels[batch.indices]]
        yield images, *wanted

  def put(arrays: tuple[np.ndarray, ...]) -> tuple[jax.Array, ...]:
    if not divides:
      return sharding.replicate(arrays, mesh)
    return tuple(
      sharding.place_local(rows, own, batch_size, mesh) for rows in arrays
    )

  return prefetch(pair(), put)


def _read(
  split: Split, index: int, transform: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
  """Reads and transforms one example; errors name it."""
  try:
    return transform(split.read(index))
  except Exception as error:
    raise RuntimeError(
      f"Example {split.ids[index]!r} cannot be read: {error}"
    ) from error


def _batched(
  images: Generator[np.ndarray, None, None], sizes: Iterable[int]
) -> Generator[np.ndarray, None, None]:
  """Stacks images to batches; closes `images` when it is closed."""
  with contextlib.closing(images):
    for size in sizes:
      batch = list(itertools.islice(images, size))
      if not batch:
        return
      yield np.stack(batch)


def _prefetched(
  batches: Iterable[_Item], put: Callable[[_Item], _Result], num_ahead: int
) -> Generator[_Result, None, None]:
  """Yields the results of `put`; closes `batches` when it is closed."""
  ready = collections.deque()
  with contextlib.ExitStack() as stack:
    close = getattr(batches, "close", None)
    if close is not None:
      stack.callback(close)
    for batch in batches:
      ready.append(put(batch))
      if len(ready) > num_ahead:
        yield ready.popleft()
    while ready:
      yield ready.popleft()


def _checked(
  plans: Iterable[BatchPlan], num_examples: int
) -> Iterator[BatchPlan]:
  """Checks each plan when it is requested."""
  for plan in plans:
    _check_indices(plan.indices, num_examples)
    if not len(plan.indices):
      raise ValueError("Expected `indices` of at least 1 example, got 0.")
    if any(not 0 <= number < 2**32 for number in plan.seed):
      raise ValueError(f"Expected `seed` in [0, 2**32), got {plan.seed}.")
    yield plan


def _check_at_least_one(**options: int) -> None:
  """Checks that counts are at least 1."""
  for name, value in options.items():
    if value < 1:
      raise ValueError(f"Expected `{name}` >= 1, got {value}.")


def _check_indices(indices: np.ndarray, num_examples: int) -> None:
  """Checks that indices are a vector, and in the range of the split."""
  if indices.ndim != 1 or not np.issubdtype(indices.dtype, np.integer):
    raise ValueError(
      "Expected `indices` to be a vector of integers, got "
      f"{indices.dtype} {list(indices.shape)}."
    )
  outside = indices[(indices < 0) | (indices >= num_examples)]
  if outside.size:
    raise ValueError(
      f"Expected `indices` in [0, {num_examples}), got {outside[0]}."
    )
