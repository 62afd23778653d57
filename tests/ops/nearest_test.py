"""Tests of decern_jax/ops/nearest.py."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from decern_jax.distributed.sharding import make_mesh, place_pool
from decern_jax.ops import nearest
from tests.table import each

jitted_distinct = functools.partial(jax.jit, static_argnames="budget")(
  nearest.nearest_distinct
)


def make_points(rows: int = 203, dim: int = 5, *, seed: int = 0) -> np.ndarray:
  rng = np.random.default_rng(seed)
  return rng.normal(size=(rows, dim)).astype(np.float32)


def naive_squares(points, centers) -> np.ndarray:
  points, centers = np.float64(points), np.float64(centers)
  return ((points[:, None] - centers[None]) ** 2).sum(axis=-1)


def naive_distinct(points, centers, candidates, budget) -> list[int]:
  squares = naive_squares(points, centers)
  taken = []
  for turn in range(budget):
    free = [i for i in np.flatnonzero(candidates) if i not in taken]
    taken.append(free[int(np.argmin(squares[free, turn % len(centers)]))])
  return taken


def norms_of(points) -> jax.Array:
  return jnp.sum(jnp.asarray(points) ** 2, axis=-1)


def square_distances(points, centers) -> np.ndarray:
  points, centers = jnp.asarray(points), jnp.asarray(centers)
  return np.asarray(
    nearest.square_distances(
      points, norms_of(points), centers, norms_of(centers)
    )
  )


class TestSquareDistances:
  def test_matches_differences(self):
    points, centers = make_points(), make_points(7, seed=1)
    found = square_distances(points, centers)
    expected = naive_squares(points, centers)
    np.testing.assert_allclose(found, expected, rtol=1e-4)

  def test_equal_points_have_none(self):
    points = 100.0 + make_points(50, 37)
    found = square_distances(points, points)
    np.testing.assert_array_equal(np.diagonal(found), 0.0)


class TestSquaresByProducts:
  def test_expands_the_square_of_a_difference(self):
    found = nearest.squares_by_products(
      jnp.float32([[3.0, -2.0]]), jnp.float32([[4.0]]), jnp.float32([[9.0, 1]])
    )
    np.testing.assert_array_equal(found, [[7.0, 9.0]])

  def test_rounding_counts_as_nothing(self):
    one = jnp.ones((1, 1))
    for product in (1.0 - 1e-7, 1.0, 1.0 + 1e-5):
      found = nearest.squares_by_products(product * one, one, one)
      assert found == 0.0
    assert nearest.squares_by_products((1.0 - 1e-5) * one, one, one) > 0.0

  def test_overflow_counts_as_nothing(self):
    infinite = jnp.full((1, 1), jnp.inf)
    assert nearest.squares_by_products(infinite, infinite, infinite) == 0.0


class TestCoveredDistances:
  @each("num_covered", [1, 130])
  def test_is_the_distance_to_the_nearest(self, num_covered):
    points = make_points()
    covered = np.arange(203) >= 203 - num_covered
    found = nearest.covered_distances(
      jnp.asarray(points), norms_of(points), jnp.asarray(covered)
    )
    expected = naive_squares(points, points[covered]).min(axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-4)

  def test_nothing_is_infinitely_far(self):
    points = jnp.asarray(make_points())
    found = nearest.covered_distances(
      points, norms_of(points), jnp.zeros(203, bool)
    )
    assert np.isinf(found).all()


class TestNearestDistinct:
  def take(self, points, centers, candidates, budget, *, num_devices=1):
    mesh = make_mesh(num_devices)
    points, candidates = (
      place_pool(np.asarray(array), mesh) for array in (points, candidates)
    )
    centers = jnp.asarray(centers, jnp.float32)
    return np.asarray(
      jitted_distinct(points, centers, candidates, budget=budget)
    )

  @each("num_devices", [1, 2, 4, 8])
  @each("num_centers, budget", [(9, 9), (4, 11), (9, 3)])
  def test_matches_naive_loop(self, num_devices, num_centers, budget):
    points, centers = make_points(), make_points(num_centers, seed=1)
    candidates = np.arange(203) % 3 > 0
    found = self.take(
      points, centers, candidates, budget, num_devices=num_devices
    )
    assert found.dtype == np.int32
    expected = naive_distinct(points, centers, candidates, budget)
    np.testing.assert_array_equal(found, expected)

  def test_equal_centers_take_different_points(self):
    points = np.float32([[0.0], [5.0], [1.0], [2.0]])
    found = self.take(points, np.zeros((3, 1)), np.ones(4, bool), 3)
    np.testing.assert_array_equal(found, [0, 2, 3])

  def test_equal_points_go_by_position(self):
    points = np.full((6, 3), 0.7, np.float32)
    candidates = np.array([False, True, True, False, True, True])
    found = self.take(points, points[:2], candidates, 4)
    np.testing.assert_array_equal(found, [1, 2, 4, 5])

  @each("num_devices", [1, 8])
  def test_rows_that_are_no_candidates_change_nothing(self, num_devices):
    points, centers = make_points(), make_points(6, seed=1)
    candidates = np.arange(203) % 5 == 1
    expected = self.take(points, centers, candidates, 6)
    points[~candidates] = 1e30
    found = self.take(points, centers, candidates, 6, num_devices=num_devices)
    np.testing.assert_array_equal(found, expected)
