"""Calibrated diversity: one example of each cluster, away from the anchors."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from decern_jax.distributed.collective import (
  AxisName,
  pmax,
  pmin,
  row_offset,
  varying,
)
from decern_jax.distributed.rows import Rows
from decern_jax.ops.anchors import Anchors
from decern_jax.ops.block import fold_blocks, rows_at, set_rows_at
from decern_jax.ops.similarity import normalize

# Keeps the min-max scale of a cluster of equal members finite (official code).
EPSILON = 1e-10


def calibrated_pick(
  features: Rows,
  centers: Float[Array, "clusters dim"],
  assignments: Int[Array, " points"],
  anchors: Anchors,
  *,
  pickable: Bool[Array, " points"],
  num_points: int | Int[Array, ""],
  gamma: float | Float[Array, ""],
  block_size: int,
  axis_name: AxisName = None,
) -> tuple[Int[Array, " clusters"], Bool[Array, " clusters"]]:
  """Picks one example of each cluster.

  Within a cluster, near = 1 - cos(x, center) and far = 1 - max over the
  classes of cos(x, anchor) are each scaled to [0, 1], and the example with the
  smallest `gamma · near - (1 - gamma) · far` is picked: typical of its
  cluster, yet unlike what is labeled.

  Args:
    features: Features [points, dim] of the points; any length, never zero.
    centers: The center of each cluster, of any length.
    assignments: The cluster of each point.
    anchors: The class anchors; their features of any length.
    pickable: True at the points that may be picked; only these set the scale.
    num_points: Points that count, on this shard; they come first.
    gamma: Weight of nearness to the center, in [0, 1].
    block_size: Points whose products with the anchors are held at once.
    axis_name: Mesh axes that the points are split over, inside `shard_map`.

  Returns:
    The picked position of each cluster, in the whole pool, and whether the
    cluster has one; the position is 0 where it has none.

  References:
    Jin and Yang, ECCV 2026, https://arxiv.org/abs/2509.24181, calibrated
    diversity.
  """
  num_clusters, member = len(centers), assignments
  near, far = _distances(
    features,
    centers,
    assignments,
    anchors,
    num_points=num_points,
    block_size=block_size,
    axis_name=axis_name,
  )
  near = _min_max_scale(near, member, pickable, num_clusters, axis_name)
  far = _min_max_scale(far, member, pickable, num_clusters, axis_name)
  cost = jnp.where(pickable, gamma * near - (1.0 - gamma) * far, jnp.inf)

  def smallest(values, filler):
    least = jax.ops.segment_min(values, member, num_clusters)
    return pmin(jnp.minimum(least, filler), axis_name)

  least = smallest(cost, jnp.inf)
  position = jnp.arange(len(features)) + row_offset(len(features), axis_name)
  none = jnp.iinfo(jnp.int32).max
  is_best = pickable & (cost == least[member])
  picked = smallest(jnp.where(is_best, position.astype(jnp.int32), none), none)
  return jnp.where(picked < none, picked, 0), picked < none


def _distances(
  features, centers, assignments, anchors, *, num_points, block_size, axis_name
):
  """Returns near and far, [points] each, of the points that count."""
  centers = normalize(centers)
  directions = normalize(anchors.features)

  def step(distances, start, fresh):
    rows = normalize(rows_at(features, start, len(fresh)))
    own = centers[rows_at(assignments, start, len(fresh))]
    near = 1.0 - jnp.sum(rows * own, axis=-1)
    cosines = jnp.matmul(
      rows, directions.T, precision=jax.lax.Precision.HIGHEST
    )
    far = 1.0 - jnp.max(cosines, axis=-1)
    return tuple(
      set_rows_at(old, new, start)
      for old, new in zip(distances, (near, far), strict=True)
    )

  zeros = jnp.zeros(len(features), features.dtype)
  return fold_blocks(
    step,
    varying((zeros, zeros), axis_name),
    num_rows=num_points,
    max_rows=len(features),
    block_size=block_size,
  )


def _min_max_scale(values, member, counted, num_clusters, axis_name):
  """Scales the values of each cluster's counted members to [0, 1]."""
  low = jnp.where(counted, values, jnp.inf)
  low = pmin(jax.ops.segment_min(low, member, num_clusters), axis_name)
  high = jnp.where(counted, values, -jnp.inf)
  high = pmax(jax.ops.segment_max(high, member, num_clusters), axis_name)
  span = jnp.where(high >= low, high - low, 0.0)
  low = jnp.where(high >= low, low, 0.0)
  return (values - low[member]) / (span[member] + EPSILON)
