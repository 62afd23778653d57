"""Tests of decern_jax/ops/kmeans.py."""

from typing import Any

import jax
import numpy as np
import pytest
from sklearn import cluster

from decern_jax.distributed.sharding import make_mesh, place_pool
from decern_jax.ops import kmeans
from decern_jax.ops.kmeans import Clusters, weighted_kmeans
from tests import oracle
from tests.table import each

ROWS = 60


def make_points(*, rows=ROWS, dim=3, seed=0) -> tuple[np.ndarray, np.ndarray]:
  rng = np.random.default_rng(seed)
  points = rng.normal(size=(rows, dim)).astype(np.float32)
  return points, rng.uniform(0.1, 2.0, size=rows).astype(np.float32)


@jax.jit
def jitted_from_centers(
  points, weights, centers, num_points, max_steps, tolerance
):
  """Lloyd's algorithm from given centers instead of random ones."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(kmeans, "greedy_centers", lambda *args, **kwargs: centers)
    return kmeans.cluster_first_rows(
      jax.random.key(0),
      points,
      weights,
      num_points=num_points,
      num_clusters=len(centers),
      max_steps=max_steps,
      tolerance=tolerance,
      # The last block is moved back.
      block_size=16,
    )


def cluster_from(
  centers, points, weights, *, num_points=ROWS, max_steps=300, tolerance=1e-4
) -> Clusters:
  return jitted_from_centers(
    points, weights, oracle.float32(centers), num_points, max_steps, tolerance
  )


def squared_distances(points, centers) -> np.ndarray:
  return ((points[:, None] - centers[None]) ** 2).sum(axis=-1)


def naive_step(points, weights, centers):
  """One step of Lloyd's algorithm; empty clusters get the farthest points."""
  square = squared_distances(points, centers)
  assignments = square.argmin(axis=1)
  member = assignments.copy()
  for donor in np.argsort(-square.min(axis=1))[: len(centers)]:
    empty = np.setdiff1d(np.arange(len(centers)), member)
    if len(empty) and (member == member[donor]).sum() > 1:
      member[donor] = empty[0]
  return assignments, np.stack(
    [
      np.average(points[member == k], axis=0, weights=weights[member == k])
      if (member == k).any()
      else center
      for k, center in enumerate(centers)
    ]
  )


def naive_kmeans(centers, points, weights, *, max_steps=300, tolerance=1e-4):
  points, weights = oracle.float64(points), oracle.float64(weights)
  bound = tolerance * points.var(axis=0).mean()
  previous, num_steps = np.array([]), 0
  while num_steps < max_steps:
    num_steps += 1
    assignments, moved = naive_step(points, weights, centers)
    shift = ((moved - centers) ** 2).sum()
    centers = moved
    if np.array_equal(assignments, previous) or shift <= bound:
      break
    previous = assignments
  square = squared_distances(points, centers)
  inertia = (weights * square.min(axis=1)).sum()
  return centers, square.argmin(axis=1), inertia, num_steps


def assert_matches(clusters: Clusters, expected) -> None:
  centers, assignments, inertia, num_steps = expected
  np.testing.assert_array_equal(
    clusters.assignments[: len(assignments)], assignments
  )
  np.testing.assert_allclose(clusters.centers, centers, atol=1e-5)
  np.testing.assert_allclose(clusters.inertia, inertia, rtol=1e-5)
  assert int(clusters.num_steps) == num_steps


class TestClusterFirstRows:
  @each(
    "options",
    [
      {"tolerance": 0.0},
      {"tolerance": 1e-4},
      {"tolerance": 0.05},
      {"max_steps": 1},
      {"max_steps": 3},
    ],
  )
  def test_matches_naive_loop(self, options):
    points, weights = make_points()
    expected = naive_kmeans(points[:7], points, weights, **options)
    found = cluster_from(points[:7], points, weights, **options)
    assert_matches(found, expected)

  def test_stopping_rules_of_these_tests_differ(self):
    points, weights = make_points()
    steps = [
      naive_kmeans(points[:7], points, weights, tolerance=tolerance)[-1]
      for tolerance in (0.0, 0.05)
    ]
    assert steps[0] > steps[1] > 3

  @each("num_empty", [1, 4])
  @each("max_steps", [1, 300])
  def test_empty_clusters_move_to_the_farthest_points(
    self, num_empty, max_steps
  ):
    points, weights = make_points()
    far = 100.0 + np.arange(3.0 * num_empty).reshape(num_empty, 3)
    start = np.concatenate([points[: 7 - num_empty], far])
    expected = naive_kmeans(start, points, weights, max_steps=max_steps)
    found = cluster_from(start, points, weights, max_steps=max_steps)
    assert_matches(found, expected)
    assert len(np.unique(found.assignments)) == 7

  def test_a_cluster_never_gives_its_last_point_away(self):
    # The farthest point is alone in its cluster. The other four clusters are
    # where a point lies.
    points, weights = np.zeros((ROWS, 3), np.float32), np.ones(ROWS, np.float32)
    others = [[900.0], [910.0], [920.0], [930.0]]
    points[:8, :1] = [[0.0], [1.0], [50.0], [2.0], *others]
    start = np.zeros((7, 3))
    start[:, :1] = [[1.0], [30.0], [-500.0], *others]
    found = cluster_from(start, points, weights, num_points=8)
    assert len(np.unique(found.assignments[:8])) == 7
    assert np.isfinite(found.centers).all()
    np.testing.assert_allclose(found.inertia, 0.5)

  def test_points_past_the_last_that_counts_move_nothing(self):
    points, weights = make_points()
    points[40:] += 5.0
    found = cluster_from(points[:7], points, weights, num_points=40)
    expected = naive_kmeans(points[:7], points[:40], weights[:40])
    assert_matches(found, expected)
    nearest = squared_distances(points, np.asarray(found.centers)).argmin(1)
    np.testing.assert_array_equal(found.assignments, nearest)


# The shape of the tests of the public function; no multiple of the devices.
POOL, CLUSTERS = 203, 9


def make_blobs(*, rows=POOL, dim=8, num_blobs=12, seed=0):
  rng = np.random.default_rng(seed)
  centers = 3.0 * rng.normal(size=(num_blobs, dim))
  points = centers[rng.integers(num_blobs, size=rows)]
  points = points + rng.normal(size=points.shape)
  weights = rng.uniform(0.1, 2.0, size=rows)
  return points.astype(np.float32), weights.astype(np.float32)


POINTS, WEIGHTS = make_blobs()


def run(
  points: Any = POINTS, weights: Any = WEIGHTS, *, seed=0, **options: Any
) -> Clusters:
  options = {"num_clusters": CLUSTERS, **options}
  return weighted_kmeans(jax.random.key(seed), points, weights, **options)


def assert_near(found: Clusters, expected: Clusters) -> None:
  np.testing.assert_allclose(found.centers, expected.centers, atol=1e-5)
  np.testing.assert_allclose(found.inertia, expected.inertia, rtol=1e-5)
  assert found.num_steps == expected.num_steps


class TestWeightedKmeans:
  def test_is_as_tight_as_scikit_learn(self):
    points, weights = make_blobs(rows=1000, num_blobs=30)
    ours = [
      run(points, weights, seed=seed, num_clusters=40).inertia
      for seed in range(5)
    ]
    sklearn: Any = cluster
    theirs = [
      sklearn.k_means(
        points, 40, sample_weight=weights, n_init=1, random_state=seed
      )[2]
      for seed in range(5)
    ]
    assert np.mean(ours) <= 1.01 * np.mean(theirs)

  def test_centers_are_the_weighted_means_and_inertia_the_sum_of_squares(self):
    found = run(tolerance=0.0)
    assignments = np.asarray(found.assignments)
    for k, center in enumerate(np.asarray(found.centers)):
      own = assignments == k
      mean = np.average(POINTS[own], axis=0, weights=WEIGHTS[own])
      np.testing.assert_allclose(center, mean, atol=1e-5)
    squares = squared_distances(POINTS, np.asarray(found.centers))
    np.testing.assert_array_equal(assignments, squares.argmin(axis=1))
    expected = (WEIGHTS * squares.min(axis=1)).sum()
    np.testing.assert_allclose(found.inertia, expected, rtol=1e-5)

  @each("num_clusters", [1, 4, 9])
  def test_leaves_clusters_above_the_number_out(self, num_clusters):
    found = run(num_clusters=num_clusters, max_clusters=9, tolerance=0.0)
    centers, assignments = np.asarray(found.centers), found.assignments
    assert len(centers) == 9
    assert not centers[num_clusters:].any()
    squares = squared_distances(POINTS, centers[:num_clusters])
    np.testing.assert_array_equal(assignments, squares.argmin(axis=1))
    assert len(np.unique(assignments)) == num_clusters
    for k, center in enumerate(centers[:num_clusters]):
      own = np.asarray(assignments) == k
      mean = np.average(POINTS[own], axis=0, weights=WEIGHTS[own])
      np.testing.assert_allclose(center, mean, atol=1e-5)

  @each("shift", [0.0, 1000.0])
  def test_a_common_shift_only_moves_the_centers(self, shift):
    # Quarters, which float32 holds exactly after the shift as well.
    points = np.round(4.0 * POINTS) / 4.0
    found = run(points + oracle.float32(shift))
    centers = np.asarray(found.centers)
    squares = squared_distances(points + oracle.float32(shift), centers)
    inertia = (WEIGHTS * squares.min(axis=1)).sum()
    # The shift costs digits of the distances, which move the start.
    np.testing.assert_allclose(inertia, run(points).inertia, rtol=0.2)

  def test_points_of_weight_zero_count_for_nothing(self):
    weights = np.where(np.arange(POOL) % 4 == 1, 0.0, WEIGHTS)
    weights = oracle.float32(weights)
    points = np.where(weights[:, None] > 0, POINTS, 100.0 + POINTS)
    found, expected = run(points, weights), run(POINTS, weights)
    assert_near(found, expected)
    squares = squared_distances(points, np.asarray(found.centers))
    np.testing.assert_array_equal(found.assignments, squares.argmin(axis=1))

  def test_only_weights_of_zero_give_finite_centers(self):
    found = run(weights=np.zeros(POOL, np.float32))
    assert np.isfinite(found.centers).all()
    assert found.inertia == 0.0

  @each("scale", [1e-20, 1e20])
  def test_ignores_the_scale_of_weights(self, scale):
    found = run(weights=oracle.float32(scale) * WEIGHTS)
    np.testing.assert_allclose(found.centers, run().centers, atol=1e-5)

  def test_is_independent_of_shard_count(self):
    mesh = make_mesh(8)
    found = run(place_pool(POINTS, mesh), place_pool(WEIGHTS, mesh))
    assert_near(found, run())
    np.testing.assert_array_equal(found.assignments[:POOL], run().assignments)

  def test_more_empty_clusters_than_rows_of_a_shard_are_filled(self):
    # Two rows a shard; one far group hides the rest from the start.
    points = oracle.float32(np.arange(16.0)[:, None] ** 4)
    mesh = make_mesh(8)
    found = run(
      place_pool(points, mesh), place_pool(np.ones(16), mesh), num_clusters=16
    )
    np.testing.assert_array_equal(np.sort(found.assignments), np.arange(16))
    np.testing.assert_allclose(found.inertia, 0.0, atol=1e-6)

  @each("num_distinct", [1, 3])
  def test_ends_with_fewer_distinct_points_than_clusters(self, num_distinct):
    kinds = np.arange(POOL) % num_distinct
    found = run(POINTS[kinds])
    assert np.isfinite(found.centers).all()
    np.testing.assert_allclose(found.inertia, 0.0, atol=1e-6)
    assert len(np.unique(found.assignments)) == num_distinct
    assert int(found.num_steps) < 10

  @pytest.mark.usefixtures("unannotated")
  def test_accepts_other_types_of_numbers(self):
    points = np.round(POINTS)
    weights = np.ones(POOL, np.uint8)
    options = {"num_clusters": np.int64(CLUSTERS), "max_steps": np.int16(300)}
    found = run(points.astype(int), weights, **options)
    np.testing.assert_array_equal(
      found.assignments, run(points, oracle.float32(weights)).assignments
    )

  @pytest.mark.usefixtures("unannotated")
  def test_rejects_what_does_not_fit(self):
    with pytest.raises(ValueError, match="`num_clusters` <= 203, got 204"):
      run(num_clusters=204)
    with pytest.raises(ValueError, match="1 <= `num_clusters` <= 203, got 0"):
      run(num_clusters=0)
    with pytest.raises(ValueError, match="`num_clusters` <= 5, got 6"):
      run(num_clusters=6, max_clusters=5)
    with pytest.raises(ValueError, match="`max_clusters` <= 203, got 204"):
      run(num_clusters=5, max_clusters=204)
    with pytest.raises(ValueError, match="1 <= `max_steps`, got 0"):
      run(max_steps=0)
    with pytest.raises(ValueError, match=r"<= `tolerance` <= inf, got -0\.5"):
      run(tolerance=-0.5)
    with pytest.raises(ValueError, match=r"`weights` .* \[203\], got \(9,\)"):
      run(weights=WEIGHTS[:9])
    with pytest.raises(ValueError, match=r"`points` .* got \(203,\)"):
      run(POINTS[:, 0])
