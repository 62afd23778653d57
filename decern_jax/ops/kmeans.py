"""Weighted k-means: Lloyd's algorithm over a pool that may be sharded."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, Key

from decern_jax.distributed.collective import (
  AxisName,
  psum,
  take_rows,
  top_rows,
  varying,
)
from decern_jax.distributed.rows import HostRows, Rows, in_order
from decern_jax.distributed.sharding import SPLIT, WHOLE, block_rows, shard_rows
from decern_jax.io.validation import (
  as_float32,
  as_int32,
  check_integer,
  check_number,
  check_shapes,
)
from decern_jax.ops.block import (
  compaction,
  fold_blocks,
  rows_at,
  set_rows_at,
  slots_of,
)
from decern_jax.ops.seeding import greedy_centers

# A point closer to its center than this fraction of its length counts as lying
# on it: rounding can move the mean of equal points that far.
ROUNDING = 1e-5

MAX_STEPS = 300
TOLERANCE = 1e-4


class Clusters(NamedTuple):
  """The result of a clustering.

  Attributes:
    centers: The weighted mean of each cluster, not normalised.
    assignments: The cluster of each point, the nearest center's.
    inertia: Weighted sum of the squared distances to the nearest center.
    num_steps: Steps that Lloyd's algorithm took.
  """

  centers: Float[Array, "clusters dim"]
  assignments: Int[Array, " points"]
  inertia: Float[Array, ""]
  num_steps: Int[Array, ""]


class _Assignment(NamedTuple):
  """One pass over the points.

  Attributes:
    assignments: [points], the nearest center of each point.
    distances: [points], squared distance to it; -1 in rows that do not count.
    sums: [clusters, dim], weighted sum of the points of each cluster on this
      shard.
    weights: [clusters], sum of the weights of these points.
  """

  assignments: jax.Array
  distances: jax.Array
  sums: jax.Array
  weights: jax.Array


def weighted_kmeans(
  key: Key[Array, ""],
  points: Float[jax.typing.ArrayLike, "points dim"] | HostRows,
  weights: Float[jax.typing.ArrayLike, " points"],
  *,
  num_clusters: int | Int[Array, ""],
  max_clusters: int | None = None,
  max_steps: int = MAX_STEPS,
  tolerance: float = TOLERANCE,
  mesh: Mesh | None = None,
  axis: str | Sequence[str] | None = None,
) -> Clusters:
  """Clusters weighted points by k-means.

  Starts with greedy k-means++, then makes Lloyd's steps. A cluster that becomes
  empty is moved to the point farthest from its center. A point of weight zero
  is only assigned to its nearest center at the end.

  Args:
    key: Random key.
    points: The points.
    weights: Weight of each point, at least 0.
    num_clusters: Number of clusters, in [1, points]. With `max_clusters` it may
      depend on data: an int32 scalar in [1, max_clusters].
    max_clusters: Number of centers to return, in [1, points]; those after the
      first `num_clusters` are zero and have no points. One program then serves
      every `num_clusters`. None means `num_clusters`.
    max_steps: Largest number of Lloyd's steps, at least 1.
    tolerance: The steps end when the squared shift of all centers is at most
      `tolerance` times the mean variance of the coordinates (scikit-learn's
      rule).
    mesh: Mesh that the points are split over. Needed only inside `jax.jit` on
      axes of type Auto, where types do not show it.
    axis: The names of its axes that split the points; None for all.

  Returns:
    `Clusters(centers [k, dim], assignments [points], inertia [], num_steps
    [])`; the centers are the weighted means.

  Raises:
    ValueError: If shapes do not fit or an option is out of range.

  References:
    Arthur and Vassilvitskii, "k-means++: The advantages of careful seeding",
    SODA 2007. Lloyd, "Least squares quantization in PCM", 1982.
  """
  sizes = check_shapes(
    {}, points=(points, ("points", "dim")), weights=(weights, ("points",))
  )
  num_used = None
  if max_clusters is None:
    max_clusters = check_integer(
      "num_clusters", num_clusters, low=1, high=sizes["points"]
    )
  else:
    max_clusters = check_integer(
      "max_clusters", max_clusters, low=1, high=sizes["points"]
    )
    if not isinstance(num_clusters, jax.Array):
      check_integer("num_clusters", num_clusters, low=1, high=max_clusters)
    num_used = as_int32(num_clusters)
  return _weighted_kmeans(
    key,
    as_float32(points),
    as_float32(weights),
    num_clusters=max_clusters,
    num_used=num_used,
    max_steps=check_integer("max_steps", max_steps, low=1),
    tolerance=check_number("tolerance", tolerance, low=0.0),
    block_size=block_rows(sizes["dim"]),
    mesh=mesh,
    axis=axis,
  )


@shard_rows(
  rows=("points", "weights"),
  out=Clusters._make([WHOLE, SPLIT, WHOLE, WHOLE]),
  static_argnames=("num_clusters", "max_steps", "block_size"),
)
def _weighted_kmeans(
  key: Key[Array, ""],
  points: Rows,
  weights: Float[Array, " points"],
  *,
  num_clusters: int,
  max_steps: int,
  tolerance: float | Float[Array, ""],
  block_size: int,
  num_used: Int[Array, ""] | None = None,
  axis_name: AxisName = None,
) -> Clusters:
  order = compaction(weights > 0.0)
  clusters = cluster_first_rows(
    key,
    in_order(points, order),
    weights[order],
    num_points=jnp.sum(weights > 0.0),
    num_clusters=num_clusters,
    max_steps=max_steps,
    tolerance=tolerance,
    block_size=block_size,
    num_used=num_used,
    slots=slots_of(order),
    axis_name=axis_name,
  )
  assignments = jnp.zeros_like(clusters.assignments)
  assignments = assignments.at[order].set(clusters.assignments)
  return clusters._replace(assignments=assignments)


def cluster_first_rows(
  key: Key[Array, ""],
  points: Rows,
  weights: Float[Array, " points"],
  *,
  num_points: int | Int[Array, ""],
  num_clusters: int,
  max_steps: int | Int[Array, ""],
  tolerance: float | Float[Array, ""],
  block_size: int,
  num_used: int | Int[Array, ""] | None = None,
  slots: Int[Array, " points"] | None = None,
  axis_name: AxisName = None,
) -> Clusters:
  """Clusters the first `num_points` points, inside `jit` or `shard_map`.

  Starts from `seeding.greedy_centers`. A cluster that becomes empty is moved to
  the point farthest from its center. Ends when no assignment changes, or when
  the centers' squared shift is at most `tolerance` times the mean variance of
  the coordinates, or after `max_steps`.

  Args:
    key: Random key of the start.
    points: The points [points, dim]; those that count come first
      (`block.compaction`).
    weights: Weight of each point, positive in the points that count.
    num_points: Points that count, on this shard. The others do not affect the
      centers; they are assigned to their nearest center at the end.
    num_clusters: Number of clusters.
    max_steps: Largest number of steps.
    tolerance: Relative bound of the shift.
    block_size: Points whose products with the centers are in memory at once.
    num_used: The first so many clusters are used; the centers of the others
      are zero. None means all.
    slots: Index in `points` of each row of the pool: `block.slots_of` of the
      order of the points. It makes the start the same for any number of shards.
      None if the points are in the order of the pool.
    axis_name: Mesh axes that the points are split over, inside `shard_map`.

  Returns:
    The clusters; all but `assignments` are equal on every shard.

  References:
    Lloyd, "Least squares quantization in PCM", IEEE Trans. Inf. Theory 1982.
    The stopping rules and the moving of empty clusters are scikit-learn's.
  """
  counts = jnp.arange(len(points)) < num_points
  weights = jnp.where(counts, weights, 0.0)
  centers = greedy_centers(
    key,
    points,
    weights,
    num_points=num_points,
    num_clusters=num_clusters,
    block_size=block_size,
    num_used=num_used,
    slots=slots,
    axis_name=axis_name,
  )
  is_used = jnp.arange(num_clusters) < (
    num_clusters if num_used is None else num_used
  )
  # Options of every pass over the points.
  shared = {"block_size": block_size, "axis_name": axis_name}
  variance = _mean_variance(points, num_points, **shared)
  bound = tolerance * variance

  def is_moving(state):
    _, _, shift, changed, step = state
    return (step < max_steps) & changed & (shift > bound)

  def move(state):
    centers, previous, _, _, step = state
    found = _assign(points, weights, centers, is_used, num_points, **shared)
    moved = _new_centers(points, weights, centers, is_used, found, axis_name)
    changed = psum(jnp.sum(found.assignments != previous), axis_name) > 0
    shift = jnp.sum((moved - centers) ** 2)
    return moved, found.assignments, shift, changed, step + 1

  unassigned = jnp.full(len(points), -1, jnp.int32)
  start = (
    centers,
    varying(unassigned, axis_name),
    jnp.array(jnp.inf, points.dtype),
    jnp.array(True),
    jnp.array(0, jnp.int32),
  )
  centers, _, _, _, num_steps = jax.lax.while_loop(is_moving, move, start)
  found = _assign(points, weights, centers, is_used, len(points), **shared)
  inertia = _inertia(points, weights, centers, found, num_points, **shared)
  return Clusters(centers, found.assignments, inertia, num_steps)


def _assign(
  points, weights, centers, is_used, num_points, *, block_size, axis_name
) -> _Assignment:
  """Finds the nearest center of each point, and sums the points by cluster."""
  highest = jax.lax.Precision.HIGHEST
  half_norms = 0.5 * jnp.sum(centers**2, axis=-1)
  # No point is near a center that is not used.
  half_norms = jnp.where(is_used, half_norms, jnp.inf)

  def step(found, start, fresh):
    size = len(fresh)
    rows = rows_at(points, start, size)
    product = jnp.matmul(rows, centers.T, precision=highest)
    score = product - half_norms[None]
    nearest = jnp.argmax(score, axis=-1)
    member = jax.nn.one_hot(nearest, len(centers), dtype=rows.dtype)
    weight = jnp.where(fresh, rows_at(weights, start, size), 0.0)
    member = member * weight[:, None]
    # This form loses digits by cancellation, which is acceptable: only the
    # order of the farthest points depends on them.
    distance = jnp.sum(rows**2, axis=-1) - 2.0 * jnp.max(score, axis=-1)
    return _Assignment(
      set_rows_at(found.assignments, nearest.astype(jnp.int32), start),
      set_rows_at(found.distances, distance, start),
      found.sums + jnp.matmul(member.T, rows, precision=highest),
      found.weights + member.sum(axis=0),
    )

  empty = _Assignment(
    jnp.full(len(points), -1, jnp.int32),
    jnp.full(len(points), -1.0, points.dtype),
    jnp.zeros_like(centers),
    jnp.zeros_like(half_norms),
  )
  found = fold_blocks(
    step,
    varying(empty, axis_name),
    num_rows=num_points,
    max_rows=len(points),
    block_size=block_size,
  )
  counts = jnp.arange(len(points)) < num_points
  return found._replace(
    assignments=jnp.where(counts, found.assignments, -1),
    distances=jnp.where(counts, found.distances, -1.0),
  )


def _inertia(
  points, weights, centers, found, num_points, *, block_size, axis_name
):
  """Returns the weighted sum of squared distances, by differences."""

  def step(total, start, fresh):
    size = len(fresh)
    nearest = centers[rows_at(found.assignments, start, size)]
    square = jnp.sum((rows_at(points, start, size) - nearest) ** 2, axis=-1)
    weight = jnp.where(fresh, rows_at(weights, start, size), 0.0)
    return total + jnp.sum(weight * square)

  total = fold_blocks(
    step,
    varying(jnp.zeros((), points.dtype), axis_name),
    num_rows=num_points,
    max_rows=len(points),
    block_size=block_size,
  )
  return psum(total, axis_name)


def _new_centers(points, weights, centers, is_used, found, axis_name):
  """Returns the cluster means, with empty clusters moved to far points."""
  sums = psum(found.sums, axis_name)
  totals = psum(found.weights, axis_name)

  def relocate(sums, totals):
    return _relocate(
      points, weights, centers, is_used, found, sums, totals, axis_name
    )

  sums, totals = jax.lax.cond(
    jnp.any(is_used & (totals == 0.0)),
    relocate,
    lambda *same: same,
    sums,
    totals,
  )
  means = sums / jnp.where(totals > 0.0, totals, 1.0)[:, None]
  return jnp.where((totals > 0.0)[:, None], means, centers)


def _relocate(
  points, weights, centers, is_used, found, sums, totals, axis_name
):
  """Gives the r-th empty cluster the r-th farthest point of the others.

  A cluster gives a point away only if other points stay in it, so that filling
  one cluster never empties another. A point that lies on its center stays
  there, because two centers in one place would swap their points forever.
  """
  num_clusters = len(totals)
  _, farthest = top_rows(found.distances, num_clusters, axis_name)
  rows, weight, owner = (
    take_rows(array, farthest, axis_name)
    for array in (points, weights, found.assignments)
  )
  square = jnp.sum((rows - centers[owner]) ** 2, axis=-1)
  is_apart = square > ROUNDING**2 * jnp.sum(rows**2, axis=-1)
  is_apart = is_apart & (owner >= 0)

  def give(donor, state):
    sums, totals = state
    empty = jnp.argmin(jnp.where(is_used, totals, jnp.inf))
    old = owner[donor]
    # A point that has the whole weight of its cluster is the last one in it.
    is_spare = totals[old] > weight[donor] * (1.0 + 1e-6)
    gives = (totals[empty] == 0.0) & is_apart[donor] & is_spare
    mass = jnp.where(gives, weight[donor], 0.0)
    moved = mass * rows[donor]
    sums = sums.at[old].add(-moved).at[empty].add(moved)
    totals = totals.at[old].add(-mass).at[empty].add(mass)
    return sums, totals

  return jax.lax.fori_loop(0, num_clusters, give, (sums, totals))


def _mean_variance(points, num_points, *, block_size, axis_name):
  """Returns the mean over coordinates of the variance of the points."""
  total = jnp.maximum(psum(num_points, axis_name), 1)

  def step(sums, start, fresh):
    rows = rows_at(points, start, len(fresh))
    rows = jnp.where(fresh[:, None], rows, 0.0)
    return sums[0] + rows.sum(axis=0), sums[1] + (rows**2).sum(axis=0)

  zeros = jnp.zeros(points.shape[-1], points.dtype)
  sums = fold_blocks(
    step,
    varying((zeros, zeros), axis_name),
    num_rows=num_points,
    max_rows=len(points),
    block_size=block_size,
  )
  mean, square = (psum(s, axis_name) / total.astype(points.dtype) for s in sums)
  return jnp.mean(jnp.maximum(square - mean**2, 0.0))
