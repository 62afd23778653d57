"""Greedy k-center: each next point is the farthest from all before it."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from decern_jax.ops.nearest import covered_distances, square_distances


def greedy_k_center(
  points: Float[Array, "pool dim"],
  covered: Bool[Array, " pool"],
  candidates: Bool[Array, " pool"],
  *,
  budget: int,
) -> Int[Array, " budget"]:
  """Takes the candidate that lies farthest, `budget` times.

  The distance of a candidate is the one to the nearest point that is covered
  or was taken before. Where nothing is covered, the first one taken is the
  candidate nearest to the mean of the candidates. Only a [pool] vector of
  distances is kept; the pool may be split over devices under `jax.jit`.

  Args:
    points: The points. Rows that are neither covered nor candidates may hold
      anything finite.
    covered: True at the points that are there already.
    candidates: True at the points that may be taken, at least `budget`.
    budget: Points to take, at least 1.

  Returns:
    Distinct positions of candidates in the order in which they were taken,
    int32; among equally distant ones the lowest position comes first. Points
    closer than a thousandth of their length count as equal.

  References:
    Gonzalez, "Clustering to minimize the maximum intercluster distance",
    Theoretical Computer Science 1985.
  """
  norms = jnp.sum(points**2, axis=-1)
  distances = covered_distances(points, norms, covered)

  def farthest(distances):
    return jnp.argmax(jnp.where(candidates, distances, -jnp.inf))

  def take(index, state):
    distances, taken, position = state
    taken = taken.at[index].set(position)
    row = position[None]
    square = square_distances(points, norms, points[row], norms[row])[:, 0]
    distances = jnp.minimum(distances, square)
    is_taken = jnp.arange(len(points)) == position
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
