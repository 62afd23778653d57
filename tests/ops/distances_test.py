"""Tests of decern_jax/ops/distances.py."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.spatial import distance

from decern_jax.distributed.sharding import make_mesh, place_pool
from decern_jax.ops import distances
from tests import oracle
from tests.table import each

# No multiple of a number of shards.
ROWS, DIM, BUDGET = 203, 5, 12
NOTHING = np.zeros(ROWS, bool)

# Under `jax.jit`, as all callers run them.
jitted_distinct = jax.jit(distances.nearest_distinct, static_argnames="budget")
jitted_k_center = jax.jit(distances.greedy_k_center, static_argnames="budget")
jitted_covered = jax.jit(distances.covered_distances)
jitted_squares = jax.jit(distances.square_distances)


@functools.cache
def make_points(rows: int = ROWS, *, seed: int = 0) -> np.ndarray:
  rng = np.random.default_rng(seed)
  points = rng.normal(size=(rows, DIM)).astype(np.float32)
  points.flags.writeable = False
  return points


def pad(points, dim: int = DIM) -> np.ndarray:
  """Points of the canonical shape; the rows that are added are zero."""
  points = oracle.float32(points)
  missing = (0, ROWS - len(points)), (0, dim - points.shape[1])
  return np.pad(points, missing)


def mask(*indices: int) -> np.ndarray:
  return np.isin(np.arange(ROWS), indices)


def norms_of(points) -> np.ndarray:
  return np.sum(oracle.float32(points) ** 2, axis=-1)


class TestNormalize:
  def test_scales_to_length_one(self):
    rows = np.asarray(distances.normalize(jnp.asarray(make_points())))
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1.0, rtol=1e-6)
    expected = make_points() / np.linalg.norm(make_points(), axis=1)[:, None]
    np.testing.assert_allclose(rows, expected, rtol=1e-5)

  def test_keeps_a_zero_feature(self):
    zeros = jnp.zeros((ROWS, DIM))
    np.testing.assert_array_equal(distances.normalize(zeros), 0.0)


class TestCosineSimilarity:
  def test_matches_scipy_and_is_zero_with_a_zero_feature(self):
    points, others = make_points().copy(), make_points(7, seed=1)
    points[0] = 0.0
    found = distances.cosine_similarity(
      jnp.asarray(points), jnp.asarray(others)
    )
    expected = 1.0 - distance.cdist(points[1:], others, "cosine")
    np.testing.assert_allclose(found[1:], expected, atol=1e-6)
    np.testing.assert_array_equal(found[0], 0.0)


class TestSquareDistances:
  def test_matches_scipy(self):
    points, centers = make_points(), make_points(7, seed=1)
    found = jitted_squares(points, norms_of(points), centers, norms_of(centers))
    expected = distance.cdist(points, centers, "sqeuclidean")
    np.testing.assert_allclose(found, expected, rtol=1e-4)

  def test_is_zero_between_equal_points(self):
    points = 100.0 + make_points()
    norms = norms_of(points)
    found = jitted_squares(points, norms, points[:7], norms[:7])
    np.testing.assert_array_equal(np.diagonal(found), 0.0)


class TestSquaresByProducts:
  @each(
    "product, norm, center_norm, expected",
    [
      (3.0, 4.0, 9.0, 7.0),
      (-2.0, 4.0, 1.0, 9.0),
      # No more than the rounding of the terms.
      (1.0 - 1e-7, 1.0, 1.0, 0.0),
      (1.0, 1.0, 1.0, 0.0),
      (1.0 + 1e-5, 1.0, 1.0, 0.0),
      (np.inf, np.inf, np.inf, 0.0),
    ],
  )
  def test_expands_the_square_of_a_difference(
    self, product, norm, center_norm, expected
  ):
    found = distances.squares_by_products(
      *(jnp.full((1, 1), value) for value in (product, norm, center_norm))
    )
    assert found == expected

  def test_keeps_what_is_more_than_rounding(self):
    one = jnp.ones((1, 1))
    assert distances.squares_by_products((1.0 - 1e-5) * one, one, one) > 0.0


class TestCoveredDistances:
  @each("num_covered", [1, 127, 128, 129, 203])
  def test_is_the_distance_to_the_nearest(self, num_covered):
    points = make_points()
    covered = np.arange(ROWS) >= ROWS - num_covered
    found = jitted_covered(points, norms_of(points), covered)
    squares = distance.cdist(points, points[covered], "sqeuclidean")
    np.testing.assert_allclose(found, squares.min(axis=1), rtol=1e-4)

  def test_is_infinite_without_a_covered_point(self):
    points = make_points()
    assert np.isinf(jitted_covered(points, norms_of(points), NOTHING)).all()


def place(num_devices: int, *arrays) -> list[jax.Array]:
  mesh = make_mesh(num_devices)
  return [place_pool(np.asarray(array), mesh) for array in arrays]


def take_nearest(points, centers, candidates, budget=9, *, num_devices=1):
  points, candidates = place(num_devices, points, candidates)
  found = jitted_distinct(points, centers, candidates, budget=budget)
  return np.asarray(found)


def naive_nearest(points, centers, candidates, budget) -> list[int]:
  squares = distance.cdist(points, centers, "sqeuclidean")
  taken = []
  for turn in range(budget):
    free = [i for i in np.flatnonzero(candidates) if i not in taken]
    taken.append(free[int(np.argmin(squares[free, turn % len(centers)]))])
  return taken


class TestNearestDistinct:
  @each(
    "num_devices, num_centers, budget",
    [(1, 9, 9), (1, 4, 11), (1, 9, 3), (8, 9, 9)],
  )
  def test_matches_naive_loop(self, num_devices, num_centers, budget):
    points, centers = make_points(), make_points(num_centers, seed=1)
    candidates = np.arange(ROWS) % 3 > 0
    found = take_nearest(
      points, centers, candidates, budget, num_devices=num_devices
    )
    assert found.dtype == np.int32
    expected = naive_nearest(points, centers, candidates, budget)
    np.testing.assert_array_equal(found, expected)

  def test_equal_centers_take_different_points(self):
    points = pad([[0.0], [5.0], [1.0], [2.0], [8.0], [6], [7], [9], [4], [3]])
    found = take_nearest(
      points, np.zeros((9, DIM), np.float32), mask(*range(10))
    )
    np.testing.assert_array_equal(found, [0, 2, 3, 9, 8, 1, 5, 6, 4])

  def test_equal_points_go_by_index(self):
    points = np.full((ROWS, DIM), 0.7, np.float32)
    candidates = np.arange(ROWS) % 4 == 1
    found = take_nearest(points, points[:9], candidates)
    np.testing.assert_array_equal(found, np.flatnonzero(candidates)[:9])

  @each("num_devices", [1, 8])
  def test_rows_that_are_no_candidates_change_nothing(self, num_devices):
    points, centers = make_points().copy(), make_points(9, seed=1)
    candidates = np.arange(ROWS) % 5 == 1
    expected = naive_nearest(points, centers, candidates, 9)
    points[~candidates] = 1e30
    found = take_nearest(points, centers, candidates, num_devices=num_devices)
    np.testing.assert_array_equal(found, expected)


def greedy(points, covered, candidates, budget=BUDGET, *, num_devices=1):
  placed = place(num_devices, oracle.float32(points), covered, candidates)
  return np.asarray(jitted_k_center(*placed, budget=budget))


def naive_greedy(points, covered, candidates, budget) -> list[int]:
  points = oracle.float64(points)
  taken = []
  while len(taken) < budget:
    free = [i for i in np.flatnonzero(candidates) if i not in taken]
    centers = [*np.flatnonzero(covered), *taken]
    if centers:
      far = distance.cdist(points[free], points[centers]).min(axis=1)
    else:
      mean = points[candidates].mean(axis=0)
      far = -np.linalg.norm(points[free] - mean, axis=1)
    taken.append(free[int(np.argmax(far))])
  return taken


class TestGreedyKCenter:
  @each("num_devices", [1, 8])
  @each("num_covered", [0, 1, 150])
  def test_matches_naive_loop_whatever_the_other_rows_hold(
    self, num_devices, num_covered
  ):
    points = make_points().copy()
    covered = np.arange(ROWS) < num_covered
    candidates = (np.arange(ROWS) % 3 > 0) & ~covered
    expected = naive_greedy(points, covered, candidates, BUDGET)
    for garbage in (0.0, 1e15):
      points[~covered & ~candidates] = garbage
      found = greedy(points, covered, candidates, num_devices=num_devices)
      assert found.dtype == np.int32
      np.testing.assert_array_equal(found, expected)

  def test_covered_points_past_the_first_block_count(self):
    # More covered points than a block holds. The last of them is where
    # another point would otherwise be the farthest.
    points = np.zeros((ROWS, DIM))
    points[:160, 0] = np.linspace(0.0, 1.0, 160)
    points[159, :2] = points[199, :2] = [0.0, 50.0]
    points[180, :2] = [0.0, 20.0]
    covered = np.arange(ROWS) < 160
    assert greedy(points, covered, ~covered)[0] == 180

  def test_takes_the_ends_of_a_line_then_the_middle(self):
    line = np.arange(9.0)[:, None] * np.ones(DIM)
    candidates = mask(*range(1, 20))
    found = greedy(pad(line), mask(0), candidates)
    np.testing.assert_array_equal(found[:3], [8, 4, 2])

  def test_with_nothing_covered_begins_nearest_to_the_mean(self):
    points = pad([[0.0], [9.0], [4.0], [1000.0]])
    found = greedy(points, NOTHING, mask(0, 1, 2, *range(20, 40)))
    assert found[0] == 0
    points[20:40] = points[2]
    found = greedy(points, NOTHING, mask(0, 1, 2, *range(20, 40)))
    np.testing.assert_array_equal(found[:3], [2, 1, 0])

  @each("offset", [0.0, 3.7])
  def test_equal_points_come_last_in_the_order_of_indices(self, offset):
    points = pad(np.repeat(make_points(5), 3, axis=0) + oracle.float32(offset))
    found = greedy(points, mask(0), mask(*range(1, 15)))
    assert set(found[:4] // 3) == {1, 2, 3, 4}
    np.testing.assert_array_equal(found[:4] % 3, 0)
    np.testing.assert_array_equal(found[4:], [1, 2, 4, 5, 7, 8, 10, 11])

  def test_budget_of_all_candidates_takes_each_once(self):
    candidates = np.arange(ROWS) % 17 == 2
    assert candidates.sum() == BUDGET
    found = greedy(make_points(), ~candidates, candidates)
    np.testing.assert_array_equal(np.sort(found), np.flatnonzero(candidates))

  def test_another_number_of_covered_points_compiles_nothing(self):
    greedy(make_points(), mask(0), ~mask(0))
    function: Any = jitted_k_center
    size = function._cache_size()
    greedy(make_points(), mask(*range(60)), ~mask(*range(60)))
    assert function._cache_size() == size
