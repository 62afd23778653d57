"""Tests of decern_jax/ops/decern.py."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from decern_jax.ops import decern
from decern_jax.ops.anchors import Anchors
from tests import oracle
from tests.table import each

ANCHORS = np.random.default_rng(9).normal(size=(3, 6)).astype(np.float32)


@functools.partial(jax.jit, static_argnames=("budget", "uncertainty_gamma"))
def select_by_score(
  key, features, scores, valid, *, budget, uncertainty_gamma=0.5
):
  return decern.select_by_score(
    key,
    features,
    scores,
    Anchors(jnp.asarray(ANCHORS), jnp.eye(3)),
    budget=budget,
    valid=valid,
    uncertainty_gamma=uncertainty_gamma,
    diversity_gamma=0.8,
    max_steps=300,
    tolerance=1e-4,
    block_size=16,
  )


def select(features, scores, *, valid=None, seed=0, **options) -> np.ndarray:
  features, scores = np.float32(features), np.float32(scores)
  valid = np.ones(len(features), bool) if valid is None else valid
  key = jax.random.key(seed)
  return np.asarray(select_by_score(key, features, scores, valid, **options))


def make_groups(*, num_groups=5, per_group=8, seed=0):
  """Features in distant groups with high scores, and as many low ones."""
  rng = np.random.default_rng(seed)
  directions = np.linalg.qr(rng.normal(size=(6, 6)))[0][:num_groups]
  rows = np.repeat(directions, per_group, axis=0)
  rows = rows + 0.05 * rng.normal(size=rows.shape)
  rows = rows * rng.uniform(0.5, 2.0, size=(len(rows), 1))
  high = rng.uniform(2.0, 3.0, size=len(rows))
  low = rng.uniform(0.0, 1.0, size=len(rows))
  order = rng.permutation(2 * len(rows))
  features = np.concatenate([rows, rng.normal(size=rows.shape)])[order]
  return np.float32(features), np.float32(np.concatenate([high, low])[order])


def naive_selection(features, scores, *, budget) -> np.ndarray:
  """Picks of distant groups, where every good clustering is the same."""
  rows = oracle.candidates(scores, budget=budget)
  points = oracle.normalize(features[rows])
  assignments = (points @ points.T > 0.5).argmax(axis=1)
  _, assignments = np.unique(assignments, return_inverse=True)
  centers = [
    np.average(points[assignments == k], axis=0, weights=scores[rows][own])
    for k, own in enumerate(np.arange(budget)[:, None] == assignments)
  ]
  picks = oracle.calibrated_pick(
    points, np.stack(centers), assignments, ANCHORS
  )
  return np.sort(rows[picks])


class TestSelectByScore:
  @each("seed", range(4))
  def test_matches_naive_composition_on_distant_groups(self, seed):
    features, scores = make_groups(seed=seed)
    rows = oracle.candidates(scores, budget=5)
    assert len(rows) == 40
    np.testing.assert_array_equal(
      select(features, scores, budget=5, seed=seed),
      naive_selection(features, scores, budget=5),
    )

  def test_exactly_as_many_candidates_as_budget_are_all_taken(self):
    features, scores = make_groups()
    rows = oracle.candidates(scores, budget=5)
    found = select(features, scores, budget=len(rows))
    np.testing.assert_array_equal(np.sort(found), rows)

  def test_fewer_candidates_than_budget_give_the_highest_scores(self):
    features, scores = make_groups()
    num_candidates = len(oracle.candidates(scores, budget=5))
    found = select(features, scores, budget=num_candidates + 7)
    np.testing.assert_array_equal(
      found, np.argsort(-scores)[: num_candidates + 7]
    )

  @each("value", [0.0, 0.1, 4.0])
  def test_constant_scores_give_distinct_positions(self, value):
    features, scores = make_groups()
    found = select(features, np.full_like(scores, value), budget=5)
    assert len(np.unique(found)) == 5

  def test_what_empty_clusters_leave_open_is_drawn_uniformly(self):
    # Ten candidates in one place fill one cluster of four.
    features, scores = make_groups(per_group=3)
    features[:10], scores[:10], scores[10:] = features[0], 5.0, 1.0
    keys = jax.random.split(jax.random.key(0), 300)
    valid = np.arange(30) != 20
    found = jax.lax.map(
      lambda key: select_by_score(
        key, jnp.asarray(features), jnp.asarray(scores), valid, budget=4
      ),
      keys,
    )
    found = np.asarray(found)
    picked = found[:, 0]
    np.testing.assert_array_equal(picked, picked[0])
    assert picked[0] < 10
    ordered = np.sort(found, axis=1)
    assert (np.diff(ordered, axis=1) > 0).all()
    counts = np.bincount(found[:, 1:].ravel(), minlength=30)
    rest = valid & (np.arange(30) != picked[0])
    assert not counts[~rest].any()
    assert stats.chisquare(counts[rest]).pvalue > 0.01

  def test_all_points_equal_give_distinct_positions(self):
    _, scores = make_groups()
    found = select(np.ones((80, 6)), scores, budget=5)
    assert len(np.unique(found)) == 5

  @each("garbage", [1e30, np.nan])
  def test_is_independent_of_rows_that_do_not_exist(self, garbage):
    features, scores = make_groups()
    valid = np.arange(80) % 4 != 2
    expected = select(features, scores, valid=valid, budget=5)
    features[~valid], scores[~valid] = garbage, garbage
    found = select(features, scores, valid=valid, budget=5)
    np.testing.assert_array_equal(found, expected)
    assert valid[found].all()

  def test_negative_gamma_clusters_scores_of_zero_too(self):
    features, scores = make_groups()
    scores = np.where(scores > 2.9, scores, 0.0)
    found = select(features, scores, budget=60, uncertainty_gamma=-10.0)
    assert len(np.unique(found)) == 60

  def test_changes_with_the_key_alone(self):
    rng = np.random.default_rng(0)
    features, scores = rng.normal(size=(80, 6)), rng.uniform(size=80)
    first = select(features, scores, budget=5)
    np.testing.assert_array_equal(select(features, scores, budget=5), first)
    others = [
      select(features, scores, budget=5, seed=seed) for seed in range(1, 4)
    ]
    assert any(set(other) != set(first) for other in others)
