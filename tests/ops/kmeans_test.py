"""Tests of decern_jax/ops/kmeans.py."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from decern_jax.ops import kmeans
from tests.table import each


def make_points(*, rows=60, dim=3, seed=0) -> tuple[np.ndarray, np.ndarray]:
  rng = np.random.default_rng(seed)
  points = rng.normal(size=(rows, dim)).astype(np.float32)
  return points, rng.uniform(0.1, 2.0, size=rows).astype(np.float32)


def cluster(points, weights, num_clusters, **options) -> kmeans.Clusters:
  options = {
    "max_steps": 300,
    "tolerance": 1e-4,
    "block_size": 16,
    "num_points": len(points),
    **options,
  }
  function = functools.partial(
    kmeans.weighted_kmeans, num_clusters=num_clusters, **options
  )
  points, weights = (jnp.asarray(a, jnp.float32) for a in (points, weights))
  return jax.jit(function)(jax.random.key(0), points, weights)


@pytest.fixture
def start_at(monkeypatch):
  """Replaces the random start by given centers."""

  def patch(centers):
    centers = jnp.asarray(centers, jnp.float32)
    monkeypatch.setattr(
      kmeans, "greedy_centers", lambda *args, **kwargs: centers
    )

  return patch


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


def naive_kmeans(points, weights, centers, *, max_steps=300, tolerance=1e-4):
  points, weights = np.float64(points), np.float64(weights)
  bound = tolerance * points.var(axis=0).mean()
  previous, num_steps = None, 0
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


def assert_matches(clusters: kmeans.Clusters, expected) -> None:
  centers, assignments, inertia, num_steps = expected
  np.testing.assert_array_equal(clusters.assignments, assignments)
  np.testing.assert_allclose(clusters.centers, centers, atol=1e-5)
  np.testing.assert_allclose(clusters.inertia, inertia, rtol=1e-5)
  assert int(clusters.num_steps) == num_steps


class TestWeightedKmeans:
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
  def test_matches_naive_loop(self, start_at, options):
    points, weights = make_points()
    start_at(points[:7])
    expected = naive_kmeans(points, weights, points[:7], **options)
    assert_matches(cluster(points, weights, 7, **options), expected)

  def test_stopping_rules_of_these_tests_differ(self):
    points, weights = make_points()
    steps = [
      naive_kmeans(points, weights, points[:7], tolerance=tolerance)[-1]
      for tolerance in (0.0, 0.05)
    ]
    assert steps[0] > steps[1] > 3

  @each("num_empty", [1, 4])
  def test_empty_clusters_move_to_the_farthest_points(
    self, start_at, num_empty
  ):
    points, weights = make_points()
    far = 100.0 + np.arange(3.0 * num_empty).reshape(num_empty, 3)
    start = np.concatenate([points[:4], far])
    start_at(start)
    for max_steps in (1, 300):
      expected = naive_kmeans(points, weights, start, max_steps=max_steps)
      found = cluster(points, weights, len(start), max_steps=max_steps)
      assert_matches(found, expected)
      assert len(np.unique(found.assignments)) == len(start)

  def test_a_cluster_never_gives_its_last_point_away(self, start_at):
    # The farthest point is alone in its cluster.
    points = np.float32([[0.0], [1.0], [50.0], [2.0]])
    start = np.float32([[1.0], [30.0], [-500.0]])
    start_at(start)
    found = cluster(points, np.ones(4), 3)
    assert len(np.unique(found.assignments)) == 3
    assert np.isfinite(found.centers).all()
    np.testing.assert_allclose(found.inertia, 0.5)

  @each("block_size", [1, 1000])
  def test_is_independent_of_block_size(self, start_at, block_size):
    points, weights = make_points()
    start_at(points[:7])
    expected = naive_kmeans(points, weights, points[:7])
    found = cluster(points, weights, 7, block_size=block_size)
    assert_matches(found, expected)

  def test_points_past_the_last_that_counts_move_nothing(self, start_at):
    points, weights = make_points()
    points[40:] += 5.0
    start_at(points[:5])
    found = cluster(points, weights, 5, num_points=40)
    expected = naive_kmeans(points[:40], weights[:40], points[:5])
    assert_matches(found._replace(assignments=found.assignments[:40]), expected)
    nearest = squared_distances(points, np.asarray(found.centers)).argmin(1)
    np.testing.assert_array_equal(found.assignments, nearest)

  @each("num_clusters", [4, 12])
  def test_ends_with_fewer_distinct_points_than_clusters(self, num_clusters):
    points, weights = make_points(rows=3)
    points, weights = np.repeat(points, 4, axis=0), np.repeat(weights, 4)
    found = cluster(points, weights, num_clusters)
    assert np.isfinite(found.centers).all()
    np.testing.assert_allclose(found.inertia, 0.0, atol=1e-6)
    assert len(np.unique(found.assignments)) == 3
    assert int(found.num_steps) < 10

  def test_ends_when_all_points_are_equal(self):
    found = cluster(np.full((20, 3), 0.1), np.ones(20), 4)
    np.testing.assert_allclose(found.centers, 0.1, rtol=1e-6)
    assert len(np.unique(found.assignments)) == 1
    assert int(found.num_steps) < 10

  def test_as_many_clusters_as_points_leave_no_inertia(self):
    points, weights = make_points(rows=12)
    found = cluster(points, weights, 12)
    np.testing.assert_allclose(found.inertia, 0.0, atol=1e-6)
    np.testing.assert_array_equal(np.sort(found.assignments), np.arange(12))

  def test_one_cluster_is_the_weighted_mean(self):
    points, weights = make_points()
    found = cluster(points, weights, 1)
    mean = np.average(points, axis=0, weights=weights)
    np.testing.assert_allclose(found.centers, mean[None], atol=1e-6)
