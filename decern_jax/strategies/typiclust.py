"""TypiClust: the most typical example of each cluster without labels."""

import functools

import jax
import jax.numpy as jnp

from decern_jax.ops.block import fold_blocks, rows_at, set_rows_at
from decern_jax.ops.distances import square_distances
from decern_jax.ops.kmeans import weighted_kmeans
from decern_jax.strategies.pool import Pool, Selection

MAX_CLUSTERS = 500
MIN_CLUSTER_SIZE = 5
MAX_NEIGHBORS = 20

# Added to mean distances, which are 0 among equal examples (official code).
EPSILON = 1e-5

# Rows, and neighbors of them, whose distances are held at once.
BLOCK_ROWS = 128


def select(key: jax.Array, pool: Pool, *, budget: int) -> Selection:
  """Selects typical examples of the clusters with the fewest labels.

  The features of labeled examples and candidates are clustered by k-means into
  min(labeled + budget, 500) clusters. Those with the fewest labeled examples
  come first, among them the largest; each gives its candidate of the highest
  typicality

    1 / mean distance to the min(20, n / 2) nearest of the cluster's n
    candidates.

  Clusters of fewer than 5 examples are passed over. When each of the others
  has had its turn they give their next most typical ones in the same order,
  and when they hold no more, the small ones follow likewise. Works likewise
  where an example has several labels.

  Args:
    key: Random key of the clustering's start.
    pool: The pool.
    budget: Examples to select, at most the candidates.

  Returns:
    The selection, in the order of the clusters; scores are the typicalities, 0
    at examples that are not candidates or alone in their cluster.

  References:
    Hacohen, Dekel and Weinshall, "Active Learning on a Budget: Opposite
    Strategies Suit High and Low Budgets", ICML 2022,
    https://arxiv.org/abs/2202.02794.
  """
  labeled = pool.labeled
  members = (labeled | pool.candidates).astype(jnp.float32)
  clusters = weighted_kmeans(
    key,
    pool.features,
    members,
    num_clusters=min(int(jnp.sum(labeled)) + budget, MAX_CLUSTERS),
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
  # Candidates in the order of their clusters; the others past all clusters.
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
  positions = jnp.lexsort(keys)[:budget].astype(jnp.int32)
  return Selection(positions, typicality)


def _count(groups, mask) -> jax.Array:
  """Returns how many rows under the mask each group has."""
  zeros = jnp.zeros(MAX_CLUSTERS + 1, jnp.int32)
  return zeros.at[groups].add(mask.astype(jnp.int32))


def _turns(groups, typicality) -> jax.Array:
  """Returns the rank of each row in its group by falling typicality."""
  sizes = _count(groups, jnp.ones_like(groups))
  begins = jnp.cumsum(sizes) - sizes
  order = jnp.lexsort((-typicality, groups))
  rank = jnp.arange(len(groups)) - begins[groups[order]]
  return jnp.zeros_like(rank).at[order].set(rank)


def _typicality(features, groups) -> jax.Array:
  """Returns the typicality of each candidate in its cluster, else 0.

  The rows are sorted by cluster, so that a block of them is compared only with
  the stretch of rows that its clusters take up.
  """
  norms = jnp.sum(features**2, axis=-1)
  order = jnp.argsort(groups, stable=True)
  sizes = _count(groups, groups < MAX_CLUSTERS)
  ends = jnp.cumsum(sizes)
  groups = groups[order]

  def score(scores, start, fresh):
    own = rows_at(groups, start, len(fresh))
    # Rows past the last cluster have no size: they add nothing to the stretch.
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
    order: [pool], positions in the order of the clusters.
    groups: [pool], the cluster of each in that order.
    start: First row of the block, in that order.
    size: Rows of the block.
    begin: First row of the block's clusters.
    end: The row after their last one.

  Returns:
    [size, MAX_NEIGHBORS], rising; infinite where a cluster has no more.
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
