"""Collectives that also work on one device.

Every function takes `axis_name`. Inside `jax.shard_map` it names the mesh axes
that the rows of the pool are split over. Outside, it is None: all rows are
local, and nothing is communicated.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from decern_jax.distributed.rows import Rows

AxisName = str | Sequence[str] | None


def psum(value, axis_name: AxisName):
  """Returns the sum of `value` over the shards."""
  return value if axis_name is None else jax.lax.psum(value, axis_name)


def pmin(value, axis_name: AxisName):
  """Returns the smallest `value` over the shards."""
  return value if axis_name is None else jax.lax.pmin(value, axis_name)


def pmax(value, axis_name: AxisName):
  """Returns the largest `value` over the shards."""
  return value if axis_name is None else jax.lax.pmax(value, axis_name)


def num_shards(axis_name: AxisName) -> int:
  """Returns how many shards there are."""
  return 1 if axis_name is None else jax.lax.axis_size(axis_name)


def gather_rows(rows: Array, axis_name: AxisName) -> Array:
  """Returns the rows of all shards, in the order of the shards."""
  if axis_name is None:
    return rows
  return jax.lax.all_gather(rows, axis_name, tiled=True, to="invarying")


def scatter_sum(rows: Array, axis_name: AxisName) -> Array:
  """Returns the rows of this shard of a sum over the shards.

  Args:
    rows: [pool, ...], the summand of this shard for the whole pool.
    axis_name: As in all functions here.

  Returns:
    [rows of this shard, ...].
  """
  if axis_name is None:
    return rows
  return jax.lax.psum_scatter(rows, axis_name, tiled=True)


def varying(tree, axis_name: AxisName):
  """Marks arrays that are equal on every shard as different between shards.

  A loop over local rows needs this for its initial carry, because the carries
  that follow differ between shards.
  """
  if axis_name is None:
    return tree
  return jax.tree.map(
    lambda leaf: jax.lax.pcast(leaf, axis_name, to="varying"), tree
  )


def row_offset(num_rows: int, axis_name: AxisName) -> int | Int[Array, ""]:
  """Returns the index in the whole pool of this shard's first row."""
  if axis_name is None:
    return 0
  return jax.lax.axis_index(axis_name) * num_rows


def take_rows(
  rows: Rows, indices: Int[Array, " count"], axis_name: AxisName
) -> Array:
  """Returns the rows with indices in the whole pool, on every shard."""
  if axis_name is None:
    return rows[indices]
  local = indices - row_offset(len(rows), axis_name)
  mine = (local >= 0) & (local < len(rows))
  found = rows[jnp.clip(local, 0, len(rows) - 1)]
  kept = mine.reshape(-1, *[1] * (found.ndim - 1))
  return psum(jnp.where(kept, found, jnp.zeros_like(found)), axis_name)


def top_rows(
  values: Float[Array, " rows"], count: int, axis_name: AxisName
) -> tuple[Float[Array, " count"], Int[Array, " count"]]:
  """Returns the largest values of the pool and their indices in it.

  Each shard sends only `count` values. Among equal values the lowest index
  comes first.
  """
  local = min(count, len(values))
  best, indices = jax.lax.top_k(values, local)
  indices = indices + row_offset(len(values), axis_name)
  best = gather_rows(best, axis_name)
  indices = gather_rows(indices, axis_name)
  best, order = jax.lax.top_k(best, count)
  return best, indices[order]
