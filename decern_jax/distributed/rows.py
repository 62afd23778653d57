"""Rows of a pool that stay on the host and are read block by block.

The functions of `ops` go through a pool in blocks of rows. `HostRows` takes the
place of the array [rows, dim]. Each block is then copied from the host when it
is needed, and the results are the same bit for bit.
"""

from collections.abc import Callable
import dataclasses
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int
import numpy as np


@runtime_checkable
class Source(Protocol):
  """A store of rows: in memory, on a disk, or in another library's format.

  Attributes:
    shape: (rows, dim).
  """

  @property
  def shape(self) -> tuple[int, int]:
    """(rows, dim)."""
    ...

  def take(self, indices: np.ndarray) -> np.ndarray:
    """Reads rows. Several threads may call this at once.

    Args:
      indices: int32 [count], each in [0, rows).

    Returns:
      float32 [count, dim].
    """
    ...


class InMemory:
  """Rows in the memory of the host, as a `Source`.

  Attributes:
    shape: (rows, dim).
  """

  def __init__(self, rows: np.ndarray):
    """Keeps the rows.

    Args:
      rows: float32 [rows, dim], which may be a memory-mapped file.
    """
    self._rows = rows
    self.shape = rows.shape

  def take(self, indices: np.ndarray) -> np.ndarray:
    """Reads rows, as `Source.take`."""
    if len(indices) and np.all(np.diff(indices) == 1):
      # A view, which saves one copy of the rows.
      return self._rows[indices[0] : indices[-1] + 1]
    return self._rows[indices]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class HostRows:
  """Rows [rows, dim] on the host, as an argument of jitted functions.

  Every process needs only the rows of its own devices.

  Attributes:
    indices: int32 [rows], the index of each row in the source, or -1 for a row
      of zeros. Split over the mesh as the rows would be.
    source: Where the rows are. A function is compiled again for each new
      source.
    transform: Function of rows [count, dim] that is applied to each block after
      it is read, such as `ops.distances.normalize`. None leaves rows unchanged.
  """

  indices: jax.Array
  source: Source = dataclasses.field(metadata={"static": True})
  transform: Callable[[Array], Array] | None = dataclasses.field(
    default=None, metadata={"static": True}
  )

  @property
  def shape(self) -> tuple[int, int]:
    """The shape (rows, dim) of the array that these rows stand for."""
    return (len(self.indices), self.source.shape[1])

  @property
  def dtype(self) -> np.dtype:
    """The type of the elements, float32."""
    return np.dtype(np.float32)

  def __len__(self) -> int:
    return len(self.indices)

  def __getitem__(self, where: Int[Array, " count"]) -> Array:
    """Reads the rows with these indices in this pool: float32 [count, dim]."""
    return self._read(self.indices[where])

  def block(self, start: Int[Array, ""], size: int) -> Array:
    """Reads the rows `start ... start + size - 1`: float32 [size, dim]."""
    return self._read(jax.lax.dynamic_slice_in_dim(self.indices, start, size))

  def reorder(self, order: Int[Array, " rows"]) -> "HostRows":
    """Returns the same rows in another order, without reading them."""
    return dataclasses.replace(self, indices=self.indices[order])

  def _read(self, indices: Int[Array, " count"]) -> Array:
    shape = jax.ShapeDtypeStruct(
      (len(indices), self.source.shape[1]), jnp.float32
    )
    rows = jax.pure_callback(self._take, shape, indices)
    # Inside `shard_map`, JAX does not conclude that the result of a callback
    # differs between shards if its arguments do.
    axes = tuple(jax.typeof(indices).manual_axis_type.varying)
    rows = jax.lax.pcast(rows, axes, to="varying") if axes else rows
    return rows if self.transform is None else self.transform(rows)

  def _take(self, indices) -> np.ndarray:
    indices = np.asarray(indices)
    is_row = indices >= 0
    if is_row.all():
      # True for all blocks but the last, and saves one copy of the rows.
      return self.source.take(indices)
    rows = self.source.take(np.maximum(indices, 0))
    return np.where(is_row[:, None], rows, np.float32(0.0))


Rows = Array | HostRows
"""Rows [rows, dim], on the devices or on the host."""


def in_order(rows: Rows, order: Int[Array, " rows"]) -> Rows:
  """Returns rows in another order.

  Returns:
    The rows, a copy if they are on the devices and a view if on the host.
  """
  if isinstance(rows, HostRows):
    return rows.reorder(order)
  return rows[order]
