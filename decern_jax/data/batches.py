"""Batches of training images: planned, made in threads, put on the devices."""

from collections.abc import Callable, Iterator
import contextlib

import jax
from jax.sharding import Mesh
import numpy as np

from decern_jax.data import pipeline
from decern_jax.data.dataset import Split
from decern_jax.data.pipeline import BatchPlan
from decern_jax.distributed import sharding

Seed = tuple[int, ...]


def plan_batches(
  positions: np.ndarray,
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
    positions: int [examples], at least one, the examples to train on.
    batch_size: Examples of a batch.
    seeds: Maps the number of a pass to the entropy of its order and to that of
      its augmentation: an example is augmented alike wherever it is in the
      order.
    first: Steps that are made already.
    num_steps: Steps of the whole training.

  Yields:
    The batch of step `first`, then that of the next one.
  """
  size = min(batch_size, len(positions))
  planned, order, augmentation = None, positions, ()
  for step in range(first, num_steps):
    number, index = divmod(step, len(positions) // size)
    if number != planned:
      ordering, augmentation = seeds(number)
      order = np.random.default_rng(ordering).permutation(positions)
      planned = number
    yield BatchPlan(order[index * size : (index + 1) * size], augmentation)


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
) -> Iterator[tuple[jax.Array, ...]]:
  """Yields images and labels on the devices, a little ahead of their use.

  Threads make the images while the devices work. A process reads those of its
  own devices alone; what they are does not depend on the others.

  Args:
    split: The examples.
    plan: Starts the plans of the batches anew.
    augment: As in `pipeline.training_batches`; what it returns may have any
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
      yield batch._replace(positions=batch.positions[own])

  def pair() -> Iterator[tuple[np.ndarray, ...]]:
    labels = np.asarray(split.labels, np.int32) if has_labels else None
    # One plan for the images, which are read ahead, and one for the labels.
    batches = pipeline.training_batches(
      split, plan_own(), augment, num_workers=num_workers, num_ahead=num_ahead
    )
    with contextlib.closing(batches):
      for images, batch in zip(batches, plan_own(), strict=True):
        wanted = [] if labels is None else [labels[batch.positions]]
        yield images, *wanted

  def put(arrays: tuple[np.ndarray, ...]) -> tuple[jax.Array, ...]:
    if not divides:
      return sharding.replicate(arrays, mesh)
    return tuple(
      sharding.place_local(rows, own, batch_size, mesh) for rows in arrays
    )

  return pipeline.prefetch(pair(), put)
