"""K-means: the example nearest to each of as many centers as the budget."""

import functools

import jax
import jax.numpy as jnp

from decern_jax.ops.distances import nearest_distinct
from decern_jax.ops.kmeans import weighted_kmeans
from decern_jax.strategies.pool import Pool, Selection

_nearest_distinct = functools.partial(jax.jit, static_argnames="budget")(
  nearest_distinct
)


def select(key: jax.Array, pool: Pool, *, budget: int) -> Selection:
  """Selects for each center of a clustering the nearest candidate.

  The features of the candidates are clustered by k-means, with as many centers
  as the budget; a candidate that an earlier center took is left out. Works
  likewise where an example has several labels.

  Args:
    key: Random key of the clustering's start.
    pool: The pool.
    budget: Examples to select, at most the candidates.

  Returns:
    The selection, in the order of the centers, without scores.

  References:
    Zhdanov, "Diverse mini-batch Active Learning",
    https://arxiv.org/abs/1901.05954, without weights.
  """
  weights = pool.candidates.astype(jnp.float32)
  clusters = weighted_kmeans(key, pool.features, weights, num_clusters=budget)
  positions = _nearest_distinct(
    pool.features, clusters.centers, pool.candidates, budget=budget
  )
  return Selection(positions, None)
