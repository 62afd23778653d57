"""DECERN's selection: filter by score, cluster, pick, fill up."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from decern_jax.distributed.collective import (
  AxisName,
  psum,
  row_offset,
  top_rows,
)
from decern_jax.distributed.rows import Rows
from decern_jax.ops.anchors import Anchors
from decern_jax.ops.block import compaction, slots_of
from decern_jax.ops.calibration import calibrated_pick
from decern_jax.ops.chance import uniform_at
from decern_jax.ops.kmeans import weighted_kmeans
from decern_jax.ops.similarity import normalized_in_order
from decern_jax.ops.statistics import uncertainty_threshold


def select_by_score(
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
  """Selects a budget of examples, given their discrepancy-confusion scores.

  Candidates are the valid examples above the uncertainty threshold. When there
  are more than the budget, they are clustered with their scores as weights
  into as many clusters as the budget and one example of each cluster is
  picked; else the highest scores are taken. What empty clusters leave open is
  drawn uniformly from the rest.

  Args:
    key: Random key.
    features: Features [pool, dim] of the pool.
    scores: Score of each example.
    anchors: The class anchors.
    valid: True at the rows that exist. Were they fewer than the budget, other
      rows would fill the answer up.
    budget: Examples to select, at most the pool.
    uncertainty_gamma: Factor of the skew in the threshold.
    diversity_gamma: Weight of nearness to the center, in [0, 1].
    max_steps: Largest number of k-means steps.
    tolerance: k-means tolerance.
    block_size: Examples whose products with the centers are held at once.
    axis_name: Mesh axes that the pool is split over, inside `shard_map`.

  Returns:
    Distinct positions in the whole pool, int32, equal on every shard: picks in
    ascending order, then the fill.
  """
  threshold = uncertainty_threshold(
    scores, valid, gamma=uncertainty_gamma, axis_name=axis_name
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
  counts = jnp.arange(len(features)) < num_points
  points = normalized_in_order(features, order, num_points)
  clusters = weighted_kmeans(
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
  position, has_pick = calibrated_pick(
    points,
    clusters.centers,
    clusters.assignments,
    anchors,
    pickable=counts,
    num_points=num_points,
    gamma=gamma,
    block_size=block_size,
    axis_name=axis_name,
  )
  offset = row_offset(len(points), axis_name)
  local = position - offset
  mine = has_pick & (local >= 0) & (local < len(points))
  where = order[jnp.clip(local, 0, len(points) - 1)]
  return jnp.zeros_like(candidates).at[where].max(mine)


def _fill(key, picked, valid, budget, axis_name) -> Int[Array, " budget"]:
  """Returns the picked positions, and random valid ones up to the budget."""
  position = jnp.arange(len(valid)) + row_offset(len(valid), axis_name)
  chance = uniform_at(key, position)
  rank = jnp.where(picked, 2.0, jnp.where(valid, chance, -1.0))
  return top_rows(rank, budget, axis_name)[1].astype(jnp.int32)
