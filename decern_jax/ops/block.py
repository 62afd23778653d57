"""Loops over blocks of rows, orders of rows, and sums."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

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
  the blocks that hold rows. A pool that shrinks then costs less and compiles
  nothing new. The last block is moved back to fit into the array, so that a row
  may be visited twice. `fresh` is True only at the first visit.

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
  """Returns the index of each row in an order: its inverse permutation."""
  return jnp.zeros_like(order).at[order].set(jnp.arange(len(order)))


def compaction(keep: Bool[Array, " rows"]) -> Int[Array, " rows"]:
  """Returns the order that moves the rows to keep to the front.

  Among the rows to keep, and among the others, the order stays the same.
  """
  return jnp.argsort(~keep, stable=True)


def pairwise_sum(values: Float[Array, "rows ..."]) -> Float[Array, "..."]:
  """Returns the sum over rows, by repeatedly adding one half to the other.

  The rounding error grows with the logarithm of the number of rows. Sums of one
  pool agree to a few units in the last place for any number of shards. A
  running sum of a million rows differs by thousands of them.
  """
  size = 1 << (len(values) - 1).bit_length()
  padding = [(0, size - len(values))] + [(0, 0)] * (values.ndim - 1)
  values = jnp.pad(values, padding)
  while len(values) > 1:
    half = len(values) // 2
    values = values[:half] + values[half:]
  return values[0]
