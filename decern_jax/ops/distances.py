"""Distances and cosines between points, and points chosen by them."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from decern_jax.distributed.rows import HostRows, Rows
from decern_jax.ops.block import compaction, fold_blocks, rows_at

# Below this length a feature has no direction, and its cosines are 0 (the
# convention of torch.nn.functional.normalize).
MIN_NORM = 1e-12

# Points whose products with the pool are in memory at once.
BLOCK_ROWS = 128

# A squared distance below this share of the squared lengths of the two points
# is only the rounding of their product.
ROUNDING = 1e-6


def normalize(
  features: Float[Array, "*batch dim"],
) -> Float[Array, "*batch dim"]:
  """Scales each feature to length 1; a zero feature stays zero."""
  norm = jnp.linalg.norm(features, axis=-1, keepdims=True)
  return features / jnp.maximum(norm, MIN_NORM)


def cosine_similarity(
  features: Float[Array, "rows dim"], others: Float[Array, "others dim"]
) -> Float[Array, "rows others"]:
  """Returns the cosine of every feature with every other one, in [-1, 1]."""
  return jnp.matmul(
    normalize(features),
    normalize(others).T,
    precision=jax.lax.Precision.HIGHEST,
  )


def normalized_in_order(
  rows: Rows, order: Int[Array, " rows"], num_rows: Int[Array, ""]
) -> Rows:
  """Returns rows of length 1 in another order.

  Args:
    rows: The rows.
    order: Indices into the rows.
    num_rows: Rows that count, from the first on. On the devices the others
      become zero, because a NaN in them would survive a weight of zero.

  Returns:
    The rows, a copy if they are on the devices and a view if on the host.
  """
  if isinstance(rows, HostRows):
    return dataclasses.replace(rows.reorder(order), transform=normalize)
  counts = jnp.arange(len(rows)) < num_rows
  return jnp.where(counts[:, None], normalize(rows[order]), 0.0)


def square_distances(
  points: Float[Array, "points dim"],
  norms: Float[Array, " points"],
  centers: Float[Array, "centers dim"],
  center_norms: Float[Array, " centers"],
) -> Float[Array, "points centers"]:
  """Returns the squared distance of every point to every center.

  Uses |x - c|^2 = |x|^2 + |c|^2 - 2 x · c, which needs no array of differences.
  Points closer than a thousandth of their length count as equal.

  Args:
    points: The points x.
    norms: Their squared lengths |x|^2.
    centers: The centers c.
    center_norms: Their squared lengths |c|^2.

  Returns:
    The squares, at least 0, and exactly 0 between equal points.
  """
  product = jnp.matmul(points, centers.T, precision=jax.lax.Precision.HIGHEST)
  return squares_by_products(product, norms[:, None], center_norms[None])


def squares_by_products(
  products: Float[Array, "points centers"],
  norms: Float[Array, "points 1"],
  center_norms: Float[Array, "1 centers"],
) -> Float[Array, "points centers"]:
  """Returns squared distances, given the inner products.

  Args:
    products: Inner products x · c of points and centers.
    norms: Squared lengths |x|^2 of the points.
    center_norms: Squared lengths |c|^2 of the centers.

  Returns:
    The squares |x|^2 + |c|^2 - 2 x · c, at least 0, and exactly 0 where the
    result is only the rounding of its terms.
  """
  lengths = norms + center_norms
  squares = lengths - 2.0 * products
  return jnp.where(squares > ROUNDING * lengths, squares, 0.0)


def covered_distances(
  points: Float[Array, "pool dim"],
  norms: Float[Array, " pool"],
  covered: Bool[Array, " pool"],
) -> Float[Array, " pool"]:
  """Returns each point's squared distance to the nearest covered point.

  Args:
    points: The points, which may be split over devices under `jax.jit`.
    norms: Their squared lengths.
    covered: True at the points to measure from.

  Returns:
    The squares; infinite where nothing is covered.
  """
  order = compaction(covered)

  def step(distances, start, fresh):
    rows = rows_at(order, start, len(fresh))
    square = square_distances(points, norms, points[rows], norms[rows])
    square = jnp.where(fresh[None], square, jnp.inf)
    return jnp.minimum(distances, jnp.min(square, axis=1))

  return fold_blocks(
    step,
    jnp.full(len(points), jnp.inf, points.dtype),
    num_rows=jnp.sum(covered),
    max_rows=len(points),
    block_size=BLOCK_ROWS,
  )


def nearest_distinct(
  points: Float[Array, "pool dim"],
  centers: Float[Array, "centers dim"],
  candidates: Bool[Array, " pool"],
  *,
  budget: int,
) -> Int[Array, " budget"]:
  """Takes for each center the nearest candidate that is not taken yet.

  The centers take turns in order, even those that no point is assigned to. If
  there are fewer centers than the budget, they start again from the first, and
  each takes its next nearest candidate. If there are more, only the first
  `budget` take a turn.

  Args:
    points: The points, which may be split over devices under `jax.jit`. Rows
      that are not candidates may hold any finite values.
    centers: The centers, one or more, in the order of their turns.
    candidates: True at the points that may be taken, at least `budget`.
    budget: Points to take, at least 1.

  Returns:
    Distinct indices of candidates in the order of the turns, int32. Among
    equally near ones (`square_distances`) the lowest index comes first.
  """
  norms = jnp.sum(points**2, axis=-1)
  center_norms = jnp.sum(centers**2, axis=-1)

  def take(turn, state):
    free, taken = state
    at = (turn % len(centers))[None]
    square = square_distances(points, norms, centers[at], center_norms[at])
    square = jnp.where(free, square[:, 0], jnp.inf)
    # Two points of a cluster are equally far from their mean. Rounding must not
    # decide between them.
    least = jnp.argmin(square)
    rounding = ROUNDING * (norms[least] + center_norms[at[0]])
    chosen = jnp.argmax(square <= square[least] + rounding)
    free = free & (jnp.arange(len(points)) != chosen)
    return free, taken.at[turn].set(chosen.astype(jnp.int32))

  start = (candidates, jnp.zeros(budget, jnp.int32))
  return jax.lax.fori_loop(0, budget, take, start)[1]


def greedy_k_center(
  points: Float[Array, "pool dim"],
  covered: Bool[Array, " pool"],
  candidates: Bool[Array, " pool"],
  *,
  budget: int,
) -> Int[Array, " budget"]:
  """Takes the farthest candidate, `budget` times.

  The distance of a candidate is measured to the nearest point that is covered
  or was taken before. If nothing is covered, the first one taken is the
  candidate nearest to the mean of the candidates. Only a [pool] vector of
  distances is kept; the pool may be split over devices under `jax.jit`.

  Args:
    points: The points. Rows that are neither covered nor candidates may hold
      any finite values.
    covered: True at the points that are already covered.
    candidates: True at the points that may be taken, at least `budget`.
    budget: Points to take, at least 1.

  Returns:
    Distinct indices of candidates in the order in which they were taken, int32.
    Among equally distant ones the lowest index comes first. Points closer than
    a thousandth of their length count as equal.

  References:
    Gonzalez, "Clustering to minimize the maximum intercluster distance",
    Theoretical Computer Science 1985.
  """
  norms = jnp.sum(points**2, axis=-1)
  distances = covered_distances(points, norms, covered)

  def farthest(distances):
    return jnp.argmax(jnp.where(candidates, distances, -jnp.inf))

  def take(turn, state):
    distances, taken, chosen = state
    taken = taken.at[turn].set(chosen)
    row = chosen[None]
    square = square_distances(points, norms, points[row], norms[row])[:, 0]
    distances = jnp.minimum(distances, square)
    is_taken = jnp.arange(len(points)) == chosen
    distances = jnp.where(is_taken, -jnp.inf, distances)
    return distances, taken, farthest(distances).astype(jnp.int32)

  central = -_mean_distances(points, norms, candidates)
  start = jnp.where(jnp.any(covered), distances, central)
  first = farthest(start).astype(jnp.int32)
  empty = jnp.zeros(budget, jnp.int32)
  return jax.lax.fori_loop(0, budget, take, (distances, empty, first))[1]


def _mean_distances(points, norms, candidates) -> Float[Array, " pool"]:
  """Returns the squared distance to the mean of the candidates."""
  count = jnp.sum(candidates, dtype=points.dtype)
  total = jnp.sum(jnp.where(candidates[:, None], points, 0.0), axis=0)
  mean = (total / count)[None]
  return square_distances(points, norms, mean, jnp.sum(mean**2, axis=-1))[:, 0]
