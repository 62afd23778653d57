"""Batches of images, decoded by threads a little ahead of their consumer."""

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

# Enough that no thread waits while the consumer works on a batch.
_BATCHES_AHEAD = 2

Seed = tuple[int, ...]

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@dataclasses.dataclass(frozen=True)
class BatchPlan:
  """The examples and the randomness of one training batch.

  Attributes:
    indices: int [examples], at least one: the examples, in this order. An
      example that comes twice is augmented in the same way.
    seed: Seed of the augmentation, as many numbers in [0, 2**32) in all plans.
      Different seeds give independent draws.
  """

  indices: np.ndarray
  seed: tuple[int, ...]


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


def image_batches(
  split: Split,
  transform: Callable[[np.ndarray], np.ndarray],
  *,
  batch_size: int,
  num_workers: int,
  indices: np.ndarray | None = None,
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
    indices: int [examples], which examples to read, in this order; all of
      them when None.

  Returns:
    An iterator over uint8 [batch_size, size, size, channels]; the last batch
    may be shorter.

  Raises:
    ValueError: If an argument is outside its range.
    RuntimeError: While iterating, if an example cannot be read; names it.
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
      is seeded by the plan and the index; called from several threads.
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
    index, seed = item
    rng = np.random.default_rng((*seed, index))
    return _read(split, index, lambda image: augment(image, rng))

  # The look-ahead and the batching go through the plans at their own paces.
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


def plan_batches(
  indices: np.ndarray,
  *,
  batch_size: int,
  seeds: Callable[[int], tuple[Seed, Seed]],
  first: int,
  num_steps: int,
) -> Iterator[BatchPlan]:
  """Plans the batches of steps; each pass has an order of its own.

  The last batch of a pass is dropped when it is not full, unless it is the only
  one.

  Args:
    indices: int [examples], at least one, the examples to train on.
    batch_size: Examples of a batch.
    seeds: Maps the number of a pass to the entropy of its order and to that of
      its augmentation: an example is augmented alike wherever it is in the
      order.
    first: Steps that are made already.
    num_steps: Steps of the whole training.

  Yields:
    The batch of step `first`, then that of the next one.
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
  """Yields images and labels on the devices, a little ahead of their use.

  Threads make the images while the devices work. A process reads those of its
  own devices alone; what they are does not depend on the others.

  Args:
    split: The examples.
    plan: Starts the plans of the batches anew.
    augment: As in `training_batches`; what it returns may have any
      shape.
    batch_size: Examples of every batch. Where the devices do not divide it,
      each of them gets all of the batch.
    mesh: Batches are split over it.
    num_workers: Threads that make images.
    num_ahead: Images that are made before they are asked for.
    has_labels: Whether the labels are wanted; else they are never read.

  Returns:
    An iterator over uint8 [batch, ...] and, with labels, int32 [batch, ...].
  """
  divides = batch_size % mesh.size == 0
  own = sharding.local_rows(batch_size, mesh) if divides else slice(None)

  def plan_own() -> Iterator[BatchPlan]:
    for batch in plan():
      yield dataclasses.replace(batch, indices=batch.indices[own])

  def pair() -> Iterator[tuple[np.ndarray, ...]]:
    labels = np.asarray(split.labels, np.int32) if has_labels else None
    # One plan for the images, which are read ahead, and one for the labels.
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
  """Reads and transforms one example; an error names it."""
  try:
    return transform(split.read(index))
  except Exception as error:
    raise RuntimeError(
      f"Example {split.ids[index]!r} cannot be read: {error}"
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
) -> Generator[_Result, None, None]:
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
    _check_indices(plan.indices, num_examples)
    if not len(plan.indices):
      raise ValueError("Expected `indices` of at least 1 example, got 0.")
    if any(not 0 <= number < 2**32 for number in plan.seed):
      raise ValueError(f"Expected `seed` in [0, 2**32), got {plan.seed}.")
    yield plan


def _check_at_least_one(**options: int) -> None:
  """Refuses counts below 1."""
  for name, value in options.items():
    if value < 1:
      raise ValueError(f"Expected `{name}` >= 1, got {value}.")


def _check_indices(indices: np.ndarray, num_examples: int) -> None:
  """Refuses anything but a vector of indices in the split."""
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
