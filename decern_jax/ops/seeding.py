"""Greedy k-means++, the initial centers of a clustering."""

import functools
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from decern_jax.distributed.collective import (
  AxisName,
  num_shards,
  pmax,
  psum,
  row_offset,
  take_rows,
  varying,
)
from decern_jax.distributed.rows import Rows
from decern_jax.ops.block import fold_blocks, pairwise_sum, rows_at, set_rows_at

# Children of a node in the tree that rows are drawn with, and the bits of their
# weights. The sum over the children of a node fits into 32 bits.
RADIX = 256
_BITS = 22


def sample_rows(
  key: Key[Array, ""],
  mass: Float[Array, " rows"],
  count: int,
  *,
  slots: Int[Array, " rows"] | None = None,
  axis_name: AxisName = None,
) -> Int[Array, " count"]:
  """Draws rows with replacement, with probability in proportion to mass.

  The leaves of a tree of sums are the rows of the pool. From the root down, one
  of the `RADIX` children of a node is drawn. The masses are rounded to
  integers, in steps of 2^-22 of the largest, so that their sums do not depend
  on the order of addition. Any number of shards therefore draws the same rows.
  A change in the last digits of one mass moves only the boundaries within its
  own node. In cumulative sums over the whole pool it would move all boundaries,
  and with a million rows by more than one row.

  Args:
    key: Random key.
    mass: Mass of each row, at least 0.
    count: Number of draws.
    slots: Index in `mass` of each row of this shard, in the order of the pool.
      None if the rows are in that order.
    axis_name: Mesh axes that the rows are split over, inside `shard_map`.

  Returns:
    Indices into the `mass` of all shards, equal on every shard. If the total
    mass is zero, all are the index of the first row of the pool.
  """
  leaves = _in_steps(mass, axis_name)
  if slots is not None:
    leaves = leaves[slots]
  start = row_offset(len(leaves), axis_name)
  levels = _sum_tree(leaves, start, axis_name)
  chances = jax.random.uniform(key, (len(levels) + 1, count), mass.dtype)
  children = jnp.arange(RADIX)[None]
  node = jnp.zeros(count, jnp.int32)
  for level, chance in zip(reversed(levels), chances[:-1], strict=True):
    below = node[:, None] * RADIX + children
    node = node * RADIX + _choose(chance, level[below])
  local = node[:, None] * RADIX + children - start
  mine = (local >= 0) & (local < len(leaves))
  own = jnp.where(mine, leaves[jnp.clip(local, 0, len(leaves) - 1)], 0)
  row = node * RADIX + _choose(chances[-1], psum(own, axis_name)) - start
  mine = (row >= 0) & (row < len(leaves))
  row = jnp.clip(row, 0, len(leaves) - 1)
  slot = row if slots is None else slots[row]
  return psum(jnp.where(mine, start + slot, 0), axis_name)


def _in_steps(mass, axis_name) -> Int[Array, " rows"]:
  """Returns masses as integers below 2^22."""
  largest = pmax(jnp.max(mass), axis_name)
  share = mass / jnp.where(largest > 0.0, largest, 1.0)
  return jnp.floor(share * (2.0**_BITS - 1.0)).astype(jnp.int32)


def _sum_tree(leaves, start, axis_name) -> list[Int[Array, " nodes"]]:
  """Returns the levels of the tree: sums of `RADIX` nodes of the level below.

  Every level is padded to whole nodes of the level above. Sums of more than 22
  bits are scaled down, so that no sum overflows.
  """
  num_rows = len(leaves) * num_shards(axis_name)
  first, within = start // RADIX, start % RADIX
  # The rows of the shard, after those of other shards in the same first node.
  length = -(-(len(leaves) + RADIX - 1) // RADIX) * RADIX
  row = jax.lax.dynamic_update_slice_in_dim(
    varying(jnp.zeros(length, jnp.int32), axis_name), leaves, within, 0
  )
  sums = row.reshape(-1, RADIX).sum(axis=1)
  num_nodes = -(-num_rows // RADIX)
  size = -(-num_nodes // RADIX) * RADIX
  everywhere = jnp.zeros(size + len(sums), jnp.int32)
  everywhere = jax.lax.dynamic_update_slice_in_dim(
    varying(everywhere, axis_name), sums, first, 0
  )
  levels = [_to_bits(psum(everywhere, axis_name)[:size])]
  while len(levels[-1]) > RADIX:
    sums = levels[-1].reshape(-1, RADIX).sum(axis=1)
    levels.append(_to_bits(jnp.pad(sums, (0, -len(sums) % RADIX))))
  return levels


def _to_bits(sums: Int[Array, " nodes"]) -> Int[Array, " nodes"]:
  """Shifts integers so that the largest has at most 22 bits."""
  used = 32 - jax.lax.clz(jnp.max(sums))
  return jax.lax.shift_right_logical(sums, jnp.maximum(used - _BITS, 0))


def _choose(
  chance: Float[Array, " draws"], weights: Int[Array, "draws children"]
) -> Int[Array, " draws"]:
  """Draws a child of each node in proportion to its weight; 0 without any."""
  ends = jnp.cumsum(weights, axis=1)
  total = ends[:, -1]
  target = jnp.floor(chance * total.astype(chance.dtype)).astype(jnp.int32)
  # Rounding can make the draw equal to the total, which no child contains.
  target = jnp.minimum(target, total - 1)
  return jnp.argmax(ends > target[:, None], axis=1).astype(jnp.int32)


def greedy_centers(
  key: Key[Array, ""],
  points: Rows,
  weights: Float[Array, " points"],
  *,
  num_points: int | Int[Array, ""],
  num_clusters: int,
  block_size: int,
  num_used: int | Int[Array, ""] | None = None,
  slots: Int[Array, " points"] | None = None,
  axis_name: AxisName = None,
) -> Float[Array, "clusters dim"]:
  """Chooses starting centers among the points by greedy k-means++.

  The first center is drawn in proportion to the weights. For each next one,
  2 + log(clusters) candidates are drawn in proportion to weight times squared
  distance to the nearest center so far, and the one that leaves the least
  weighted sum of squared distances is kept.

  Args:
    key: Random key.
    points: The points [points, dim]; those that count come first.
    weights: Weight of each point, 0 in the points that do not count.
    num_points: Points that count, on this shard.
    num_clusters: Number of centers.
    block_size: Points whose products are in memory at once.
    num_used: Centers to choose, the first ones; the others are zero. None
      means all.
    slots: Index in `points` of each row of the pool; see `sample_rows`.
    axis_name: Mesh axes that the points are split over, inside `shard_map`.

  Returns:
    The centers, equal on every shard.

  References:
    Arthur and Vassilvitskii, "k-means++: The advantages of careful seeding",
    SODA 2007; the greedy form and its number of candidates are
    scikit-learn's.
  """
  num_trials = 2 + int(math.log(num_clusters))
  norms = _square_norms(
    points, num_points=num_points, block_size=block_size, axis_name=axis_name
  )
  first_key, key = jax.random.split(key)
  sample = functools.partial(sample_rows, slots=slots, axis_name=axis_name)
  first = sample(first_key, weights, 1)
  center = take_rows(points, first, axis_name)[0]
  infinite = varying(jnp.full(len(points), jnp.inf), axis_name)

  def nearest(candidates, distances):
    return _nearest_distances(
      points,
      norms,
      candidates,
      distances,
      num_points=num_points,
      block_size=block_size,
      axis_name=axis_name,
    )

  def add(index, state):
    centers, distances = state
    # The distance of a point that does not count may be infinite.
    mass = jnp.where(weights > 0, weights * distances, 0.0)
    # If the centers cover all points, any point of positive weight is drawn.
    is_covered = pmax(jnp.max(mass), axis_name) == 0.0
    mass = jnp.where(is_covered, weights, mass)
    drawn = sample(jax.random.fold_in(key, index), mass, num_trials)
    rows = take_rows(points, drawn, axis_name)
    trials = nearest(rows, distances)
    costs = jnp.where(weights[:, None] > 0, weights[:, None] * trials, 0.0)
    best = jnp.argmin(psum(pairwise_sum(costs), axis_name))
    return centers.at[index].set(rows[best]), trials[:, best]

  distances = nearest(center[None], infinite)[:, 0]
  centers = jnp.zeros((num_clusters, points.shape[-1]), points.dtype)
  centers = centers.at[0].set(center)
  num_used = num_clusters if num_used is None else num_used
  centers, _ = jax.lax.fori_loop(1, num_used, add, (centers, distances))
  return centers


def _square_norms(
  points, *, num_points, block_size, axis_name
) -> Float[Array, " points"]:
  """Returns the squared length of each point; 0 where it does not count."""

  def step(norms, start, fresh):
    square = jnp.sum(rows_at(points, start, len(fresh)) ** 2, axis=-1)
    return set_rows_at(norms, square, start)

  return fold_blocks(
    step,
    varying(jnp.zeros(len(points), points.dtype), axis_name),
    num_rows=num_points,
    max_rows=len(points),
    block_size=block_size,
  )


def _nearest_distances(
  points, norms, candidates, distances, *, num_points, block_size, axis_name
) -> Float[Array, "points candidates"]:
  """Returns each point's squared distance to its nearest center, per trial.

  Args:
    points: [points, dim].
    norms: [points], squared lengths of the points.
    candidates: [candidates, dim], the centers on trial.
    distances: [points], squared distances to the centers so far.
    num_points: Points that count; the others get 0.
    block_size: Points of a block.
    axis_name: Mesh axes of the points.

  Returns:
    The smaller of `distances` and the distance to each candidate, at least 0.
  """
  candidate_norms = jnp.sum(candidates**2, axis=-1)

  def step(trials, start, fresh):
    size = len(fresh)
    product = jnp.matmul(
      rows_at(points, start, size),
      candidates.T,
      precision=jax.lax.Precision.HIGHEST,
    )
    square = rows_at(norms, start, size)[:, None] - 2.0 * product
    square = jnp.maximum(square + candidate_norms[None], 0.0)
    square = jnp.minimum(square, rows_at(distances, start, size)[:, None])
    return set_rows_at(trials, square, start)

  trials = jnp.zeros((len(points), len(candidates)), points.dtype)
  return fold_blocks(
    step,
    varying(trials, axis_name),
    num_rows=num_points,
    max_rows=len(points),
    block_size=block_size,
  )
