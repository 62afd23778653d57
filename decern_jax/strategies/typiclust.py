"""TypiClust: the most typical example of each cluster with few labels."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from decern_jax.ops.block import fold_blocks, rows_at, set_rows_at
from decern_jax.ops.distances import square_distances
from decern_jax.ops.kmeans import weighted_kmeans
from decern_jax.strategies.base import Pool, Selection, Strategy, register

MAX_CLUSTERS = 500
MIN_CLUSTER_SIZE = 5
MAX_NEIGHBORS = 20

# Added to mean distances, which are 0 between equal examples (official code).
EPSILON = 1e-5

# Rows, and possible neighbors, whose distances are in memory at once.
BLOCK_ROWS = 128


def select(key: Key[Array, ""], pool: Pool, *, budget: int) -> Selection:
  """Selects typical examples of the clusters with the fewest labels.

  The features of labeled examples and candidates are clustered by k-means into
  min(labeled + budget, 500) clusters, ordered by increasing number of labeled
  examples, then by decreasing size. In this order, each gives its candidate
  with the highest typicality

    1 / mean distance to the min(20, n / 2) nearest of the cluster's n
    candidates.

  Clusters of fewer than 5 examples are skipped at first. The others take turns
  in this order, each giving its next most typical example, until they are
  exhausted. The small clusters follow by the same rule. Several labels per
  example make no difference.

  Returns:
    The selection, in the order of the clusters; scores are the typicalities, 0
    at examples that are not candidates or the only one of their cluster.

  References:
    Hacohen, Dekel and Weinshall, "Active Learning on a Budget: Opposite
    Strategies Suit High and Low Budgets", ICML 2022,
    https://arxiv.org/abs/2202.02794.
  """
  labeled = pool.covered
  members = (labeled | pool.candidates).astype(jnp.float32)
  # A constant number of centers, so that all rounds have one program.
  most = min(MAX_CLUSTERS, len(members))
  clusters = weighted_kmeans(
    key,
    pool.features,
    members,
    num_clusters=jnp.minimum(jnp.sum(labeled) + budget, most),
    max_clusters=most,
  )
  return _select(
    pool.features,
    clusters.assignments,
    labeled,
    pool.candidates,
    budget=budget,
  )


@functools.partial(jax.jit, static_argnames="budget")
def _select(features, assignments, labeled, candidates, *, budget) -> Selection:
  # Rows that are not candidates get a group after all clusters.
  groups = jnp.where(candidates, assignments, MAX_CLUSTERS)
  typicality = _typicality(features, groups)
  counts = _count(assignments, labeled)
  sizes = counts + _count(assignments, candidates)
  keys = (
    groups,
    -sizes[groups],
    counts[groups],
    _turns(groups, typicality),
    sizes[groups] < MIN_CLUSTER_SIZE,
    ~candidates,
  )
  indices = jnp.lexsort(keys)[:budget].astype(jnp.int32)
  return Selection(indices, typicality)


def _count(groups, mask) -> jax.Array:
  """Returns how many rows under the mask each group has."""
  zeros = jnp.zeros(MAX_CLUSTERS + 1, jnp.int32)
  return zeros.at[groups].add(mask.astype(jnp.int32))


def _turns(groups, typicality) -> jax.Array:
  """Returns the rank of each row in its group by decreasing typicality."""
  sizes = _count(groups, jnp.ones_like(groups))
  begins = jnp.cumsum(sizes) - sizes
  order = jnp.lexsort((-typicality, groups))
  rank = jnp.arange(len(groups)) - begins[groups[order]]
  return jnp.zeros_like(rank).at[order].set(rank)


def _typicality(features, groups) -> jax.Array:
  """Returns the typicality of each candidate in its cluster, else 0.

  The rows are sorted by cluster, so that a block of rows is compared only with
  the range of rows that its clusters occupy.
  """
  norms = jnp.sum(features**2, axis=-1)
  order = jnp.argsort(groups, stable=True)
  sizes = _count(groups, groups < MAX_CLUSTERS)
  ends = jnp.cumsum(sizes)
  groups = groups[order]

  def score(scores, start, fresh):
    own = rows_at(groups, start, len(fresh))
    # Rows after the last cluster have size 0: they do not extend the range.
    begin, end = ends[own[0]] - sizes[own[0]], ends[own[-1]]
    nearest = _nearest_in_group(
      features, norms, order, groups, start, len(fresh), begin, end
    )
    num_neighbors = jnp.clip(sizes[own] // 2, 1, MAX_NEIGHBORS)
    return set_rows_at(scores, _inverse_mean(nearest, num_neighbors), start)

  scores = fold_blocks(
    score,
    jnp.zeros(len(features), features.dtype),
    num_rows=ends[-1],
    max_rows=len(features),
    block_size=BLOCK_ROWS,
  )
  scores = jnp.where(groups < MAX_CLUSTERS, scores, 0.0)
  return jnp.zeros_like(scores).at[order].set(scores)


def _nearest_in_group(
  features, norms, order, groups, start, size, begin, end
) -> jax.Array:
  """Returns the smallest squared distances of a block within its clusters.

  Args:
    features: [pool, dim], in the order of the pool.
    norms: [pool], their squared lengths.
    order: [pool], indices in the order of the clusters.
    groups: [pool], the clusters in that order.
    start: First row of the block, in that order.
    size: Rows of the block.
    begin: First row of the block's clusters.
    end: The row after their last row.

  Returns:
    [size, MAX_NEIGHBORS], increasing; infinite where a cluster has fewer rows.
  """
  points = rows_at(order, start, size)
  own = rows_at(groups, start, size)

  def add(nearest, offset, fresh):
    others = rows_at(order, offset, size)
    squares = square_distances(
      features[points], norms[points], features[others], norms[others]
    )
    is_other = points[:, None] != others[None]
    is_near = own[:, None] == rows_at(groups, offset, size)[None]
    squares = jnp.where(is_other & is_near & fresh[None], squares, jnp.inf)
    both = jnp.concatenate([nearest, squares], axis=1)
    return -jax.lax.top_k(-both, MAX_NEIGHBORS)[0]

  def add_block(block, nearest):
    # The last block is moved back to fit, as in `fold_blocks`.
    first = begin + block * size
    offset = jnp.minimum(first, len(order) - size)
    rows = offset + jnp.arange(size)
    return add(nearest, offset, (rows >= first) & (rows < end))

  none = jnp.full((size, MAX_NEIGHBORS), jnp.inf, features.dtype)
  num_blocks = (end - begin + size - 1) // size
  return jax.lax.fori_loop(0, num_blocks, add_block, none)


def _inverse_mean(squares, count) -> jax.Array:
  """Returns 1 / mean of the first `count` distances, 0 if one is infinite."""
  counts = jnp.arange(squares.shape[1])[None] < count[:, None]
  total = jnp.sum(jnp.where(counts, jnp.sqrt(squares), 0.0), axis=1)
  return 1.0 / (total / count.astype(total.dtype) + EPSILON)


register(Strategy("typiclust", select, select, needs=("features", "labels")))
