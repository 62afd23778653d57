"""Uncertain and diverse: any score, then one example of each cluster."""

from collections.abc import Callable
import functools
import inspect

import jax
import jax.numpy as jnp

from decern_jax.distributed.sharding import take
from decern_jax.io.validation import check_integer
from decern_jax.ops.distances import ROUNDING
from decern_jax.ops.kmeans import weighted_kmeans
from decern_jax.strategies.pool import Pool, Selection, take_highest

PICKS = ("most_uncertain", "nearest_center")
"""Which example of a cluster may be picked."""


def clustered(select: Callable[..., Selection]) -> Callable[..., Selection]:
  """Makes a strategy that ranks by a score pick from clusters instead.

  What scores nothing, as temporal discrepancy in the first round, selects as it
  does by itself.

  Args:
    select: The `select` of a strategy whose highest scores are wanted.

  Returns:
    A `select` with the same options and, after them, `shortlist_factor` and
    `cluster_pick` of `pick_from_clusters`; its pool needs features. Scores are
    those of the strategy.

  References:
    Möllenbrok, Sumbul and Demir, "Deep Active Learning for Multi-Label
    Classification of Remote Sensing Images", IEEE GRSL 2023,
    https://arxiv.org/abs/2212.01165.
  """

  def pick(
    key: jax.Array,
    pool: Pool,
    *,
    budget: int,
    shortlist_factor: int,
    cluster_pick: str,
    **options,
  ) -> Selection:
    """Selects by the score, then by clusters."""
    key, cluster_key = jax.random.split(key)
    selection = select(key, pool, budget=budget, **options)
    if selection.scores is None:
      return selection
    positions = pick_from_clusters(
      cluster_key,
      pool.features,
      selection.scores,
      pool.candidates,
      budget=budget,
      shortlist_factor=shortlist_factor,
      cluster_pick=cluster_pick,
    )
    return Selection(positions, selection.scores)

  signature = inspect.signature(select)
  own = inspect.signature(pick).parameters
  added = [own["shortlist_factor"], own["cluster_pick"]]
  pick.__signature__ = signature.replace(
    parameters=[*signature.parameters.values(), *added]
  )
  return pick


def pick_from_clusters(
  key: jax.Array,
  features: jax.Array,
  scores: jax.Array,
  candidates: jax.Array,
  *,
  budget: int,
  shortlist_factor: int,
  cluster_pick: str,
) -> jax.Array:
  """Picks one example of each cluster of the most uncertain ones.

  The shortlist, the `shortlist_factor · budget` candidates with the highest
  scores or all there are, is clustered by k-means on the features into as many
  clusters as the budget. Each gives one example; the place of an empty one goes
  to the most uncertain example that is not picked. That clusters are formed is
  published; the factor, 4, and the most uncertain example as the pick are this
  project's choice.

  Only the shortlist's features leave their devices, to all of them, so that
  every device picks the same, however many there are.

  Args:
    key: Random key of the clustering's start.
    features: float32 [pool, dim].
    scores: float32 [pool], finite at the candidates.
    candidates: bool [pool], at least `budget` of them True.
    budget: Examples to pick.
    shortlist_factor: Length of the shortlist by the budget, at least 1.
    cluster_pick: "most_uncertain" picks a cluster's highest score,
      "nearest_center" the example nearest to its center; of equals, the higher
      score, then the lower position.

  Returns:
    int32 [budget], distinct candidates: the picks, then what takes the place
    of empty clusters, each by falling score.

  Raises:
    ValueError: If an option is outside its range.
  """
  factor = check_integer("shortlist_factor", shortlist_factor, low=1)
  if cluster_pick not in PICKS:
    raise ValueError(
      f"Unknown `cluster_pick` {cluster_pick!r}; "
      f"expected one of {sorted(PICKS)}."
    )
  size = min(factor * budget, len(scores))
  shortlist = take_highest(scores, candidates, budget=size)
  points = take(features, shortlist)
  # Where the candidates are fewer, they come first.
  counts = _first(candidates, size=size)
  clusters = weighted_kmeans(
    key, points, counts.astype(points.dtype), num_clusters=budget
  )
  may_be_picked = counts
  if cluster_pick == "nearest_center":
    may_be_picked = _are_nearest(
      points, clusters.centers, clusters.assignments, counts
    )
  return _pick(shortlist, clusters.assignments, may_be_picked, budget=budget)


@functools.partial(jax.jit, static_argnames="size")
def _first(candidates, *, size):
  return jnp.arange(size) < jnp.sum(candidates)


@jax.jit
def _are_nearest(points, centers, assignments, counts):
  """Marks the examples that none of their cluster is nearer than."""
  own = centers[assignments]
  squares = jnp.where(counts, jnp.sum((points - own) ** 2, axis=-1), jnp.inf)
  least = jax.ops.segment_min(squares, assignments, len(centers))
  # Two examples are equally far from their mean: rounding must not choose.
  rounding = ROUNDING * jnp.sum(points**2 + own**2, axis=-1)
  return counts & (squares <= least[assignments] + rounding)


@functools.partial(jax.jit, static_argnames="budget")
def _pick(shortlist, assignments, may_be_picked, *, budget):
  """Takes the first of each cluster that may be picked, then what is left."""
  rank = jnp.arange(len(shortlist))
  ranked = jnp.where(may_be_picked, rank, len(shortlist))
  first = jax.ops.segment_min(ranked, assignments, budget)
  is_picked = may_be_picked & (rank == first[assignments])
  return shortlist[jnp.argsort(~is_picked, stable=True)[:budget]]
