"""Greedy k-means++: where a clustering starts."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from decern_jax.ops.block import fold_blocks, rows_at, set_rows_at
from decern_jax.ops.collective import (
  AxisName,
  gather_rows,
  psum,
  row_offset,
  take_rows,
  varying,
)
from decern_jax.ops.rows import Rows


def sample_rows(
  key: Key[Array, ""],
  mass: Float[Array, " rows"],
  count: int,
  *,
  axis_name: AxisName = None,
) -> Int[Array, " count"]:
  """Draws positions with replacement, with probability in proportion to mass.

  Inverts the cumulative mass of the pool, which the shards know by their
  totals alone.

  Args:
    key: Random key.
    mass: Mass of each row, at least 0.
    count: Number of draws.
    axis_name: Mesh axes that the rows are split over, inside `shard_map`.

  Returns:
    Positions in the whole pool, equal on every shard. Where the total mass is
    zero, the first row of the pool.
  """
  cumulative = jnp.cumsum(mass)
  totals = gather_rows(cumulative[-1:], axis_name)
  ends = jnp.cumsum(totals)
  target = jax.random.uniform(key, (count,), mass.dtype) * ends[-1]
  shard = jnp.sum(ends[None] <= target[:, None], axis=-1)
  last = jnp.max(jnp.where(totals > 0.0, jnp.arange(len(totals)), 0))
  shard = jnp.minimum(shard, last)
  # Rounding must not make it negative: row 0 would be drawn, mass or none.
  target = jnp.maximum(target - (ends - totals)[shard], 0.0)
  # Rounding may push a target to the end of its shard; the last row with mass
  # is then meant.
  final = jnp.argmax(cumulative >= cumulative[-1])
  local = jnp.searchsorted(cumulative, target, side="right")
  local = jnp.minimum(local, final)
  offset = row_offset(len(mass), axis_name)
  if axis_name is None:
    return local
  mine = shard == jax.lax.axis_index(axis_name)
  return psum(jnp.where(mine, offset + local, 0), axis_name)


def greedy_centers(
  key: Key[Array, ""],
  points: Rows,
  weights: Float[Array, " points"],
  *,
  num_points: int | Int[Array, ""],
  num_clusters: int,
  block_size: int,
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
    block_size: Points whose products are held at once.
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
  first = sample_rows(first_key, weights, 1, axis_name=axis_name)
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
    # Where a point does not count, its distance may have overflowed.
    mass = jnp.where(weights > 0, weights * distances, 0.0)
    # Once the centers cover every point, any point of positive weight will do.
    is_covered = psum(jnp.sum(mass), axis_name) == 0.0
    mass = jnp.where(is_covered, weights, mass)
    drawn = sample_rows(
      jax.random.fold_in(key, index), mass, num_trials, axis_name=axis_name
    )
    rows = take_rows(points, drawn, axis_name)
    trials = nearest(rows, distances)
    costs = jnp.where(weights[:, None] > 0, weights[:, None] * trials, 0.0)
    best = jnp.argmin(psum(jnp.sum(costs, 0), axis_name))
    return centers.at[index].set(rows[best]), trials[:, best]

  distances = nearest(center[None], infinite)[:, 0]
  centers = jnp.zeros((num_clusters, points.shape[-1]), points.dtype)
  centers = centers.at[0].set(center)
  centers, _ = jax.lax.fori_loop(1, num_clusters, add, (centers, distances))
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
