"""Features and probabilities of a pool."""

from collections.abc import Callable, Iterable, Iterator
import contextlib
import functools
from typing import Any, cast

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float
import numpy as np

from decern_jax.data.dataset import Split
from decern_jax.data.pipeline import image_batches
from decern_jax.distributed.collective import AxisName, varying
from decern_jax.distributed.rows import HostRows, Rows
from decern_jax.distributed.sharding import (
  POOL_AXIS,
  SPLIT,
  is_shared,
  make_local_mesh,
  platform,
  shard_rows,
)
from decern_jax.ops.block import fold_blocks, rows_at, set_rows_at
from decern_jax.ops.head import LinearHead, logits

# The activations of this many images fit into the caches of a core, which is
# twice as fast as a whole batch (MobileNetV2, 160 pixels).
CPU_CHUNK_IMAGES = 4

# Rows of a block.
BLOCK_ROWS = 8192


def embed(
  apply: Callable[[Any, jax.Array], jax.Array],
  variables: Any,
  batches: Iterable[np.ndarray],
  *,
  batch_size: int,
  mesh: Mesh,
) -> Iterator[np.ndarray]:
  """Computes the features of images, batch by batch.

  Args:
    apply: Maps variables and images [batch, height, width, channels] to
      features [batch, dim].
    variables: Variables of the model.
    batches: Images, uint8, at most `batch_size` at a time.
    batch_size: Images of a full batch. Shorter ones are padded, so that one
      program computes all.
    mesh: Mesh that every batch is split over, of devices of this process.

  Yields:
    float32 [images of a batch, dim], on the host.
  """
  rows = NamedSharding(mesh, PartitionSpec(POOL_AXIS))
  variables = jax.device_put(variables, NamedSharding(mesh, PartitionSpec()))
  padded_size = -(-batch_size // mesh.size) * mesh.size
  waiting = None
  for images in batches:
    padding = [(0, padded_size - len(images))] + [(0, 0)] * (images.ndim - 1)
    placed = jax.device_put(np.pad(images, padding), rows)
    # The device computes this batch while the previous one is fetched.
    computed = embed_batch(variables, placed, apply=apply, mesh=mesh)
    following = (computed, len(images))
    if waiting is not None:
      yield _fetch(*waiting)
    waiting = following
  if waiting is not None:
    yield _fetch(*waiting)


def _fetch(computed: jax.Array, num_images: int) -> np.ndarray:
  return np.asarray(computed)[:num_images].astype(np.float32)


def embed_split(
  apply: Callable[[Any, jax.Array], jax.Array],
  variables: Any,
  split: Split,
  transform: Callable[[np.ndarray], np.ndarray],
  *,
  name: str,
  batch_size: int,
  num_workers: int,
  mesh: Mesh,
  indices: np.ndarray | None = None,
) -> Iterator[np.ndarray]:
  """Computes the features of examples, with a progress bar if in a terminal.

  Args:
    apply: As in `embed`.
    variables: Variables of the model; every process needs all of them.
    split: The examples.
    transform: Maps a decoded image to one of the shape that all images share.
    name: Name of the examples in the progress bar.
    batch_size: As in `embed`.
    num_workers: Threads that decode images.
    mesh: The mesh of the run. Only the devices of this process are used.
    indices: int [images], the examples, at least one; None for all.

  Yields:
    float32 [images of a batch, dim], in the order of the indices.
  """
  import tqdm

  batches = image_batches(
    split,
    transform,
    batch_size=batch_size,
    num_workers=num_workers,
    indices=indices,
  )
  if is_shared(mesh):
    variables = jax.tree.map(np.asarray, variables)
    mesh = make_local_mesh(mesh)
  total = len(split.ids) if indices is None else len(indices)
  # `disable=None` keeps the bar out of files and pipes.
  with (
    contextlib.closing(batches),
    tqdm.tqdm(
      total=total,
      desc=f"features of {name}",
      unit="image",
      disable=None,
      leave=False,
    ) as bar,
  ):
    for rows in embed(
      apply, variables, batches, batch_size=batch_size, mesh=mesh
    ):
      bar.update(len(rows))
      yield rows


@functools.partial(jax.jit, static_argnames=("apply", "mesh"))
def embed_batch(variables, images, *, apply, mesh):
  """Computes the features of a batch, as `embed` does.

  Args:
    variables: Variables of the model, on all devices of the mesh.
    images: uint8 [batch, height, width, channels], split over the mesh.
    apply: As in `embed`.
    mesh: The mesh.

  Returns:
    [batch, dim], split over the mesh.
  """
  rows = PartitionSpec(POOL_AXIS)
  return jax.shard_map(
    functools.partial(apply_in_chunks, apply),
    mesh=mesh,
    in_specs=(PartitionSpec(), rows),
    out_specs=rows,
  )(variables, images)


def apply_in_chunks(apply, variables, images: jax.Array) -> Any:
  """Applies a model to a few images at a time, on processors with small caches.

  Args:
    apply: As in `embed`, or returns a tree of arrays [batch, ...].
    variables: Variables of the model.
    images: [batch, height, width, channels].

  Returns:
    Features [batch, dim], or the tree.
  """
  if platform() != "cpu":
    return apply(variables, images)
  return jax.lax.map(
    lambda image: jax.tree.map(
      lambda rows: rows[0], apply(variables, image[None])
    ),
    images,
    batch_size=CPU_CHUNK_IMAGES,
  )


@shard_rows(rows=("features",), out=SPLIT, static_argnames=("is_multi_label",))
def predict(
  head: LinearHead,
  features: Float[jax.typing.ArrayLike, "pool dim"] | HostRows,
  *,
  is_multi_label: bool = False,
  axis_name: AxisName = None,
) -> Float[Array, "pool classes"]:
  """Returns the class probabilities of features.

  Args:
    head: The head.
    features: The features. Those on the host are read block by block.
    is_multi_label: Whether an example may have several labels. If so, each
      probability is a sigmoid; else they are a softmax, whose sum is 1.
    axis_name: Mesh axes that the pool is split over, inside `shard_map`.

  Returns:
    The probabilities, split over the mesh as the features are.
  """

  def probabilities(head, rows):
    activation = jax.nn.sigmoid if is_multi_label else jax.nn.softmax
    return activation(logits(head, rows))

  # In blocks of one size, so that rounding does not depend on a row's index.
  return map_blocks(
    probabilities,
    head,
    cast(Rows, features),
    shape=head.bias.shape,
    axis_name=axis_name,
  )


def map_blocks(
  compute: Callable[[Any, jax.Array], jax.Array],
  params: Any,
  features: Rows,
  *,
  shape: tuple[int, ...],
  axis_name: AxisName,
) -> jax.Array:
  """Maps a function over the rows of features, block by block.

  Call it inside `jax.jit`.

  Args:
    compute: Maps parameters and features [rows, dim] to float32 [rows, *shape].
    params: Its parameters.
    features: The features.
    shape: Shape of the result of each row.
    axis_name: Mesh axes that the rows are split over, inside `shard_map`.

  Returns:
    float32 [rows, *shape].
  """

  def step(found, start, fresh):
    rows = rows_at(features, start, len(fresh))
    return set_rows_at(found, compute(params, rows), start)

  return fold_blocks(
    step,
    varying(jnp.zeros((len(features), *shape)), axis_name),
    num_rows=len(features),
    max_rows=len(features),
    block_size=BLOCK_ROWS,
  )
