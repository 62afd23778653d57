"""Tests of decern_jax/ops/calibration.py."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from decern_jax.ops import calibration
from decern_jax.ops.anchors import Anchors
from tests import oracle
from tests.table import each


def make_clusters(*, rows=60, num_clusters=8, dim=5, seed=0):
  """Points, clusters of them at random, and anchors; no length is 1."""
  rng = np.random.default_rng(seed)
  features = 3.0 * rng.normal(size=(rows, dim)).astype(np.float32)
  centers = 0.2 * rng.normal(size=(num_clusters, dim)).astype(np.float32)
  assignments = rng.integers(num_clusters, size=rows).astype(np.int32)
  anchors = 7.0 * rng.normal(size=(3, dim)).astype(np.float32)
  return features, centers, assignments, anchors


def pick(features, centers, assignments, anchors, *, pickable=None, **options):
  """Returns the pick of each cluster, None where it has none."""
  options = {"gamma": 0.8, "block_size": 16, **options}
  function = functools.partial(calibration.calibrated_pick, **options)
  pickable = np.ones(len(features), bool) if pickable is None else pickable
  indices, valid = jax.jit(function, static_argnames="num_points")(
    features,
    centers,
    assignments,
    Anchors(anchors, np.eye(len(anchors), dtype=np.float32)),
    pickable=jnp.asarray(pickable),
    num_points=len(features),
  )
  np.testing.assert_array_equal(np.asarray(indices)[~np.asarray(valid)], 0)
  found = zip(indices.tolist(), valid.tolist(), strict=True)
  return [index if is_valid else None for index, is_valid in found]


class TestCalibratedPick:
  @each("gamma", [0.0, 0.3, 0.8, 1.0])
  def test_matches_naive_loop(self, gamma):
    arguments = make_clusters()
    expected = oracle.calibrated_pick(*arguments, gamma=gamma)
    assert pick(*arguments, gamma=gamma) == expected

  def test_a_cluster_of_one_gives_it_and_an_empty_one_none(self):
    features, centers, assignments, anchors = make_clusters()
    assignments = np.where(np.isin(assignments, [2, 5]), 0, assignments)
    assignments[17] = 5
    found = pick(features, centers, assignments.astype(np.int32), anchors)
    assert found[2] is None
    assert found[5] == 17
    expected = oracle.calibrated_pick(features, centers, assignments, anchors)
    assert found == expected

  def test_points_that_may_not_be_picked_set_no_scale(self):
    arguments = make_clusters(rows=200)
    pickable = np.random.default_rng(1).uniform(size=200) < 0.3
    found = pick(*arguments, pickable=pickable)
    expected = oracle.calibrated_pick(*arguments, weights=pickable)
    assert found == expected
    assert found != pick(*arguments)

  def test_nothing_pickable_gives_nothing(self):
    found = pick(*make_clusters(), pickable=np.zeros(60, bool))
    assert found == [None] * 8

  def test_lowest_position_comes_first_among_equal_points(self):
    features, centers, assignments, anchors = make_clusters()
    features[:] = features[0]
    found = pick(features, centers, assignments, anchors)
    assert found == [np.flatnonzero(assignments == k)[0] for k in range(8)]

  def test_every_cluster_with_a_member_has_a_pick(self):
    arguments = make_clusters(rows=3000, num_clusters=500, dim=8)
    expected = oracle.calibrated_pick(*arguments)
    found = pick(*arguments, block_size=700)
    assert [p is None for p in found] == [p is None for p in expected]
    assert np.mean(np.equal(found, expected)) > 0.99

  @each("block_size", [1, 60, 1000])
  def test_is_independent_of_block_size(self, block_size):
    arguments = make_clusters()
    assert pick(*arguments, block_size=block_size) == pick(*arguments)

  @each("scale", [1e-3, 1e4])
  def test_ignores_lengths(self, scale):
    features, centers, assignments, anchors = make_clusters()
    found = pick(scale * features, centers / scale, assignments, anchors)
    assert found == pick(features, centers, assignments, anchors)

  def test_nearness_alone_gives_the_point_nearest_to_the_center(self):
    features, centers, assignments, anchors = make_clusters()
    found = pick(features, centers, assignments, anchors, gamma=1.0)
    cosine = oracle.normalize(features) @ oracle.normalize(centers).T
    for k, position in enumerate(found):
      members = np.flatnonzero(assignments == k)
      assert position == members[cosine[members, k].argmax()]
