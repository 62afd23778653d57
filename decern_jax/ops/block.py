"""Loops over blocks of rows whose number is known only at run time."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from decern_jax.distributed.rows import HostRows, Rows


def fold_blocks(
  step: Callable,
  init,
  *,
  num_rows: int | Int[Array, ""],
  max_rows: int,
  block_size: int,
):
  """Folds `step` over blocks of the rows 0 ... num_rows - 1.

  The arrays keep their static length `max_rows`, and the loop runs only over
  the blocks that hold rows: a pool that shrinks costs less without a new
  compilation. The last block is moved back to fit, so a row may be visited
  twice; `fresh` is True the first time only.

  Args:
    step: Maps `(carry, start, fresh)` to the next carry, where `fresh` is a
      mask of the rows `start ... start + len(fresh) - 1`.
    init: The first carry.
    num_rows: Rows that count, in [0, max_rows].
    max_rows: Rows that the arrays have.
    block_size: Rows of a block, at least 1.

  Returns:
    The last carry.
  """
  size = min(block_size, max_rows)

  def body(block, carry):
    begin = block * size
    start = jnp.minimum(begin, max_rows - size)
    rows = start + jnp.arange(size)
    return step(carry, start, (rows >= begin) & (rows < num_rows))

  return jax.lax.fori_loop(0, (num_rows + size - 1) // size, body, init)


def rows_at(array: Rows, start: Int[Array, ""], size: int) -> Array:
  """Returns the rows `start ... start + size - 1` of an array."""
  if isinstance(array, HostRows):
    return array.block(start, size)
  return jax.lax.dynamic_slice_in_dim(array, start, size)


def set_rows_at(array: Array, rows: Array, start: Int[Array, ""]) -> Array:
  """Returns the array with the rows from `start` on replaced."""
  return jax.lax.dynamic_update_slice_in_dim(array, rows, start, 0)


def slots_of(order: Int[Array, " rows"]) -> Int[Array, " rows"]:
  """Returns where an order puts each row: its inverse."""
  return jnp.zeros_like(order).at[order].set(jnp.arange(len(order)))


def compaction(keep: Bool[Array, " rows"]) -> Int[Array, " rows"]:
  """Returns the order that puts the rows to keep first, else unchanged."""
  return jnp.argsort(~keep, stable=True)
