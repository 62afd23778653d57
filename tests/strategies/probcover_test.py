"""Tests of decern_jax/strategies/probcover.py."""

import bisect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from decern_jax.ops.keys import uniform_at
from decern_jax.ops.kmeans import weighted_kmeans
from decern_jax.strategies import Pool, Selection, probcover
from tests import oracle
from tests.strategies import pools
from tests.table import each


def distances(features) -> np.ndarray:
  unit = oracle.normalize(features)
  return np.linalg.norm(unit[:, None] - unit[None], axis=-1)


def naive_cover(key, features, labeled, candidates, delta, budget):
  """The whole graph, and the highest degree in it again and again."""
  noise = np.asarray(
    uniform_at(jax.random.split(key, 3)[0], jnp.arange(len(features)))
  )
  graph = distances(features) < delta
  uncovered = (labeled | candidates) & ~graph[labeled].any(axis=0)
  free, taken = candidates.copy(), []
  for _ in range(budget):
    degrees = np.where(free, graph[:, uncovered].sum(axis=1), -1)
    highest = np.flatnonzero(degrees == degrees.max())
    taken.append(int(highest[np.argmax(noise[highest])]))
    free[taken[-1]] = False
    uncovered &= ~graph[taken[-1]]
  return taken


def naive_delta(key, pool) -> float:
  """The largest distance with which 95 % of the balls are pure."""
  members = pool.labeled | pool.candidates
  clusters = weighted_kmeans(
    jax.random.split(key, 3)[1],
    probcover._normalize(pool.features),
    members.astype(np.float32),
    num_clusters=pools.CLASSES,
  )
  members = np.asarray(members)
  classes = np.asarray(clusters.assignments)[members]
  apart = distances(np.asarray(pool.features)[members])
  differs = classes[:, None] != classes[None]

  def impurity(delta):
    return ((apart < delta) & differs).any(axis=1).mean()

  candidates = np.unique(apart[differs])
  first_impure = bisect.bisect_right(candidates, 0.05, key=impurity)
  return candidates[first_impure - 1]


def make_pool(features, labeled=None) -> Pool:
  labeled = np.zeros(len(features), bool) if labeled is None else labeled
  return pools.make_pool(
    labeled=labeled,
    candidates=~labeled,
    features=np.asarray(features, np.float32),
  )


# Enough to cover all, with the larger distances.
BUDGET = 25
ROWS = pools.ROWS


def select(key, pool, delta: float) -> np.ndarray:
  found = probcover.select(key, pool, budget=BUDGET, cover_delta=delta)
  return np.asarray(found.indices)


class TestSelect:
  @each("delta", [0.3, 0.9, 2.0])
  def test_matches_naive_graph(self, key, delta):
    found = select(key, pools.make_pool(), delta)
    expected = naive_cover(
      key,
      pools.FEATURES,
      pools.LABELED,
      pools.CANDIDATES,
      delta,
      BUDGET,
    )
    np.testing.assert_array_equal(found, expected)

  def test_estimates_the_distance_of_pure_balls(self, key):
    pool = pools.make_pool()
    delta = naive_delta(key, pool)
    assert 0.0 < delta < 1.0
    expected = naive_cover(
      key,
      pools.FEATURES,
      pools.LABELED,
      pools.CANDIDATES,
      delta,
      BUDGET,
    )
    np.testing.assert_array_equal(select(key, pool, 0.0), expected)

  def test_counts_the_last_partial_block(self, key):
    # Most of the larger group lies past the first block of rows.
    groups = (np.arange(ROWS) >= 100).astype(np.float32)
    features = np.stack([groups, 1.0 - groups], axis=1)
    assert select(key, make_pool(features), 0.5)[0] >= 100

  def test_covers_each_group_before_it_repeats_one(self, key):
    groups = np.repeat(np.arange(5), [30, 63, 40, 50, 20])
    noise = np.random.default_rng(0).normal(size=(ROWS, 5))
    features = np.eye(5)[groups] + 0.01 * noise
    pool = make_pool(features, np.arange(ROWS) == 140)
    found = groups[select(key, pool, 0.5)]
    np.testing.assert_array_equal(found[:4], [1, 2, 0, 4])

  def test_what_is_left_when_all_is_covered_goes_at_random(self):
    pool = make_pool(np.ones((ROWS, 2)))
    first, second = (select(jax.random.key(s), pool, 0.5) for s in range(2))
    pools.assert_distinct_candidates(first, candidates=np.ones(ROWS, bool))
    assert set(first) != set(second)

  def test_equal_examples_make_any_distance_pure(self, key):
    features = np.ones_like(pools.FEATURES)
    found = select(key, pools.make_pool(features=features), 0.0)
    pools.assert_distinct_candidates(found)

  def test_holds_no_square_of_the_pool(self):
    pool = pools.wide_pool(rows=4096, dim=4, classes=2)

    def select(key, pool, *, budget):
      points = (pool.features, jnp.zeros(4096, jnp.int32), pool.candidates)
      delta = probcover._largest_pure_radius(key, *points)
      masks = (pool.labeled, pool.candidates)
      cover = probcover._cover(key, pool.features, *masks, delta, budget=budget)
      return Selection(cover, None)

    floats = pools.temporary_floats(select, pool, budget=9)
    assert floats < 4096**2 / 8


class TestSelectMultiLabel:
  def test_is_the_same_with_a_given_distance(self, key):
    options = {"budget": BUDGET, "cover_delta": 0.7}
    pool = pools.make_pool(is_multi_label=True)
    found = probcover.select_multi_label(key, pool, **options)
    expected = probcover.select(key, pools.make_pool(), **options)
    np.testing.assert_array_equal(found.indices, expected.indices)

  def test_rejects_a_distance_to_estimate(self, key):
    pool = pools.make_pool(is_multi_label=True)
    with pytest.raises(ValueError, match=r"`cover_delta` > 0 .* got 0\.0"):
      probcover.select_multi_label(key, pool, budget=9, cover_delta=0.0)
