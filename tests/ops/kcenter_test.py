"""Tests of decern_jax/ops/kcenter.py."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from decern_jax.distributed.sharding import make_mesh, place_pool
from decern_jax.ops import kcenter
from tests.table import each

# Under `jax.jit`, as every caller has it.
jitted = functools.partial(jax.jit, static_argnames="budget")(
  kcenter.greedy_k_center
)


def make_points(rows: int = 203, dim: int = 5) -> np.ndarray:
  return np.random.default_rng(0).normal(size=(rows, dim)).astype(np.float32)


def greedy(points, covered, candidates, budget, *, num_devices=1) -> np.ndarray:
  mesh = make_mesh(num_devices)
  arrays = (np.float32(points), np.asarray(covered), np.asarray(candidates))
  placed = (place_pool(array, mesh) for array in arrays)
  return np.asarray(jitted(*placed, budget=budget))


def naive(points, covered, candidates, budget) -> list[int]:
  points = np.float64(points)
  taken = []
  while len(taken) < budget:
    free = [i for i in np.flatnonzero(candidates) if i not in taken]
    centers = [*np.flatnonzero(covered), *taken]
    if centers:
      far = [
        np.linalg.norm(points[centers] - points[i], axis=1).min() for i in free
      ]
    else:
      mean = points[candidates].mean(axis=0)
      far = [-np.linalg.norm(points[i] - mean) for i in free]
    taken.append(free[int(np.argmax(far))])
  return taken


class TestGreedyKCenter:
  @each("num_devices", [1, 2, 4, 8])
  @each("num_covered", [0, 1, 150])
  def test_matches_naive_loop(self, num_devices, num_covered):
    points = make_points()
    covered = np.arange(203) < num_covered
    candidates = (np.arange(203) % 3 > 0) & ~covered
    expected = naive(points, covered, candidates, 12)
    found = greedy(points, covered, candidates, 12, num_devices=num_devices)
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, expected)

  def test_covered_points_past_the_first_block_count(self):
    # More covered points than a block holds; the last is where a point would
    # else be the farthest.
    points = np.zeros((300, 2))
    points[:260, 0] = np.linspace(0.0, 1.0, 260)
    points[259] = points[299] = [0.0, 50.0]
    points[280] = [0.0, 20.0]
    covered = np.arange(300) < 260
    assert greedy(points, covered, ~covered, 1) == [280]

  def test_takes_the_ends_of_a_line_then_the_middle(self):
    line = np.arange(9.0)[:, None]
    covered = np.arange(9) == 0
    found = greedy(line, covered, ~covered, 3)
    np.testing.assert_array_equal(found, [8, 4, 2])

  def test_with_nothing_covered_begins_nearest_to_the_mean(self):
    points = np.float32([[0.0], [9.0], [4.0], [1000.0]])
    candidates = np.array([True, True, True, False])
    found = greedy(points, np.zeros(4, bool), candidates, 3)
    np.testing.assert_array_equal(found, [2, 1, 0])

  @each("offset", [0.0, 3.7])
  def test_equal_points_come_last_in_the_order_of_positions(self, offset):
    points = np.repeat(make_points(4, 6), 3, axis=0) + offset
    covered = np.arange(12) == 0
    found = greedy(points, covered, ~covered, 11)
    assert set(found[:3] // 3) == {1, 2, 3}
    np.testing.assert_array_equal(found[:3] % 3, 0)
    np.testing.assert_array_equal(found[3:], [1, 2, 4, 5, 7, 8, 10, 11])

  @each("num_devices", [1, 8])
  def test_rows_that_do_not_count_change_nothing(self, num_devices):
    points = make_points()
    covered = np.arange(203) % 5 == 0
    candidates = np.arange(203) % 5 == 1
    expected = greedy(points, covered, candidates, 20)
    points[~covered & ~candidates] = 1e30
    found = greedy(points, covered, candidates, 20, num_devices=num_devices)
    np.testing.assert_array_equal(found, expected)

  def test_budget_of_all_candidates_takes_each_once(self):
    candidates = np.arange(203) % 4 == 2
    budget = int(candidates.sum())
    found = greedy(make_points(), ~candidates, candidates, budget)
    np.testing.assert_array_equal(np.sort(found), np.flatnonzero(candidates))

  def test_another_number_of_covered_points_compiles_nothing(self):
    points, candidates = jnp.asarray(make_points()), jnp.arange(203) % 2 == 0
    size = jitted._cache_size()
    for num_covered in (3, 60):
      jitted(points, jnp.arange(203) < num_covered, candidates, budget=9)
    assert jitted._cache_size() == size + 1
