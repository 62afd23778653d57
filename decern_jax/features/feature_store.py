"""Cached features of a pool, on a disk or in an object store.

Features are computed and written in blocks of rows. If the process is killed,
one block is lost. Several processes that share the folder compute different
blocks. Local files are memory-mapped, and rows are read when they are needed.
"""

from collections.abc import Callable, Iterable, Iterator
import hashlib
import io
import os

from absl import logging
from etils import epath
import numpy as np

from decern_jax.distributed import processes
from decern_jax.io import storage

# Rows of a block, or more if there would be more blocks than MAX_BLOCKS: the
# number of files that a process can map is limited.
BLOCK_ROWS = 1024
MAX_BLOCKS = 4096

_DIGEST_BYTES = hashlib.sha256().digest_size

Compute = Callable[[np.ndarray], Iterable[np.ndarray]]


class FeatureStore:
  """Features [rows, dim] in blocks; a `decern_jax.distributed.rows.Source`.

  Attributes:
    shape: (rows, dim).
  """

  def __init__(self, folder: epath.PathLike, num_rows: int):
    """Opens a folder. Blocks that are not read may be missing."""
    self._folder = storage.as_path(folder)
    self._num_rows = num_rows
    self._size = block_rows(num_rows)
    self._blocks: dict[int, np.ndarray] = {}

  @property
  def num_blocks(self) -> int:
    """Number of blocks of the whole pool."""
    return -(-self._num_rows // self._size)

  @property
  def shape(self) -> tuple[int, int]:
    """(rows, dim).

    Raises:
      RuntimeError: If the first block is missing.
    """
    return (self._num_rows, self._block(0).shape[1])

  def take(self, indices: np.ndarray) -> np.ndarray:
    """Reads rows. Several threads may call it.

    Args:
      indices: int [count], each in [0, rows); increasing ones are fastest.

    Returns:
      float32 [count, dim].

    Raises:
      RuntimeError: If a block is missing or damaged.
    """
    indices = np.asarray(indices)
    number = indices // self._size
    out = np.empty((len(indices), self.shape[1]), np.float32)
    # Ends of the runs of rows in the same block.
    ends = [*(np.flatnonzero(np.diff(number)) + 1), len(indices)]
    start = 0
    for end in ends:
      if end > start:
        at = int(number[start])
        local = indices[start:end] - at * self._size
        out[start:end] = self._block(at)[local]
      start = end
    return out

  def rows_of(self, number: int) -> np.ndarray:
    """Returns the indices of the rows of a block, int [rows of the block]."""
    start = number * self._size
    return np.arange(start, min(start + self._size, self._num_rows))

  def has(self, number: int) -> bool:
    """Returns whether a block is there and not damaged."""
    if number in self._blocks:
      return True
    path = self._path(number)
    if not path.exists():
      return False
    found = _read(path)
    if found is None or len(found) != len(self.rows_of(number)):
      logging.warning("Computing features again: %s does not hold them.", path)
      return False
    self._blocks[number] = found
    return True

  def write(self, number: int, rows: np.ndarray) -> None:
    """Writes a block atomically.

    Args:
      number: Number of the block.
      rows: [rows of the block, dim].
    """
    content = io.BytesIO()
    np.save(content, np.asarray(rows, np.float32), allow_pickle=False)
    digest = hashlib.sha256(content.getbuffer()).digest()
    storage.write_atomically(self._path(number), content.getvalue() + digest)

  def _path(self, number: int) -> epath.Path:
    return self._folder / f"{number:06d}.features"

  def _block(self, number: int) -> np.ndarray:
    if not self.has(number):
      raise RuntimeError(
        f"Expected the features of block {number} in {self._path(number)}, got"
        " none: the folder must be one that all processes share."
      )
    return self._blocks[number]


def block_rows(num_rows: int) -> int:
  """Returns the number of rows of the blocks of a pool."""
  size = BLOCK_ROWS
  while size * MAX_BLOCKS < num_rows:
    size *= 2
  return size


def open_store(
  directory: epath.PathLike,
  key: tuple[str, ...],
  *,
  num_rows: int,
  compute: Compute,
) -> FeatureStore:
  """Opens cached features, and computes the blocks that are missing.

  Each of several processes computes its share of the blocks.

  Args:
    directory: Folder of the cache, which is created if it is missing. All
      processes must share it.
    key: What the features depend on: data, weights and transform.
    num_rows: Rows of the pool, at least 1.
    compute: Maps row indices, int [count], to their features, in order, as
      successive arrays float32 [some, dim].
  """
  name = hashlib.sha256("\n".join(key).encode()).hexdigest()[:32]
  folder = storage.as_path(directory) / name
  # Before the computation, so that an unusable folder is reported immediately.
  storage.make_folder(folder)
  store = FeatureStore(folder, num_rows)
  own = range(processes.index(), store.num_blocks, processes.count())
  missing = [number for number in own if not store.has(number)]
  if missing:
    _compute(store, missing, compute)
  else:
    logging.info("Took features from %s.", folder)
  processes.wait_for_all("features")
  return store


def _compute(store: FeatureStore, missing: list[int], compute: Compute) -> None:
  """Computes blocks, and writes each when it is complete."""
  indices = np.concatenate([store.rows_of(number) for number in missing])
  rows = _Cutter(compute(indices))
  for number in missing:
    store.write(number, rows.take(len(store.rows_of(number))))
    if not processes.are_several():
      processes.end_if_stopping()


class _Cutter:
  """Regroups arrays of rows to arrays of requested lengths."""

  def __init__(self, batches: Iterable[np.ndarray]):
    self._batches: Iterator[np.ndarray] = iter(batches)
    self._ready: list[np.ndarray] = []
    self._count = 0

  def take(self, count: int) -> np.ndarray:
    """Returns the next rows, [count, dim]."""
    while self._count < count:
      batch = next(self._batches)
      self._ready.append(batch)
      self._count += len(batch)
    rows = np.concatenate(self._ready)
    self._ready, self._count = [rows[count:]], self._count - count
    return rows[:count]


def _read(path: epath.Path) -> np.ndarray | None:
  """Reads a block, or returns None if it is missing or damaged."""
  try:
    if storage.is_remote(path):
      content: np.ndarray = np.frombuffer(storage.read_bytes(path), np.uint8)
    else:
      content = np.memmap(os.fspath(path), np.uint8, mode="r")
  except (OSError, ValueError):  # an empty file cannot be mapped
    return None
  body, digest = content[:-_DIGEST_BYTES], content[-_DIGEST_BYTES:]
  if hashlib.sha256(body.data).digest() != digest.tobytes():
    return None
  header = io.BytesIO(body[:256].tobytes())
  np.lib.format.read_magic(header)
  shape, _, dtype = np.lib.format.read_array_header_1_0(header)
  return body[header.tell() :].view(dtype).reshape(shape)
