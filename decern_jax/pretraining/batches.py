"""Batches of views: planned, made in threads, put on the devices."""

from collections.abc import Iterable, Iterator
import functools

import jax
from jax.sharding import Mesh
import numpy as np

from decern_jax import rounds, sharding
from decern_jax.data import pipeline
from decern_jax.data.dataset import Split
from decern_jax.data.pipeline import BatchPlan
from decern_jax.pretraining.views import Views, make_views

# Views that are made before they are asked for, beside those on the devices.
_IMAGES_AHEAD = 256


def plan_batches(
  num_examples: int, *, batch_size: int, seed: int, first: int, num_steps: int
) -> Iterator[BatchPlan]:
  """Plans the batches of steps; each epoch has an order of its own.

  The last batch of an epoch is dropped where it is not full.

  Args:
    num_examples: The images, at least `batch_size`.
    batch_size: Images of a batch.
    seed: Seed of the run.
    first: Steps that are made already.
    num_steps: Steps of all epochs.

  Yields:
    The batch of step `first`, then that of the next one.
  """
  per_epoch = num_examples // batch_size
  order, ordered = None, None
  for number in range(first, num_steps):
    epoch, index = divmod(number, per_epoch)
    if epoch != ordered:
      rng = np.random.default_rng(rounds.host_seed(seed, "order", epoch))
      order, ordered = rng.permutation(num_examples), epoch
    begin = index * batch_size
    yield BatchPlan(
      order[begin : begin + batch_size], rounds.host_seed(seed, "views", epoch)
    )


def put(views: np.ndarray, mesh: Mesh) -> jax.Array:
  """Splits a batch over the mesh.

  Args:
    views: uint8 [batch, 2, height, width, channels].
    mesh: The mesh.

  Returns:
    The batch on the devices.
  """
  return sharding.place_pool(views, mesh)


def device_batches(
  train: Split,
  plans: Iterable[BatchPlan],
  *,
  views: Views,
  mesh: Mesh,
  num_workers: int,
) -> Iterator[jax.Array]:
  """Yields batches on the devices, a little ahead of their use.

  Threads make the views while the devices work.

  Args:
    train: The images.
    plans: One per batch.
    views: How views are made.
    mesh: The mesh.
    num_workers: Threads that make views.

  Returns:
    An iterator over what `put` returns.
  """
  batches = pipeline.training_batches(
    train,
    plans,
    functools.partial(make_views, views=views),
    num_workers=num_workers,
    num_ahead=_IMAGES_AHEAD,
  )
  return pipeline.prefetch(batches, lambda array: put(array, mesh))
