"""Rows of a pool that stay outside of the devices, read block by block.

The functions of `ops` go through a pool in blocks of rows. `HostRows` takes the
place of the array [rows, dim]: a block is then copied from the host when its
turn comes, and what is computed is the same to the bit.
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
  """Where the rows are: in memory, on a disk, in another library's store.

  Attributes:
    shape: (rows, dim).
  """

  shape: tuple[int, int]

  def take(self, positions: np.ndarray) -> np.ndarray:
    """Reads rows, maybe from several threads at once.

    Args:
      positions: int32 [count], each in [0, rows).

    Returns:
      float32 [count, dim].
    """


class InMemory:
  """Rows in the memory of the host, as a `Source`.

  Attributes:
    shape: (rows, dim).
  """

  def __init__(self, rows: np.ndarray):
    """Takes the rows; a memory-mapped file is one kind of array.

    Args:
      rows: float32 [rows, dim].
    """
    self._rows = rows
    self.shape = rows.shape

  def take(self, positions: np.ndarray) -> np.ndarray:
    """Reads rows, as `Source.take`."""
    if len(positions) and np.all(np.diff(positions) == 1):
      # A view: nothing is copied twice.
      return self._rows[positions[0] : positions[-1] + 1]
    return self._rows[positions]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class HostRows:
  """Rows [rows, dim] on the host, as an argument of jitted functions.

  Every process needs the rows of its own devices alone.

  Attributes:
    positions: int32 [rows], where each row is in the source; -1: a row of
      zeros. Split over the mesh as the rows would be.
    source: Where the rows are. A function compiles anew for another source.
    transform: Function of rows [count, dim] that is applied to each block after
      it is read, such as `ops.similarity.normalize`; None: rows as they are.
  """

  positions: jax.Array
  source: Source = dataclasses.field(metadata={"static": True})
  transform: Callable[[Array], Array] | None = dataclasses.field(
    default=None, metadata={"static": True}
  )

  @property
  def shape(self) -> tuple[int, int]:
    """The shape (rows, dim) of the array that these rows stand for."""
    return (len(self.positions), self.source.shape[1])

  @property
  def dtype(self) -> np.dtype:
    """The type of the elements, float32."""
    return np.dtype(np.float32)

  def __len__(self) -> int:
    return len(self.positions)

  def __getitem__(self, where: Int[Array, " count"]) -> Array:
    """Reads the rows at positions of this pool: float32 [count, dim]."""
    return self._read(self.positions[where])

  def block(self, start: Int[Array, ""], size: int) -> Array:
    """Reads the rows `start ... start + size - 1`: float32 [size, dim]."""
    return self._read(jax.lax.dynamic_slice_in_dim(self.positions, start, size))

  def reorder(self, order: Int[Array, " rows"]) -> "HostRows":
    """Returns the same rows in another order, read when their turn comes."""
    return dataclasses.replace(self, positions=self.positions[order])

  def _read(self, positions: Int[Array, " count"]) -> Array:
    shape = jax.ShapeDtypeStruct(
      (len(positions), self.source.shape[1]), jnp.float32
    )
    rows = jax.pure_callback(self._take, shape, positions)
    # Inside of `shard_map`, what a callback returns differs by shard as its
    # arguments do, which JAX does not conclude by itself.
    axes = tuple(jax.typeof(positions).manual_axis_type.varying)
    rows = jax.lax.pcast(rows, axes, to="varying") if axes else rows
    return rows if self.transform is None else self.transform(rows)

  def _take(self, positions) -> np.ndarray:
    positions = np.asarray(positions)
    is_row = positions >= 0
    if is_row.all():
      # All blocks but the last: a copy less.
      return self.source.take(positions)
    rows = self.source.take(np.maximum(positions, 0))
    return np.where(is_row[:, None], rows, np.float32(0.0))


Rows = Array | HostRows
"""Rows [rows, dim], on the devices or on the host."""


def in_order(rows: Rows, order: Int[Array, " rows"]) -> Rows:
  """Returns rows in another order.

  Args:
    rows: The rows.
    order: Positions in them.

  Returns:
    The rows: on the devices a copy, on the host a view.
  """
  if isinstance(rows, HostRows):
    return rows.reorder(order)
  return rows[order]
