"""Tests of decern_jax/strategies/diversity.py."""

import jax
import numpy as np
import pytest
from sklearn import cluster

from decern_jax import Anchors, Clusters, calibrated_pick, weighted_kmeans
from decern_jax.distributed.sharding import make_mesh, place_pool
from tests import oracle
from tests.table import each

# No multiple of a number of shards.
ROWS = 203


def make_blobs(*, rows=ROWS, dim=8, num_blobs=12, seed=0):
  rng = np.random.default_rng(seed)
  centers = 3.0 * rng.normal(size=(num_blobs, dim))
  points = centers[rng.integers(num_blobs, size=rows)]
  points = points + rng.normal(size=points.shape)
  weights = rng.uniform(0.1, 2.0, size=rows)
  return points.astype(np.float32), weights.astype(np.float32)


POINTS, WEIGHTS = make_blobs()


def nearest_center(points, clusters: Clusters) -> np.ndarray:
  centers = np.asarray(clusters.centers)
  return ((points[:, None] - centers[None]) ** 2).sum(axis=-1).argmin(axis=1)


class TestWeightedKmeans:
  @each("num_blobs, num_clusters", [(30, 40), (1, 12)])
  def test_is_as_tight_as_scikit_learn(self, num_blobs, num_clusters):
    points, weights = make_blobs(rows=1000, num_blobs=num_blobs)
    ours = [
      weighted_kmeans(
        jax.random.key(seed), points, weights, num_clusters=num_clusters
      ).inertia
      for seed in range(5)
    ]
    theirs = [
      cluster.KMeans(num_clusters, n_init=1, random_state=seed)
      .fit(points, sample_weight=weights)
      .inertia_
      for seed in range(5)
    ]
    assert np.mean(ours) <= 1.01 * np.mean(theirs)

  def test_centers_are_the_weighted_means_as_they_are(self, key):
    found = weighted_kmeans(key, POINTS, WEIGHTS, num_clusters=9, tolerance=0.0)
    for k, center in enumerate(np.asarray(found.centers)):
      own = np.asarray(found.assignments) == k
      mean = np.average(POINTS[own], axis=0, weights=WEIGHTS[own])
      np.testing.assert_allclose(center, mean, atol=1e-5)

  def test_inertia_is_the_weighted_sum_of_squares(self, key):
    found = weighted_kmeans(key, POINTS, WEIGHTS, num_clusters=9)
    assigned = np.asarray(found.centers)[np.asarray(found.assignments)]
    expected = (WEIGHTS * ((POINTS - assigned) ** 2).sum(axis=1)).sum()
    np.testing.assert_allclose(found.inertia, expected, rtol=1e-5)

  @each("shift", [0.0, 1000.0])
  def test_a_common_shift_moves_the_centers_alone(self, key, shift):
    # Quarters, which float32 holds exactly beside the shift.
    points = np.round(4.0 * POINTS) / 4.0
    found = weighted_kmeans(key, points + shift, WEIGHTS, num_clusters=9)
    near = nearest_center(points + shift, found)
    square = (points + shift - np.asarray(found.centers)[near]) ** 2
    expected = weighted_kmeans(key, points, WEIGHTS, num_clusters=9).inertia
    inertia = (WEIGHTS * square.sum(axis=1)).sum()
    # The shift costs digits of the distances, which move the start.
    np.testing.assert_allclose(inertia, expected, rtol=0.2)

  def test_points_of_weight_zero_count_for_nothing(self, key):
    points = np.concatenate([POINTS, 100.0 + POINTS[:50]])
    weights = np.concatenate([WEIGHTS, np.zeros(50, np.float32)])
    order = np.random.default_rng(0).permutation(len(points))
    found = weighted_kmeans(key, points[order], weights[order], num_clusters=9)
    kept = order[order < ROWS]
    alone = weighted_kmeans(key, POINTS[kept], WEIGHTS[kept], num_clusters=9)
    np.testing.assert_allclose(found.centers, alone.centers, atol=1e-5)
    np.testing.assert_allclose(found.inertia, alone.inertia, rtol=1e-6)
    assert found.num_steps == alone.num_steps
    np.testing.assert_array_equal(
      found.assignments, nearest_center(points[order], found)
    )

  def test_weights_of_zero_alone_give_finite_centers(self, key):
    found = weighted_kmeans(key, POINTS, np.zeros(ROWS), num_clusters=4)
    assert np.isfinite(found.centers).all()
    assert found.inertia == 0.0

  @each("scale", [1e-20, 1e20])
  def test_ignores_the_scale_of_weights(self, key, scale):
    found = weighted_kmeans(key, POINTS, scale * WEIGHTS, num_clusters=9)
    expected = weighted_kmeans(key, POINTS, WEIGHTS, num_clusters=9)
    np.testing.assert_allclose(found.centers, expected.centers, atol=1e-5)

  @each("num_devices, num_clusters", [(2, 9), (4, 9), (8, 9), (8, 150)])
  def test_is_independent_of_shard_count(self, key, num_devices, num_clusters):
    mesh = make_mesh(num_devices)
    expected = weighted_kmeans(key, POINTS, WEIGHTS, num_clusters=num_clusters)
    found = weighted_kmeans(
      key,
      place_pool(POINTS, mesh),
      place_pool(WEIGHTS, mesh),
      num_clusters=num_clusters,
    )
    np.testing.assert_array_equal(
      found.assignments[:ROWS], expected.assignments
    )
    np.testing.assert_allclose(found.centers, expected.centers, atol=1e-5)
    np.testing.assert_allclose(found.inertia, expected.inertia, rtol=1e-5)
    assert found.num_steps == expected.num_steps

  def test_more_empty_clusters_than_rows_of_a_shard_are_filled(self, key):
    # Two rows a shard; one far group hides the rest from the start.
    points = np.float32(np.arange(16.0)[:, None] ** 4)
    mesh = make_mesh(8)
    found = weighted_kmeans(
      key,
      place_pool(points, mesh),
      place_pool(np.ones(16), mesh),
      num_clusters=16,
    )
    np.testing.assert_array_equal(np.sort(found.assignments), np.arange(16))

  @pytest.mark.usefixtures("unannotated")
  def test_accepts_other_types_of_numbers(self, key):
    points = np.round(POINTS)
    options = {"num_clusters": 5, "max_steps": 7}
    found = weighted_kmeans(
      key,
      points.astype(int),
      np.ones(ROWS, np.uint8),
      num_clusters=np.int64(5),
      max_steps=np.int16(7),
    )
    expected = weighted_kmeans(key, points, np.ones(ROWS), **options)
    np.testing.assert_array_equal(found.assignments, expected.assignments)

  @pytest.mark.usefixtures("unannotated")
  def test_rejects_what_does_not_fit(self, key):
    with pytest.raises(ValueError, match="`num_clusters` <= 203, got 204"):
      weighted_kmeans(key, POINTS, WEIGHTS, num_clusters=204)
    with pytest.raises(ValueError, match="1 <= `num_clusters` <= 203, got 0"):
      weighted_kmeans(key, POINTS, WEIGHTS, num_clusters=0)
    with pytest.raises(ValueError, match="1 <= `max_steps`, got 0"):
      weighted_kmeans(key, POINTS, WEIGHTS, num_clusters=2, max_steps=0)
    with pytest.raises(ValueError, match=r"<= `tolerance` <= inf, got -0\.5"):
      weighted_kmeans(key, POINTS, WEIGHTS, num_clusters=2, tolerance=-0.5)
    with pytest.raises(ValueError, match=r"`weights` .* \[203\], got \(9,\)"):
      weighted_kmeans(key, POINTS, WEIGHTS[:9], num_clusters=2)
    with pytest.raises(ValueError, match=r"`points` .* got \(203,\)"):
      weighted_kmeans(key, POINTS[:, 0], WEIGHTS, num_clusters=2)


class TestCalibratedPick:
  rng = np.random.default_rng(1)
  anchors = Anchors(rng.normal(size=(4, 8)).astype(np.float32), np.eye(4))
  clusters = Clusters(
    2.0 * rng.normal(size=(10, 8)).astype(np.float32),
    # The last cluster is empty, and the one before has a single member.
    np.append(np.arange(ROWS - 1) % 8, 8).astype(np.int32),
    np.float32(0.0),
    np.int32(1),
  )

  def expected(self, **options) -> list[int | None]:
    return oracle.calibrated_pick(
      POINTS, *self.clusters[:2], self.anchors.features, **options
    )

  def assert_picks(self, found, expected) -> None:
    indices, valid = found
    assert indices.dtype == np.int32
    np.testing.assert_array_equal(
      valid, [pick is not None for pick in expected]
    )
    np.testing.assert_array_equal(indices, [pick or 0 for pick in expected])

  @each("gamma", [0.0, 0.8, 1.0])
  def test_matches_naive_loop(self, gamma):
    expected = self.expected(gamma=gamma)
    assert expected[8:] == [ROWS - 1, None]
    found = calibrated_pick(POINTS, self.clusters, self.anchors, gamma=gamma)
    self.assert_picks(found, expected)

  def test_a_weight_of_zero_cannot_be_picked(self):
    weights = WEIGHTS * (np.arange(ROWS) % 3 == 0)
    found = calibrated_pick(
      POINTS, self.clusters, self.anchors, weights=weights
    )
    self.assert_picks(found, self.expected(weights=weights))

  def test_goes_with_the_clusters_of_weighted_kmeans(self, key):
    clusters = weighted_kmeans(key, POINTS, WEIGHTS, num_clusters=9)
    indices, valid = calibrated_pick(POINTS, clusters, self.anchors)
    assert valid.all()
    np.testing.assert_array_equal(clusters.assignments[indices], np.arange(9))

  @each("num_devices", [1, 2, 4, 8])
  @each("is_weighted", [False, True])
  def test_is_independent_of_shard_count(self, num_devices, is_weighted):
    # One row less for an equal split without padding where none is weighted.
    rows = ROWS if is_weighted else ROWS - 3
    mesh = make_mesh(num_devices)
    clusters = self.clusters._replace(
      assignments=place_pool(self.clusters.assignments[:rows], mesh)
    )
    weights = place_pool(WEIGHTS, mesh) if is_weighted else None
    features = place_pool(POINTS[:rows], mesh)
    found = calibrated_pick(features, clusters, self.anchors, weights=weights)
    expected = oracle.calibrated_pick(
      POINTS[:rows],
      self.clusters.centers,
      self.clusters.assignments[:rows],
      self.anchors.features,
    )
    self.assert_picks(found, expected)

  @pytest.mark.usefixtures("unannotated")
  def test_rejects_what_does_not_fit(self):
    clusters, anchors = self.clusters, self.anchors
    with pytest.raises(ValueError, match=r"`gamma` <= 1\.0, got 1\.5"):
      calibrated_pick(POINTS, clusters, anchors, gamma=1.5)
    with pytest.raises(ValueError, match=r"`weights` .* \[203\], got \(7,\)"):
      calibrated_pick(POINTS, clusters, anchors, weights=np.ones(7))
    with pytest.raises(
      ValueError, match=r"assignments` .* \[9\], got \(203,\)"
    ):
      calibrated_pick(POINTS[:9], clusters, anchors)
    with pytest.raises(ValueError, match=r"clusters.centers` .* got \(10, 8\)"):
      calibrated_pick(POINTS[:, :7], clusters, anchors)
    narrow = anchors._replace(features=anchors.features[:, :3])
    with pytest.raises(ValueError, match=r"anchors.features` .* got \(4, 3\)"):
      calibrated_pick(POINTS, clusters, narrow)
