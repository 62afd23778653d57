"""Features and probabilities of a pool."""

from collections.abc import Callable, Iterable
import functools
import hashlib
import io
import os
from typing import Any

from absl import logging
from etils import epath
import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float
import numpy as np
import tqdm

from decern_jax.data.dataset import Split
from decern_jax.data.pipeline import image_batches
from decern_jax.ops.head import LinearHead, logits
from decern_jax.sharding import POOL_AXIS

# Images that a core's caches hold the activations of: twice as fast as a whole
# batch (MobileNetV2, 160 pixels).
CPU_CHUNK_IMAGES = 4


def embed(
  apply: Callable[[Any, jax.Array], jax.Array],
  variables: Any,
  batches: Iterable[np.ndarray],
  *,
  batch_size: int,
  mesh: Mesh,
) -> np.ndarray:
  """Computes the features of images, batch by batch.

  Args:
    apply: Maps variables and images [batch, height, width, channels] to
      features [batch, dim].
    variables: Variables of the model.
    batches: Images, uint8, at most `batch_size` at a time.
    batch_size: Images of a full batch; short ones are padded to it, so that
      one program computes them all.
    mesh: Every batch is split over it.

  Returns:
    float32 [images, dim], in the order of the images, on the host.
  """
  rows = NamedSharding(mesh, PartitionSpec(POOL_AXIS))
  variables = jax.device_put(variables, NamedSharding(mesh, PartitionSpec()))
  padded_size = -(-batch_size // mesh.size) * mesh.size
  done, waiting = [], None
  for images in batches:
    padding = [(0, padded_size - len(images))] + [(0, 0)] * (images.ndim - 1)
    placed = jax.device_put(np.pad(images, padding), rows)
    # The device works on this batch while the one before is fetched.
    computed = _embed_batch(variables, placed, apply=apply, mesh=mesh)
    following = (computed, len(images))
    if waiting is not None:
      done.append(np.asarray(waiting[0])[: waiting[1]])
    waiting = following
  if waiting is not None:
    done.append(np.asarray(waiting[0])[: waiting[1]])
  return np.concatenate(done).astype(np.float32)


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
  positions: np.ndarray | None = None,
) -> np.ndarray:
  """Computes the features of examples, with a progress bar in a terminal.

  Args:
    apply: As in `embed`.
    variables: As in `embed`.
    split: The examples.
    transform: Makes a decoded image one of the shape that all share.
    name: What the progress bar calls the examples.
    batch_size: As in `embed`.
    num_workers: Threads that decode images.
    mesh: As in `embed`.
    positions: int [images], at least one: which examples; None: all.

  Returns:
    float32 [images, dim], in the order of the positions.
  """
  batches = image_batches(
    split,
    transform,
    batch_size=batch_size,
    num_workers=num_workers,
    positions=positions,
  )
  total = len(split.ids) if positions is None else len(positions)
  # `disable=None` keeps the bar out of files and pipes.
  with tqdm.tqdm(
    total=total,
    desc=f"features of {name}",
    unit="image",
    disable=None,
    leave=False,
  ) as bar:
    return embed(
      apply, variables, _counted(batches, bar), batch_size=batch_size, mesh=mesh
    )


def _counted(batches, bar):
  """Yields batches, and tells a progress bar of their images."""
  for images in batches:
    yield images
    bar.update(len(images))


@functools.partial(jax.jit, static_argnames=("apply", "mesh"))
def _embed_batch(variables, images, *, apply, mesh):
  rows = PartitionSpec(POOL_AXIS)
  return jax.shard_map(
    functools.partial(apply_in_chunks, apply),
    mesh=mesh,
    in_specs=(PartitionSpec(), rows),
    out_specs=rows,
  )(variables, images)


def apply_in_chunks(apply, variables, images: jax.Array) -> jax.Array:
  """Applies a model to a few images at a time where caches are small.

  Args:
    apply: As in `embed`.
    variables: Variables of the model.
    images: [batch, height, width, channels].

  Returns:
    Features [batch, dim].
  """
  if jax.default_backend() != "cpu":
    return apply(variables, images)
  return jax.lax.map(
    lambda image: apply(variables, image[None])[0],
    images,
    batch_size=CPU_CHUNK_IMAGES,
  )


def cached(
  directory: epath.PathLike,
  key: tuple[str, ...],
  *,
  num_rows: int,
  compute: Callable[[], np.ndarray],
) -> np.ndarray:
  """Returns features from the disk, or computes and keeps them.

  Args:
    directory: Where features are kept; made if it is not there.
    key: All that the features depend on: data, weights, transform.
    num_rows: Rows that the features must have; a file with others, or one that
      is not as it was written, is computed anew with a warning.
    compute: Computes the features.

  Returns:
    float32 [num_rows, dim].
  """
  name = hashlib.sha256("\n".join(key).encode()).hexdigest()[:32]
  path = epath.Path(directory) / f"{name}.features"
  if path.exists():
    found = read(path)
    if found is not None and len(found) == num_rows:
      logging.info("Took features from %s.", path)
      return found
    logging.warning("Computing features anew: %s does not hold them.", path)
  # Before the work: a folder that cannot be made is told at once.
  path.parent.mkdir(parents=True, exist_ok=True)
  features = compute()
  _save(path, features)
  return features


def _save(path: epath.Path, array: np.ndarray) -> None:
  """Writes a digest and, after it, the array; the file appears at once."""
  content = io.BytesIO()
  np.save(content, array, allow_pickle=False)
  scratch = path.with_name(f"{path.stem}-{os.getpid()}.tmp")
  with scratch.open("wb") as file:
    file.write(hashlib.sha256(content.getbuffer()).digest())
    file.write(content.getbuffer())
  scratch.replace(path)


def read(path: epath.PathLike) -> np.ndarray | None:
  """Reads a file of `cached`.

  Args:
    path: The file.

  Returns:
    float32 [rows, dim], or None if the file is not as it was written.
  """
  try:
    with epath.Path(path).open("rb") as file:
      digest = file.read(hashlib.sha256().digest_size)
      content = file.read()
  except OSError:
    return None
  if hashlib.sha256(content).digest() != digest:
    return None
  return np.load(io.BytesIO(content), allow_pickle=False)


@jax.jit
def predict(
  head: LinearHead, features: Float[Array, "pool dim"]
) -> Float[Array, "pool classes"]:
  """Returns the class probabilities of features."""
  return jax.nn.softmax(logits(head, features), axis=-1)
