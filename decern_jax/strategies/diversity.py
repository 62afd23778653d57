"""Jitted weighted clustering and calibrated pick."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from decern_jax import ops
from decern_jax.distributed.collective import AxisName
from decern_jax.distributed.rows import HostRows, in_order
from decern_jax.distributed.sharding import (
  SPLIT,
  WHOLE,
  block_floats,
  shard_rows,
)
from decern_jax.io.validation import (
  as_float32,
  check_integer,
  check_number,
  check_shapes,
  float32_tree,
)
from decern_jax.ops.anchors import Anchors
from decern_jax.ops.block import compaction, slots_of
from decern_jax.ops.kmeans import Clusters

MAX_STEPS = 300
TOLERANCE = 1e-4


def weighted_kmeans(
  key: Key[Array, ""],
  points: Float[jax.typing.ArrayLike, "points dim"] | HostRows,
  weights: Float[jax.typing.ArrayLike, " points"],
  *,
  num_clusters: int,
  max_steps: int = MAX_STEPS,
  tolerance: float = TOLERANCE,
) -> Clusters:
  """Clusters weighted points by k-means.

  A greedy k-means++ start, then Lloyd's steps; a cluster that falls empty is
  moved to the point farthest from its center. A point of weight zero is
  assigned to its nearest center in the end, but moves nothing and counts for
  nothing.

  Args:
    key: Random key.
    points: The points.
    weights: Weight of each point, at least 0.
    num_clusters: Number of clusters, in [1, points].
    max_steps: Largest number of Lloyd's steps, at least 1.
    tolerance: Times the mean variance of the coordinates, the squared shift of
      all centers at which the steps end (scikit-learn's rule).

  Returns:
    `Clusters(centers [k, dim], assignments [points], inertia [], num_steps
    [])`; the centers are the weighted means, as they are.

  Raises:
    ValueError: If shapes do not fit or an option is out of range.

  References:
    Arthur and Vassilvitskii, "k-means++: The advantages of careful seeding",
    SODA 2007. Lloyd, "Least squares quantization in PCM", 1982.
  """
  sizes = check_shapes(
    {}, points=(points, ("points", "dim")), weights=(weights, ("points",))
  )
  return _weighted_kmeans(
    key,
    as_float32(points),
    as_float32(weights),
    num_clusters=check_integer(
      "num_clusters", num_clusters, low=1, high=sizes["points"]
    ),
    max_steps=check_integer("max_steps", max_steps, low=1),
    tolerance=check_number("tolerance", tolerance, low=0.0),
    block_size=block_rows(sizes["dim"]),
  )


@shard_rows(
  rows=("points", "weights"),
  out=Clusters(WHOLE, SPLIT, WHOLE, WHOLE),
  static_argnames=("num_clusters", "max_steps", "block_size"),
)
def _weighted_kmeans(
  key,
  points,
  weights,
  *,
  num_clusters,
  max_steps,
  tolerance,
  block_size,
  axis_name: AxisName = None,
):
  order = compaction(weights > 0.0)
  clusters = ops.kmeans.weighted_kmeans(
    key,
    in_order(points, order),
    weights[order],
    num_points=jnp.sum(weights > 0.0),
    num_clusters=num_clusters,
    max_steps=max_steps,
    tolerance=tolerance,
    block_size=block_size,
    slots=slots_of(order),
    axis_name=axis_name,
  )
  assignments = jnp.zeros_like(clusters.assignments)
  assignments = assignments.at[order].set(clusters.assignments)
  return clusters._replace(assignments=assignments)


def calibrated_pick(
  features: Float[jax.typing.ArrayLike, "points dim"],
  clusters: Clusters,
  anchors: Anchors,
  *,
  weights: Float[jax.typing.ArrayLike, " points"] | None = None,
  gamma: float = 0.8,
) -> tuple[Int[Array, " clusters"], Bool[Array, " clusters"]]:
  """Picks from each cluster an example that is typical of it, yet new.

  Within a cluster, near = 1 - cos(x, center) and far = 1 - max over classes of
  cos(x, anchor) are scaled to [0, 1]; the smallest `gamma · near - (1 - gamma)
  · far` is picked.

  Args:
    features: Features of the points; normalised here, like the centers and
      the anchors.
    clusters: Clusters of these points.
    anchors: Class anchors; only their features are used.
    weights: Weight of each point; a point of weight zero cannot be picked and
      does not set the scale. None: all points can.
    gamma: Weight of nearness to the center, in [0, 1].

  Returns:
    `(indices [k], valid [k])`: entry k is the position of cluster k's pick in
    `features`; where `valid` is False the cluster has none, and the index is 0.

  Raises:
    ValueError: If shapes do not fit or an option is out of range.

  References:
    Jin and Yang, "Combining Discrepancy-Confusion Uncertainty and Calibration
    Diversity for Active Fine-Grained Image Classification", ECCV 2026,
    https://arxiv.org/abs/2509.24181, calibrated diversity.
  """
  arrays = {
    "features": (features, ("points", "dim")),
    "clusters.centers": (clusters.centers, ("clusters", "dim")),
    "clusters.assignments": (clusters.assignments, ("points",)),
    "anchors.features": (anchors.features, ("classes", "dim")),
  }
  if weights is not None:
    arrays["weights"] = (weights, ("points",))
  sizes = check_shapes({}, **arrays)
  return _calibrated_pick(
    as_float32(features),
    clusters.assignments,
    None if weights is None else as_float32(weights),
    as_float32(clusters.centers),
    float32_tree(anchors),
    gamma=check_number("gamma", gamma, low=0.0, high=1.0),
    block_size=block_rows(sizes["dim"]),
  )


@shard_rows(
  rows=("features", "assignments", "weights"), static_argnames=("block_size",)
)
def _calibrated_pick(
  features,
  assignments,
  weights,
  centers,
  anchors,
  *,
  gamma,
  block_size,
  axis_name: AxisName = None,
):
  return ops.calibration.calibrated_pick(
    features,
    centers,
    assignments,
    anchors,
    pickable=jnp.ones(len(features), bool) if weights is None else weights > 0,
    num_points=len(features),
    gamma=gamma,
    block_size=block_size,
    axis_name=axis_name,
  )


def block_rows(dim: int) -> int:
  """Returns how many rows of a pool of features to work on at once."""
  return max(64, block_floats() // dim)
