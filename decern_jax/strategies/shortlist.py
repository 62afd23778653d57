"""From a shortlist of examples to a diverse batch."""

import functools

import jax
import jax.numpy as jnp

from decern_jax.ops.distances import nearest_distinct, normalize
from decern_jax.ops.keys import uniform_at
from decern_jax.ops.kmeans import weighted_kmeans
from decern_jax.strategies.pool import take_highest


def pick_diverse(
  key: jax.Array,
  features: jax.Array,
  shortlist: jax.Array,
  candidates: jax.Array,
  *,
  budget: int,
) -> jax.Array:
  """Picks the examples of a shortlist that lie nearest to its centers.

  The features are scaled to length 1 and clustered by k-means, and each center
  takes the nearest example that is not taken yet. A shortlist that is shorter
  than the budget is taken whole, and filled up at random.

  Args:
    key: Random key.
    features: float32 [pool, dim].
    shortlist: bool [pool], candidates that are wanted.
    candidates: bool [pool], at least `budget` of them True.
    budget: Examples to pick.

  Returns:
    int32 [budget], distinct candidates.
  """
  fill_key, cluster_key = jax.random.split(key)
  ranking = _ranking(fill_key, shortlist)
  filled = take_highest(ranking, candidates, budget=budget)
  shortlist = _fill(shortlist, filled, budget=budget)
  directions = _directions(features, shortlist)
  clusters = weighted_kmeans(
    cluster_key,
    directions,
    shortlist.astype(directions.dtype),
    num_clusters=budget,
  )
  return _nearest(directions, clusters.centers, shortlist, budget=budget)


@jax.jit
def _ranking(key, shortlist):
  """Ranks what is on the shortlist first, and else at random."""
  chance = uniform_at(key, jnp.arange(len(shortlist)))
  return chance + shortlist.astype(chance.dtype)


@functools.partial(jax.jit, static_argnames="budget")
def _fill(shortlist, filled, *, budget):
  """Returns the shortlist, or what it was filled up to if it is too short."""
  is_long = jnp.sum(shortlist) >= budget
  taken = jnp.zeros_like(shortlist).at[filled].set(True)
  return jnp.where(is_long, shortlist, taken)


@jax.jit
def _directions(features, shortlist):
  return normalize(jnp.where(shortlist[:, None], features, 0.0))


_nearest = jax.jit(nearest_distinct, static_argnames="budget")
