"""Tests of decern_jax/strategies/cluster_pick.py."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from decern_jax.ops.kmeans import weighted_kmeans
from decern_jax.strategies import (
  Pool,
  Selection,
  entropy,
  gradient_magnitude,
  learning_loss,
  power,
  random,
  temporal_discrepancy,
)
from decern_jax.strategies.cluster_pick import (
  PICKS,
  clustered,
  pick_from_clusters,
)
from tests.strategies import label_pools, random_pools
from tests.table import each

BUDGET = 11
STRATEGIES = {
  "gradient_magnitude": gradient_magnitude.select_multi_label,
  "learning_loss": learning_loss.select,
  "temporal_discrepancy": temporal_discrepancy.select,
}


def naive_pick(
  key, features, scores, candidates, *, budget, factor=4, pick="most_uncertain"
) -> list[int]:
  """Cluster by cluster, then what is left by falling score."""
  shortlist = label_pools.highest(
    scores, min(factor * budget, candidates.sum()), candidates=candidates
  )
  size = min(factor * budget, len(scores))
  points = np.zeros((size, features.shape[1]), np.float32)
  points[: len(shortlist)] = features[shortlist]
  weights = np.float32(np.arange(size) < len(shortlist))
  clusters = weighted_kmeans(key, points, weights, num_clusters=budget)
  picked = []
  for c, center in enumerate(np.float64(clusters.centers)):
    members = shortlist[np.asarray(clusters.assignments)[: len(shortlist)] == c]
    if len(members) and pick == "nearest_center":
      squares = ((features[members] - center) ** 2).sum(axis=1)
      members = members[squares <= squares.min() * (1.0 + 1e-6)]
    picked += list(members[:1])
  left = [row for row in shortlist if row not in picked]
  rank = list(shortlist).index
  return sorted(picked, key=rank) + left[: budget - len(picked)]


def pick(pool: Pool, *, key=None, budget=BUDGET, factor=4, **options):
  found = pick_from_clusters(
    jax.random.key(3) if key is None else key,
    pool.features,
    pool.predicted_losses,
    pool.candidates,
    budget=budget,
    shortlist_factor=factor,
    **{"cluster_pick": "most_uncertain"} | options,
  )
  assert found.shape == (budget,)
  return np.asarray(found)


class TestPickFromClusters:
  @each("cluster_pick", PICKS)
  @each("num_devices", [1, 2, 4, 8])
  def test_matches_naive_pick_beside_rows_that_do_not_count(
    self, num_devices, cluster_pick
  ):
    pool = label_pools.make_pool(
      num_devices=num_devices, garbage=random_pools.GARBAGE
    )
    expected = naive_pick(
      jax.random.key(3),
      label_pools.FEATURES,
      label_pools.LOSSES,
      label_pools.CANDIDATES,
      budget=BUDGET,
      pick=cluster_pick,
    )
    found = pick(pool, cluster_pick=cluster_pick)
    np.testing.assert_array_equal(found, expected)
    random_pools.assert_distinct_candidates(found)

  def test_picks_differ_by_option(self):
    pool = label_pools.make_pool()
    first, second = (set(pick(pool, cluster_pick=name)) for name in PICKS)
    assert first != second

  @each("num_devices", [1, 8])
  @each("num_candidates", [BUDGET, BUDGET + 1, 3 * BUDGET])
  def test_shortlist_is_clipped_to_the_candidates(
    self, num_devices, num_candidates
  ):
    rows = np.flatnonzero(label_pools.CANDIDATES)[-num_candidates:]
    candidates = np.isin(np.arange(label_pools.ROWS), rows)
    pool = label_pools.make_pool(
      num_devices=num_devices, candidates=candidates, garbage=1e15
    )
    expected = naive_pick(
      jax.random.key(3),
      label_pools.FEATURES,
      label_pools.LOSSES,
      candidates,
      budget=BUDGET,
    )
    found = pick(pool)
    np.testing.assert_array_equal(found, expected)
    random_pools.assert_distinct_candidates(found, candidates=candidates)

  def test_budget_of_all_candidates_takes_all(self):
    budget = int(label_pools.CANDIDATES.sum())
    found = pick(label_pools.make_pool(num_devices=8), budget=budget)
    random_pools.assert_distinct_candidates(found)

  def test_factor_of_one_takes_the_highest(self):
    found = pick(label_pools.make_pool(), factor=1)
    expected = label_pools.highest(label_pools.LOSSES, BUDGET)
    assert set(found) == set(expected)

  @each("cluster_pick", PICKS)
  def test_empty_clusters_give_way_to_the_next_most_uncertain(
    self, cluster_pick
  ):
    # Three places for eleven clusters.
    features = np.float32(np.arange(label_pools.ROWS) % 3)[:, None]
    features = np.repeat(features, 12, axis=1)
    pool = label_pools.make_pool(features=features)
    found = pick(pool, cluster_pick=cluster_pick)
    shortlist = label_pools.highest(label_pools.LOSSES, 4 * BUDGET)
    heads = {row % 3: row for row in shortlist[::-1]}
    left = [row for row in shortlist if row not in heads.values()]
    assert set(found) == set(heads.values()) | set(left[: BUDGET - 3])

  def test_of_equal_scores_the_lower_position_is_picked(self):
    losses = np.zeros(label_pools.ROWS, np.float32)
    pool = label_pools.make_pool(losses=losses)
    expected = naive_pick(
      jax.random.key(3),
      label_pools.FEATURES,
      losses,
      label_pools.CANDIDATES,
      budget=BUDGET,
    )
    np.testing.assert_array_equal(pick(pool), expected)

  def test_takes_one_of_each_far_group(self):
    rows = np.arange(label_pools.ROWS)
    features = np.float32(1000.0 * (rows % BUDGET))[:, None]
    features = np.concatenate(
      [features + label_pools.FEATURES[:, :1], label_pools.FEATURES[:, 1:]], 1
    )
    found = pick(label_pools.make_pool(features=features), factor=12)
    assert sorted(found % BUDGET) == list(range(BUDGET))

  def test_holds_the_shortlist_alone(self):
    rows, dim = 4096, 64

    def select(key, pool, *, budget):
      positions = pick_from_clusters(
        key,
        pool.features,
        pool.probs[:, 0],
        pool.candidates,
        budget=budget,
        shortlist_factor=4,
        cluster_pick="most_uncertain",
      )
      return Selection(positions, None)

    pool = random_pools.wide_pool(rows=rows, dim=dim, classes=2)
    floats = random_pools.temporary_floats(select, pool, budget=4)
    assert floats < rows * dim / 4

  @each(
    "options, match",
    [
      ({"factor": 0}, "`shortlist_factor`, got 0"),
      ({"factor": 1.5}, "`shortlist_factor`, got 1.5"),
      ({"cluster_pick": "middle"}, "'middle'; expected one of .*'nearest"),
    ],
  )
  def test_rejects_options_out_of_range(self, options, match):
    with pytest.raises(ValueError, match=match):
      pick(label_pools.make_pool(), **options)


class TestClustered:
  OPTIONS = {"shortlist_factor": 4, "cluster_pick": "most_uncertain"}

  @each("name", STRATEGIES)
  @each("num_devices", [1, 2, 4, 8])
  def test_picks_by_the_scores_of_the_strategy(self, key, name, num_devices):
    pool = label_pools.make_pool(num_devices=num_devices)
    found = clustered(STRATEGIES[name])(
      key, pool, budget=BUDGET, **self.OPTIONS
    )
    plain = STRATEGIES[name](key, pool, budget=BUDGET)
    np.testing.assert_array_equal(found.scores, plain.scores)
    expected = naive_pick(
      jax.random.split(key)[1],
      label_pools.FEATURES,
      np.asarray(plain.scores)[: label_pools.ROWS],
      label_pools.CANDIDATES,
      budget=BUDGET,
    )
    np.testing.assert_array_equal(found.positions, expected)

  def test_without_scores_selects_as_the_strategy_does(self, key):
    pool = label_pools.make_pool()._replace(previous_probs=None)
    found = clustered(temporal_discrepancy.select)(
      key, pool, budget=BUDGET, **self.OPTIONS
    )
    expected = random.select(jax.random.split(key)[0], pool, budget=BUDGET)
    np.testing.assert_array_equal(found.positions, expected.positions)
    assert found.scores is None

  def test_adds_its_options_after_the_others(self):
    select = clustered(power.power(entropy.select))
    parameters = inspect.signature(select).parameters
    assert list(parameters) == [
      "key",
      "pool",
      "budget",
      "power_beta",
      "shortlist_factor",
      "cluster_pick",
    ]

  def test_equal_examples_give_distinct_candidates(self, key):
    pool = label_pools.make_pool(num_devices=8)
    pool = pool._replace(features=jnp.ones_like(pool.features))
    found = clustered(learning_loss.select)(
      key, pool, budget=BUDGET, **self.OPTIONS
    )
    random_pools.assert_distinct_candidates(found.positions)
    expected = label_pools.highest(label_pools.LOSSES, BUDGET)
    assert set(np.asarray(found.positions)) == set(expected)
