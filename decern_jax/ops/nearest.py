"""Distances between points, and the nearest point of each center."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from decern_jax.ops.block import compaction, fold_blocks, rows_at

# Points whose products with the pool are held at once.
BLOCK_ROWS = 128

# A squared distance this small, by the squared lengths of the two points, is
# the rounding of their product.
ROUNDING = 1e-6


def square_distances(
  points: Float[Array, "points dim"],
  norms: Float[Array, " points"],
  centers: Float[Array, "centers dim"],
  center_norms: Float[Array, " centers"],
) -> Float[Array, "points centers"]:
  """Returns the squared distance of every point to every center.

  By |x - c|^2 = |x|^2 + |c|^2 - 2 x · c, so no difference is held. Points
  closer than a thousandth of their length count as equal.

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
    The squares |x|^2 + |c|^2 - 2 x · c, at least 0; 0 where that is no more
    than the rounding of its terms.
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

  The centers take their turns in order, whether or not a point is assigned to
  them. Fewer centers than the budget start again from the first, each with its
  next nearest candidate; of more centers only the first `budget` have a turn.

  Args:
    points: The points, which may be split over devices under `jax.jit`. Rows
      that are no candidates may hold anything finite.
    centers: The centers, one or more, in the order of their turns.
    candidates: True at the points that may be taken, at least `budget`.
    budget: Points to take, at least 1.

  Returns:
    Distinct positions of candidates in the order of the turns, int32; among
    equally near ones (`square_distances`) the lowest position comes first.
  """
  norms = jnp.sum(points**2, axis=-1)
  center_norms = jnp.sum(centers**2, axis=-1)

  def take(turn, state):
    free, taken = state
    at = (turn % len(centers))[None]
    square = square_distances(points, norms, centers[at], center_norms[at])
    square = jnp.where(free, square[:, 0], jnp.inf)
    # The two points of a cluster are equally far from their mean: rounding must
    # not choose.
    least = jnp.argmin(square)
    rounding = ROUNDING * (norms[least] + center_norms[at[0]])
    position = jnp.argmax(square <= square[least] + rounding)
    free = free & (jnp.arange(len(points)) != position)
    return free, taken.at[turn].set(position.astype(jnp.int32))

  start = (candidates, jnp.zeros(budget, jnp.int32))
  return jax.lax.fori_loop(0, budget, take, start)[1]
