"""DECERN: discrepancy-confusion uncertainty and calibrated diversity.

A round scores the pool (`ops.discrepancy`), keeps the examples above a
threshold, clusters these with their scores as weights (`ops.kmeans`), and picks
one example of each cluster.

Jin and Yang, "Combining Discrepancy-Confusion Uncertainty and Calibration
Diversity for Active Fine-Grained Image Classification", ECCV 2026,
https://arxiv.org/abs/2509.24181.
"""

from collections.abc import Sequence
from typing import Any

import jax
from jax.core import Tracer
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int, Key
import numpy as np

from decern_jax.distributed.collective import (
  AxisName,
  pmax,
  pmin,
  psum,
  row_offset,
  top_rows,
  varying,
)
from decern_jax.distributed.rows import HostRows, Rows
from decern_jax.distributed.sharding import block_rows, shard_rows
from decern_jax.io.validation import (
  as_float32,
  check_integer,
  check_number,
  check_pool,
  check_shapes,
  float32_tree,
)
from decern_jax.ops.anchors import Anchors, class_anchors
from decern_jax.ops.block import (
  compaction,
  fold_blocks,
  pairwise_sum,
  rows_at,
  set_rows_at,
  slots_of,
)
from decern_jax.ops.discrepancy import discrepancy_confusion
from decern_jax.ops.distances import normalize, normalized_in_order
from decern_jax.ops.head import LinearHead
from decern_jax.ops.keys import uniform_at
from decern_jax.ops.kmeans import (
  MAX_STEPS,
  TOLERANCE,
  Clusters,
  cluster_first_rows,
)
from decern_jax.strategies.base import (
  Option,
  Pool,
  Selection,
  Strategy,
  register,
)

# Keeps the min-max scale of a cluster of equal members finite (official code).
EPSILON = 1e-10

UNCERTAINTY_GAMMA = Option(
  "uncertainty_gamma",
  0.5,
  "DECERN: factor of the skewness in the uncertainty threshold.",
  low=-1e9,
)
DIVERSITY_GAMMA = Option(
  "diversity_gamma",
  0.8,
  "DECERN: weight of nearness to the cluster center.",
  low=0.0,
  high=1.0,
)
OPTIONS = (UNCERTAINTY_GAMMA, DIVERSITY_GAMMA)


def select(
  key: jax.Array,
  pool: Pool,
  *,
  budget: int,
  uncertainty_gamma: float,
  diversity_gamma: float,
) -> Selection:
  """Selects by DECERN, with the anchors of the examples labeled so far.

  Args:
    key: Random key.
    pool: The pool.
    budget: Examples to select, at most the candidates.
    uncertainty_gamma: Factor of the skew term in the uncertainty threshold.
    diversity_gamma: Weight of nearness to the cluster's center, in [0, 1].

  Returns:
    The selection; scores are the discrepancy-confusion uncertainties, 0 at
    examples that are not candidates.

  References:
    Jin and Yang, "Combining Discrepancy-Confusion Uncertainty and Calibration
    Diversity for Active Fine-Grained Image Classification", ECCV 2026,
    https://arxiv.org/abs/2509.24181.
  """
  anchors = class_anchors(
    pool.features, pool.probs, pool.labels, num_classes=pool.probs.shape[1]
  )
  scores = discrepancy_confusion(
    pool.features, pool.probs, anchors, pool.head, valid=pool.candidates
  )
  indices = select_by_score(
    key,
    pool.features,
    scores,
    anchors,
    budget=budget,
    valid=pool.candidates,
    uncertainty_gamma=uncertainty_gamma,
    diversity_gamma=diversity_gamma,
  )
  return Selection(indices, scores)


def select_decern(
  key: Key[Array, ""],
  features: Float[jax.typing.ArrayLike, "pool dim"] | HostRows,
  probs: Float[jax.typing.ArrayLike, "pool classes"],
  anchors: Anchors,
  head: LinearHead,
  *,
  budget: int,
  valid: Bool[jax.typing.ArrayLike, " pool"] | None = None,
  uncertainty_gamma: float = 0.5,
  diversity_gamma: float = 0.8,
  mesh: Mesh | None = None,
  axis: str | Sequence[str] | None = None,
) -> Int[Array, " budget"]:
  """Selects the examples of a pool to label next, by DECERN.

  Args:
    key: Random key of the clustering's start and of the fill-up.
    features: Features of the pool, as the head consumes them.
    probs: Predicted class probabilities of the pool.
    anchors: Class anchors, of `class_anchors`.
    head: The linear head, of two classes or more.
    budget: Examples to select, in [1, valid rows].
    valid: True at the rows that exist; None means all.
    uncertainty_gamma: Factor of the skew term in the uncertainty threshold.
    diversity_gamma: Weight of nearness to the cluster's center, in [0, 1].
    mesh: Mesh that the rows are split over. Needed only inside `jax.jit` on
      axes of type Auto, where types do not show it.
    axis: The names of its axes that split the rows; None for all.

  Returns:
    Distinct indices of rows, int32, exactly `budget` of them. A budget
    equal to the valid pool returns all of it.

  Raises:
    ValueError: If shapes do not fit or an option is out of range.

  References:
    Jin and Yang, "Combining Discrepancy-Confusion Uncertainty and Calibration
    Diversity for Active Fine-Grained Image Classification", ECCV 2026,
    https://arxiv.org/abs/2509.24181.
  """
  sizes = check_pool(features, probs, head, anchors=anchors, valid=valid)
  # Before the scores, which take long to compute.
  options = _check_options(
    sizes["pool"],
    valid,
    budget=budget,
    uncertainty_gamma=uncertainty_gamma,
    diversity_gamma=diversity_gamma,
  )
  where = {"valid": valid, "mesh": mesh, "axis": axis}
  scores = discrepancy_confusion(features, probs, anchors, head, **where)
  return select_by_score(key, features, scores, anchors, **where, **options)


def select_by_score(
  key: Key[Array, ""],
  features: Float[jax.typing.ArrayLike, "pool dim"] | HostRows,
  scores: Float[jax.typing.ArrayLike, " pool"],
  anchors: Anchors,
  *,
  budget: int,
  valid: Bool[jax.typing.ArrayLike, " pool"] | None = None,
  uncertainty_gamma: float = 0.5,
  diversity_gamma: float = 0.8,
  mesh: Mesh | None = None,
  axis: str | Sequence[str] | None = None,
) -> Int[Array, " budget"]:
  """Selects by DECERN's threshold, clustering and pick, given any scores.

  Candidates are the valid examples above the uncertainty threshold. If there
  are more than the budget, they are clustered with their scores as weights
  into as many clusters as the budget, and one example of each cluster is
  picked. Otherwise the highest scores are taken. Examples that empty clusters
  leave missing are drawn uniformly from the rest.

  Args:
    key: Random key of the clustering's start and of the fill-up.
    features: Features of the pool.
    scores: Uncertainty of each example, at least 0.
    anchors: Class anchors; only their features are used.
    budget: Examples to select, in [1, valid rows].
    valid: True at the rows that exist; None means all.
    uncertainty_gamma: Factor of the skew term in the uncertainty threshold.
    diversity_gamma: Weight of nearness to the cluster's center, in [0, 1].
    mesh: Mesh that the rows are split over. Needed only inside `jax.jit` on
      axes of type Auto, where types do not show it.
    axis: The names of its axes that split the rows; None for all.

  Returns:
    Distinct indices of rows, int32, exactly `budget` of them.

  Raises:
    ValueError: If shapes do not fit or an option is out of range.
  """
  arrays = {
    "features": (features, ("pool", "dim")),
    "scores": (scores, ("pool",)),
    "anchors.features": (anchors.features, ("classes", "dim")),
  }
  if valid is not None:
    arrays["valid"] = (valid, ("pool",))
  sizes = check_shapes({}, **arrays)
  options = _check_options(
    sizes["pool"],
    valid,
    budget=budget,
    uncertainty_gamma=uncertainty_gamma,
    diversity_gamma=diversity_gamma,
  )
  return _select_by_score(
    key,
    as_float32(features),
    as_float32(scores),
    float32_tree(anchors),
    jnp.ones(sizes["pool"], bool) if valid is None else valid,
    max_steps=MAX_STEPS,
    tolerance=TOLERANCE,
    block_size=block_rows(sizes["dim"]),
    **options,
    mesh=mesh,
    axis=axis,
  )


@shard_rows(
  rows=("features", "scores", "valid"),
  static_argnames=("budget", "max_steps", "block_size"),
)
def _select_by_score(
  key: Key[Array, ""],
  features: Rows,
  scores: Float[Array, " pool"],
  anchors: Anchors,
  valid: Bool[Array, " pool"],
  *,
  budget: int,
  uncertainty_gamma: float | Float[Array, ""],
  diversity_gamma: float | Float[Array, ""],
  max_steps: int,
  tolerance: float | Float[Array, ""],
  block_size: int,
  axis_name: AxisName = None,
) -> Int[Array, " budget"]:
  threshold = _uncertainty_threshold(
    scores, valid, uncertainty_gamma, axis_name=axis_name
  )
  candidates = valid & (scores > threshold)
  cluster_key, fill_key = jax.random.split(key)

  def pick_by_clusters():
    picked = _pick_by_clusters(
      cluster_key,
      features,
      scores,
      anchors,
      candidates,
      budget=budget,
      gamma=diversity_gamma,
      max_steps=max_steps,
      tolerance=tolerance,
      block_size=block_size,
      axis_name=axis_name,
    )
    return _fill(fill_key, picked, valid, budget, axis_name)

  def take_highest():
    ranked = jnp.where(valid, scores, -jnp.inf)
    return top_rows(ranked, budget, axis_name)[1].astype(jnp.int32)

  num_candidates = psum(jnp.sum(candidates), axis_name)
  return jax.lax.cond(num_candidates > budget, pick_by_clusters, take_highest)


def _pick_by_clusters(
  key,
  features,
  scores,
  anchors,
  candidates,
  *,
  budget,
  gamma,
  max_steps,
  tolerance,
  block_size,
  axis_name,
) -> Bool[Array, " pool"]:
  """Marks the pick of each cluster of the candidates."""
  order = compaction(candidates)
  num_points = jnp.sum(candidates)
  points = normalized_in_order(features, order, num_points)
  clusters = cluster_first_rows(
    key,
    points,
    # A constant score of zero would make every candidate weightless.
    jnp.maximum(scores[order], jnp.finfo(scores.dtype).tiny),
    num_points=num_points,
    num_clusters=budget,
    max_steps=max_steps,
    tolerance=tolerance,
    block_size=block_size,
    slots=slots_of(order),
    axis_name=axis_name,
  )
  picks, has_pick = _calibrated_pick(
    points,
    clusters.assignments,
    None,
    clusters.centers,
    anchors,
    num_points=num_points,
    gamma=gamma,
    block_size=block_size,
    axis_name=axis_name,
  )
  local = picks - row_offset(len(points), axis_name)
  mine = has_pick & (local >= 0) & (local < len(points))
  where = order[jnp.clip(local, 0, len(points) - 1)]
  return jnp.zeros_like(candidates).at[where].max(mine)


def _fill(key, picked, valid, budget, axis_name) -> Int[Array, " budget"]:
  """Returns the picked indices, then random valid ones up to the budget."""
  index = jnp.arange(len(valid)) + row_offset(len(valid), axis_name)
  chance = uniform_at(key, index)
  rank = jnp.where(picked, 2.0, jnp.where(valid, chance, -1.0))
  return top_rows(rank, budget, axis_name)[1].astype(jnp.int32)


def _check_options(
  pool, valid, *, budget, uncertainty_gamma, diversity_gamma
) -> dict[str, Any]:
  """Returns the options of a selection, checked."""
  return {
    "budget": check_budget(budget, pool, valid),
    "uncertainty_gamma": check_number(
      "uncertainty_gamma", uncertainty_gamma, low=-float("inf")
    ),
    "diversity_gamma": check_number(
      "diversity_gamma", diversity_gamma, low=0.0, high=1.0
    ),
  }


def check_budget(
  budget: object, pool: int, valid: jax.typing.ArrayLike | None
) -> int:
  """Returns a budget as an int.

  Args:
    budget: Examples to select.
    pool: Rows of the pool.
    valid: True at the rows that exist; None means all. The rows are counted if
      this process holds all values.

  Raises:
    ValueError: If it is not an integer in [1, rows that exist].
  """
  budget = check_integer("budget", budget, low=1, high=pool)
  if valid is None or isinstance(valid, Tracer | jax.ShapeDtypeStruct):
    return budget
  if isinstance(valid, jax.Array) and not valid.is_fully_addressable:
    return budget
  rows = int(np.sum(np.asarray(valid)))
  if budget > rows:
    raise ValueError(f"Expected `budget` <= {rows} valid rows, got {budget}.")
  return budget


def uncertainty_threshold(
  scores: Float[jax.typing.ArrayLike, " pool"],
  *,
  valid: Bool[jax.typing.ArrayLike, " pool"] | None = None,
  gamma: float = 0.5,
  mesh: Mesh | None = None,
  axis: str | Sequence[str] | None = None,
) -> Float[Array, ""]:
  """Returns the score above which an example is a candidate.

  threshold = mean + gamma · std · skewness, with population moments; constant
  scores have skewness 0.

  Args:
    scores: Scores of a pool.
    valid: True at the rows that exist; None means all.
    gamma: Factor of the skew term.
    mesh: Mesh that the rows are split over. Needed only inside `jax.jit` on
      axes of type Auto, where types do not show it.
    axis: The names of its axes that split the rows; None for all.

  Returns:
    The threshold, which itself is not above it.

  Raises:
    ValueError: If shapes do not fit.

  References:
    Jin and Yang, ECCV 2026, https://arxiv.org/abs/2509.24181.
  """
  sizes = check_shapes({}, scores=(scores, ("pool",)))
  if valid is not None:
    check_shapes(sizes, valid=(valid, ("pool",)))
  gamma = check_number("gamma", gamma, low=-float("inf"))
  return _uncertainty_threshold(
    as_float32(scores), valid, gamma, mesh=mesh, axis=axis
  )


@shard_rows(rows=("scores", "valid"))
def _uncertainty_threshold(
  scores: Float[Array, " pool"],
  valid: Bool[Array, " pool"] | None,
  gamma: float | Float[Array, ""],
  *,
  axis_name: AxisName = None,
) -> Float[Array, ""]:
  valid = jnp.ones(scores.shape, bool) if valid is None else valid
  mean, std, skewness = moments(scores, valid, axis_name=axis_name)
  return mean + gamma * std * skewness


def moments(
  scores: Float[Array, " pool"],
  valid: Bool[Array, " pool"],
  *,
  axis_name: AxisName = None,
) -> tuple[Float[Array, ""], Float[Array, ""], Float[Array, ""]]:
  """Returns mean, standard deviation and skewness of the valid scores.

  With m_k the k-th central moment, skewness = m_3 / m_2^1.5. The central
  moments are sums of deviations from the mean (two passes), so that a large
  mean costs no digits. Scores that differ only by rounding count as equal.

  Args:
    scores: One score per row of the pool.
    valid: True at the rows that exist; all of them False gives zeros.
    axis_name: Mesh axes that the pool is split over, inside `shard_map`.

  Returns:
    The mean, the population standard deviation and the biased skewness, 0 where
    all scores are equal. They are equal on every shard.
  """
  count = psum(jnp.sum(valid), axis_name).astype(scores.dtype)
  count = jnp.maximum(count, 1.0)

  def mean_of(values):
    total = pairwise_sum(jnp.where(valid, values, 0.0))
    return psum(total, axis_name) / count

  mean = mean_of(scores)
  deviation = scores - mean
  variance = mean_of(deviation**2)
  std = jnp.sqrt(variance)
  rounding = jnp.finfo(scores.dtype).eps * jnp.abs(mean)
  is_constant = std <= 4.0 * rounding
  scaled = deviation / jnp.where(is_constant, 1.0, std)
  skewness = jnp.where(is_constant, 0.0, mean_of(scaled**3))
  return mean, std, skewness


def calibrated_pick(
  features: Float[jax.typing.ArrayLike, "points dim"],
  clusters: Clusters,
  anchors: Anchors,
  *,
  weights: Float[jax.typing.ArrayLike, " points"] | None = None,
  gamma: float = 0.8,
  mesh: Mesh | None = None,
  axis: str | Sequence[str] | None = None,
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
      does not set the scale. None if all points can be picked.
    gamma: Weight of nearness to the center, in [0, 1].
    mesh: Mesh that the rows are split over. Needed only inside `jax.jit` on
      axes of type Auto, where types do not show it.
    axis: The names of its axes that split the rows; None for all.

  Returns:
    `(indices [k], valid [k])`: entry k is the index in `features` of the pick
    of cluster k; 0 where `valid` is False and the cluster has no pick.

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
    mesh=mesh,
    axis=axis,
  )


@shard_rows(
  rows=("features", "assignments", "weights"), static_argnames=("block_size",)
)
def _calibrated_pick(
  features: Rows,
  assignments: Int[Array, " points"],
  weights: Float[Array, " points"] | None,
  centers: Float[Array, "clusters dim"],
  anchors: Anchors,
  *,
  gamma: float | Float[Array, ""],
  block_size: int,
  num_points: Int[Array, ""] | None = None,
  axis_name: AxisName = None,
) -> tuple[Int[Array, " clusters"], Bool[Array, " clusters"]]:
  """Picks from each cluster one of the first `num_points` of this shard."""
  counted = len(features) if num_points is None else num_points
  pickable = jnp.arange(len(features)) < counted
  if weights is not None:
    pickable = pickable & (weights > 0)
  num_clusters, member = len(centers), assignments
  near, far = _distances(
    features,
    centers,
    assignments,
    anchors,
    num_points=counted,
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
  index = jnp.arange(len(features)) + row_offset(len(features), axis_name)
  none = jnp.iinfo(jnp.int32).max
  is_best = pickable & (cost == least[member])
  picked = smallest(jnp.where(is_best, index.astype(jnp.int32), none), none)
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


register(
  Strategy(
    "decern",
    select,
    needs=("features", "probs", "labels", "head"),
    options=OPTIONS,
    streams=True,
  )
)
