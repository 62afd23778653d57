"""Batches that cover the features: k-center (Coreset) and k-means."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from decern_jax.ops.distances import greedy_k_center
from decern_jax.ops.kmeans import weighted_kmeans
from decern_jax.strategies.base import Pool, Selection, Strategy, register
from decern_jax.strategies.pick import take_nearest

_greedy_k_center = functools.partial(jax.jit, static_argnames="budget")(
  greedy_k_center
)


def select(key: Key[Array, ""], pool: Pool, *, budget: int) -> Selection:
  """Selects the examples farthest from all labeled and selected ones.

  Each step selects the candidate x with the largest

    min over labeled and selected y of |h(x) - h(y)|.

  Returns:
    The selection, in the order of the steps, without scores.

  References:
    Sener and Savarese, "Active Learning for Convolutional Neural Networks: A
    Core-Set Approach", ICLR 2018, https://arxiv.org/abs/1708.00489.
  """
  del key
  indices = _greedy_k_center(
    pool.features, pool.covered, pool.candidates, budget=budget
  )
  return Selection(indices, None)


def select_kmeans(key: Key[Array, ""], pool: Pool, *, budget: int) -> Selection:
  """Selects for each center of a clustering the nearest candidate.

  The features of the candidates are clustered by k-means, with as many centers
  as the budget. Each center in turn takes the nearest candidate that is not
  taken yet.

  Returns:
    The selection, in the order of the centers, without scores.

  References:
    Zhdanov, "Diverse mini-batch Active Learning",
    https://arxiv.org/abs/1901.05954, without weights.
  """
  weights = pool.candidates.astype(jnp.float32)
  clusters = weighted_kmeans(key, pool.features, weights, num_clusters=budget)
  indices = take_nearest(
    pool.features, clusters.centers, pool.candidates, budget=budget
  )
  return Selection(indices, None)


register(Strategy("coreset", select, select, needs=("features", "labels")))
register(Strategy("kmeans", select_kmeans, select_kmeans, needs=("features",)))
