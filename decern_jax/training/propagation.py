"""Heads on frozen features by convex optimization, with or without the pool."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from decern_jax.distributed.rows import Rows
from decern_jax.distributed.sharding import take_replicated, to_host
from decern_jax.ops import graph as graph_lib
from decern_jax.ops.graph import Graph
from decern_jax.ops.head import LinearHead
from decern_jax.training.logistic import Solution, fit_logistic

# C of the logistic regression, on features of mean length 1.
INVERSE_PENALTY = 300.0


class PoolGraph(NamedTuple):
  """What heads need of the features of a pool, the same in all rounds.

  Attributes:
    center: Mean of the features.
    scale: Mean distance of the features to it.
    graph: The graph of nearest neighbors, split over devices as the pool is.
      None where the pool takes no part.
  """

  center: Float[Array, " dim"]
  scale: Float[Array, ""]
  graph: Graph | None


def describe_pool(
  features: Rows,
  valid: jax.Array,
  *,
  has_graph: bool,
  num_neighbors: int = graph_lib.NUM_NEIGHBORS,
) -> PoolGraph:
  """Returns what heads need of the features of a pool.

  Args:
    features: [pool, dim], on the devices or on the host.
    valid: bool [pool], True at the rows that exist.
    has_graph: Whether to build the graph, which compares all pairs of rows.
    num_neighbors: Neighbors of each row.
  """
  center, scale = graph_lib.center_and_scale(features, valid)
  graph = None
  if has_graph:
    graph = graph_lib.make_graph(
      features, valid, center, num_neighbors=num_neighbors
    )
  return PoolGraph(center, scale, graph)


def fit_head(
  pool: PoolGraph,
  features: Rows,
  indices: Int[jax.typing.ArrayLike, " labels"],
  num_labels: int,
  targets: Float[jax.typing.ArrayLike, "labels classes"],
  *,
  is_multi_label: bool = False,
) -> Solution:
  """Fits a head to labeled rows of a pool by logistic regression.

  With a graph, each labeled example is there twice, with half of the weight: as
  it is, and smoothed over the graph. The smoothed one is close to a mean of the
  examples around it, so the head learns from all of the pool. As both are
  features of the same kind, the result is a linear head like any other, and no
  assumption about the sizes of the classes is made.

  Args:
    pool: What `describe_pool` returned.
    features: [pool, dim], on the devices or on the host.
    indices: The labeled rows, those that count first.
    num_labels: How many of them count, at least 1.
    targets: Probability of each class of the labeled rows; or of each label.
    is_multi_label: Whether an example may have several labels.

  Returns:
    The solution, with a head for the features as they are.
  """
  indices, targets = jnp.asarray(indices), jnp.asarray(targets, jnp.float32)
  rows = jnp.asarray(take_replicated(features, indices))
  center, scale = (jnp.asarray(to_host(pool[i])) for i in range(2))
  inputs = (rows - center[None]) / scale
  weights = (jnp.arange(len(indices)) < num_labels).astype(inputs.dtype)
  if pool.graph is not None:
    smoothed = graph_lib.smooth_rows_at(
      pool.graph, features, pool.center, indices, jnp.asarray(num_labels)
    )
    smoothed = jnp.asarray(to_host(smoothed)) / scale
    inputs = jnp.concatenate([inputs, smoothed])
    targets = jnp.concatenate([targets, targets])
    weights = jnp.concatenate([weights, weights]) / 2.0
  solution = fit_logistic(
    inputs,
    targets,
    weights,
    inverse_penalty=INVERSE_PENALTY,
    is_multi_label=is_multi_label,
  )
  return solution._replace(head=_unscaled(solution.head, center, scale))


@jax.jit
def _unscaled(head: LinearHead, center, scale) -> LinearHead:
  """Returns a head for features before center and scale were taken out."""
  kernel = head.kernel / scale
  shift = jnp.matmul(center, kernel, precision=jax.lax.Precision.HIGHEST)
  return LinearHead(kernel, head.bias - shift)
