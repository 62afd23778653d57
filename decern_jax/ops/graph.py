"""The nearest-neighbor graph of a pool, and smoothing over it."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from decern_jax.distributed.collective import (
  AxisName,
  gather_rows,
  psum,
  row_offset,
  scatter_sum,
  varying,
)
from decern_jax.distributed.rows import Rows
from decern_jax.distributed.sharding import SPLIT, WHOLE, shard_rows
from decern_jax.ops.block import fold_blocks, rows_at, set_rows_at
from decern_jax.ops.distances import normalize

NUM_NEIGHBORS = 10

# Weights of edges are cosines to this power.
POWER = 3

# Share of the neighbors in a smoothing step, and number of the steps.
ALPHA = 0.9
NUM_STEPS = 20

# Rows of a device, and rows of each device that they are compared with, whose
# cosines are in memory at once.
BLOCK_ROWS = 512

# Columns that are smoothed at once.
BLOCK_COLUMNS = 256


class Graph(NamedTuple):
  """A graph of the rows of a pool, split over devices as the pool is.

  The adjacency matrix is S = V + Vᵀ, where row i of V has the weights of the
  edges from i to its nearest neighbors. S is symmetric, and normalised: with W
  the matrix of the unnormalised weights and D the diagonal matrix of its row
  sums, S = D^(-1/2) W D^(-1/2).

  Attributes:
    neighbors: The nearest neighbors of each row, as indices of the pool.
    weights: The entries of V; 0 where a row has fewer neighbors.
  """

  neighbors: Int[Array, "pool neighbors"]
  weights: Float[Array, "pool neighbors"]


@shard_rows(
  rows=("features", "valid"),
  out=SPLIT,
  static_argnames=("num_neighbors", "block_size"),
)
def join_neighbors(
  features: Rows,
  valid: Bool[Array, " pool"],
  center: Float[Array, " dim"],
  *,
  num_neighbors: int = NUM_NEIGHBORS,
  block_size: int = BLOCK_ROWS,
  axis_name: AxisName = None,
) -> Graph:
  """Joins each row to its nearest neighbors.

  The neighbors are those of the largest cosine c, after the center is
  subtracted. The weight of an edge is max(c, 0)³ before normalization.
  All pairs of rows are compared, block by block: the result is exact, and
  memory grows linearly with the pool.

  Args:
    features: [pool, dim]; rows on the host are read block by block.
    valid: True at the rows that exist. The others have no edges; in features
      on the devices they may hold anything.
    center: The mean of the pool (`center_and_scale`).
    num_neighbors: Number of neighbors of each row, at least 1.
    block_size: Rows that are compared at once, at least 1.
    axis_name: Mesh axes that the pool is split over, inside `shard_map`.

  Returns:
    The graph. Any number of devices gives the same up to rounding, and up to
    ties within rounding.

  References:
    Zhou et al., "Learning with local and global consistency", NIPS 2003.
  """
  cosines, neighbors = _nearest(
    features,
    valid,
    center,
    num_neighbors=num_neighbors,
    block_size=block_size,
    axis_name=axis_name,
  )
  weights = jnp.maximum(cosines, 0.0) ** POWER
  ones = jnp.ones((len(valid), 1), weights.dtype)
  degrees = _multiply(neighbors, weights, ones, axis_name)
  # A row without edges keeps weights of 0.
  scale = jax.lax.rsqrt(jnp.maximum(degrees[:, 0], jnp.finfo(jnp.float32).tiny))
  everywhere = gather_rows(scale, axis_name)
  return Graph(neighbors, weights * scale[:, None] * everywhere[neighbors])


@shard_rows(rows=("features", "valid"), out=(WHOLE, WHOLE))
def center_and_scale(
  features: Rows, valid: Bool[Array, " pool"], *, axis_name: AxisName = None
) -> tuple[Float[Array, " dim"], Float[Array, ""]]:
  """Returns the mean of the valid rows, and their mean distance to it.

  Args:
    features: [pool, dim]; rows on the host are read block by block.
    valid: True at the rows that count, one or more.
    axis_name: Mesh axes that the pool is split over, inside `shard_map`.

  Returns:
    The mean, and the distance; 1 where all rows are equal.
  """
  count = psum(jnp.sum(valid, dtype=features.dtype), axis_name)

  def mean(compute, shape):
    def add(total, start, fresh):
      rows = compute(rows_at(features, start, len(fresh)))
      counts = fresh & rows_at(valid, start, len(fresh))
      return total + jnp.sum(jnp.where(counts[:, None], rows, 0.0), axis=0)

    return _sum_blocks(add, shape, features, axis_name) / count

  center = mean(lambda rows: rows, features.shape[1])
  distance = mean(
    lambda rows: jnp.linalg.norm(rows - center[None], axis=1, keepdims=True), 1
  )[0]
  return center, jnp.where(distance > 0.0, distance, 1.0)


def _nearest(
  features, valid, center, *, num_neighbors, block_size, axis_name
) -> tuple[jax.Array, jax.Array]:
  """Returns the largest cosines of each row, and the rows that have them.

  Cosines are minus infinity where there are too few rows.
  """
  num_rows = len(features)
  offset = row_offset(num_rows, axis_name)

  def block_at(start, size):
    counts = rows_at(valid, start, size)
    rows = rows_at(features, start, size) - center[None]
    rows = normalize(jnp.where(counts[:, None], rows, 0.0))
    return rows, offset + start + jnp.arange(size), counts

  def compare_with(best, start, fresh):
    others, numbers, counts = block_at(start, len(fresh))
    others, numbers, counts = (
      gather_rows(array, axis_name)
      for array in (others, numbers, counts & fresh)
    )

    def compare(best, start, fresh):
      rows, own, _ = block_at(start, len(fresh))
      cosines = jnp.matmul(rows, others.T, precision=jax.lax.Precision.HIGHEST)
      is_other = counts[None] & (own[:, None] != numbers[None])
      cosines = jnp.where(is_other, cosines, -jnp.inf)
      before = [rows_at(array, start, len(fresh)) for array in best]
      cosines = jnp.concatenate([before[0], cosines], axis=1)
      known = jnp.broadcast_to(numbers[None], (len(fresh), len(numbers)))
      known = jnp.concatenate([before[1], known], axis=1)
      largest, where = jax.lax.top_k(cosines, num_neighbors)
      found = largest, jnp.take_along_axis(known, where, axis=1)
      # A row that is visited again was compared already.
      return tuple(
        set_rows_at(array, jnp.where(fresh[:, None], new, old), start)
        for array, new, old in zip(best, found, before, strict=True)
      )

    return fold_blocks(
      compare,
      best,
      num_rows=num_rows,
      max_rows=num_rows,
      block_size=block_size,
    )

  shape = (num_rows, num_neighbors)
  none = jnp.full(shape, -jnp.inf, features.dtype), jnp.zeros(shape, jnp.int32)
  cosines, neighbors = fold_blocks(
    compare_with,
    varying(none, axis_name),
    num_rows=num_rows,
    max_rows=num_rows,
    block_size=block_size,
  )
  return jnp.where(valid[:, None], cosines, -jnp.inf), neighbors


def _multiply(neighbors, weights, values, axis_name) -> jax.Array:
  """Returns (V + Vᵀ) times values [pool, columns]."""
  everywhere = gather_rows(values, axis_name)

  def add(column, sums):
    to, weight = neighbors[:, column], weights[:, column][:, None]
    forward, back = sums
    forward = forward + weight * everywhere[to]
    return forward, back.at[to].add(weight * values)

  nothing = tuple(
    jnp.zeros(array.shape, array.dtype) for array in (values, everywhere)
  )
  forward, back = jax.lax.fori_loop(
    0, neighbors.shape[1], add, varying(nothing, axis_name)
  )
  return forward + scatter_sum(back, axis_name)


@shard_rows(rows=("graph", "values"), out=SPLIT)
def smooth(
  graph: Graph,
  values: Float[Array, "pool columns"],
  *,
  alpha: float | Float[Array, ""] = ALPHA,
  num_steps: int | Int[Array, ""] = NUM_STEPS,
  axis_name: AxisName = None,
) -> Float[Array, "pool columns"]:
  """Smooths values over a graph.

  From F = Y on, each step is

    F <- alpha S F + (1 - alpha) Y,

  so the result is A Y with a symmetric matrix A.

  Args:
    graph: The graph, with the matrix S.
    values: The values Y.
    alpha: Share of the neighbors, in [0, 1).
    num_steps: Number of steps.
    axis_name: Mesh axes that the pool is split over, inside `shard_map`.

  Returns:
    The smoothed values F.

  References:
    Zhou et al., "Learning with local and global consistency", NIPS 2003.
  """
  alpha = jnp.asarray(alpha, values.dtype)

  def step(_, smoothed):
    spread = _multiply(graph.neighbors, graph.weights, smoothed, axis_name)
    return alpha * spread + (1.0 - alpha) * values

  return jax.lax.fori_loop(0, num_steps, step, values)


@shard_rows(rows=("graph", "features"))
def smooth_rows_at(
  graph: Graph,
  features: Rows,
  center: Float[Array, " dim"],
  indices: Int[Array, " count"],
  num_indices: Int[Array, ""],
  *,
  axis_name: AxisName = None,
) -> Float[Array, "count dim"]:
  """Returns some rows of the smoothed features, relative to a center.

  As A is symmetric, its rows are smoothed unit vectors. So `BLOCK_COLUMNS` rows
  are computed at a time, and the smoothed features of the whole pool are never
  in memory.

  Args:
    graph: The graph.
    features: [pool, dim]; rows on the host are read block by block. Rows that
      do not exist must be finite.
    center: Subtracted from each row before smoothing.
    indices: Rows of the pool.
    num_indices: Number of indices that count, the first ones.
    axis_name: Mesh axes that the pool is split over, inside `shard_map`.

  Returns:
    Rows of `smooth(graph, features - center)`; 0 after those that count.
  """
  rows = jnp.arange(len(graph.weights))
  rows = rows + row_offset(len(graph.weights), axis_name)

  def compute(found, start, fresh):
    wanted = rows_at(indices, start, len(fresh))
    is_there = (rows[:, None] == wanted[None]) & fresh[None]
    units = is_there.astype(features.dtype)
    shares = smooth(graph, units, axis_name=axis_name)
    smoothed = _weighted_sums(shares, features, center, axis_name)
    old = rows_at(found, start, len(fresh))
    kept = jnp.where(fresh[:, None], smoothed, old)
    return set_rows_at(found, kept, start)

  return fold_blocks(
    compute,
    jnp.zeros((len(indices), features.shape[1]), features.dtype),
    num_rows=num_indices,
    max_rows=len(indices),
    block_size=BLOCK_COLUMNS,
  )


def _sum_blocks(add, shape, features, axis_name) -> jax.Array:
  """Returns what `add` sums over the rows of all devices, block by block."""
  total = fold_blocks(
    add,
    varying(jnp.zeros(shape, features.dtype), axis_name),
    num_rows=len(features),
    max_rows=len(features),
    block_size=BLOCK_ROWS,
  )
  return psum(total, axis_name)


def _weighted_sums(shares, features, center, axis_name) -> jax.Array:
  """Returns sharesᵀ (features - center), [columns, dim], block by block."""

  def add(total, start, fresh):
    weights = rows_at(shares, start, len(fresh))
    weights = jnp.where(fresh[:, None], weights, 0.0)
    return total + jnp.matmul(
      weights.T,
      rows_at(features, start, len(fresh)) - center[None],
      precision=jax.lax.Precision.HIGHEST,
    )

  shape = (shares.shape[1], features.shape[1])
  return _sum_blocks(add, shape, features, axis_name)
