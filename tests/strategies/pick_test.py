"""Tests of decern_jax/strategies/pick.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy

from decern_jax.distributed.sharding import make_mesh, place_pool
from decern_jax.ops.kmeans import weighted_kmeans
from decern_jax.strategies import Pool, Selection, pick
from tests import oracle
from tests.strategies import pools
from tests.strategies.pools import AUXILIARY, BUDGET, CANDIDATES, FEATURES, ROWS
from tests.table import each

PICKS = pick.CLUSTER_PICK.choices


class TestTakeHighest:
  scores = np.array([0.1, 0.9, 0.5, 0.9, -2.0, 0.7, 0.5], np.float32)
  candidates = np.array([True, True, False, True, True, False, True])

  @each("num_devices", [1, 8])
  @each("budget, expected", [(2, [1, 3]), (5, [1, 3, 6, 0, 4])])
  def test_goes_by_falling_score_then_index(
    self, num_devices, budget, expected
  ):
    mesh = make_mesh(num_devices)
    found = pick.take_highest(
      place_pool(self.scores, mesh),
      place_pool(self.candidates, mesh),
      budget=budget,
    )
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, expected)


class TestPower:
  scores = np.zeros(ROWS, np.float32)
  scores[CANDIDATES.nonzero()[0][[3, 50, 90, 120]]] = [1.0, 4.0, 2.0, 8.0]
  # A high score that is no candidate.
  scores[~CANDIDATES] = 100.0

  def draw(self, seed: int, beta: float) -> np.ndarray:
    pool = pools.make_pool(auxiliary=self.scores)
    select = pick.power(pick.ranked(lambda pool: pool.auxiliary))
    key = jax.random.key(seed)
    found = select(key, pool, budget=BUDGET, power_beta=beta)
    return np.asarray(found.indices)

  @each("beta", [0.5, 1.0, 2.0])
  def test_draws_in_proportion_to_the_power_of_the_score(self, beta):
    drawn = [self.draw(seed, beta)[0] for seed in range(400)]
    counts = np.bincount(drawn, minlength=ROWS)
    mass = np.where(CANDIDATES, np.float64(self.scores), 0.0) ** beta
    assert not counts[mass == 0.0].any()
    expected = 400 * mass[mass > 0.0] / mass.sum()
    assert scipy.stats.chisquare(counts[mass > 0.0], expected).pvalue > 0.01

  def test_a_high_power_is_the_ranking(self):
    np.testing.assert_array_equal(
      self.draw(0, 1e6)[:4], pools.highest(self.scores, 4)
    )

  def test_no_score_comes_after_any_score(self):
    found = self.draw(0, 1.0)
    assert set(found[:4]) == set(pools.highest(self.scores, 4))
    pools.assert_distinct_candidates(found)

  @each("name, base", [("power_entropy", "entropy"), ("power_bald", "bald")])
  def test_scores_are_the_logarithms_plus_noise_over_beta(self, name, base):
    pool = pools.make_pool()
    first, second, bare = (
      np.asarray(pools.select(name, pool, power_beta=beta).scores)[CANDIDATES]
      for beta in (1.0, 2.0, 1e6)
    )
    np.testing.assert_allclose(first - bare, 2 * (second - bare), atol=1e-3)
    assert scipy.stats.kstest(first - bare, "gumbel_r").pvalue > 0.01
    if base == "entropy":
      plain = pools.select(base, pool).scores
      expected = np.log(np.asarray(plain)[CANDIDATES])
      np.testing.assert_allclose(bare, expected, atol=1e-4)

  def test_takes_the_multi_label_form_of_a_score(self):
    pool = pools.make_pool(is_multi_label=True)
    found, expected = (
      pools.select(name, pool, is_multi_label=True, power_beta=1e6).indices
      for name in ("power_entropy", "entropy")
    )
    np.testing.assert_array_equal(found, expected)


def naive_pick(
  key,
  scores,
  candidates=CANDIDATES,
  *,
  pick="most_uncertain",
) -> list[int]:
  """Cluster by cluster, then the rest by falling score."""
  size = 4 * BUDGET
  shortlist = pools.highest(
    scores, min(size, candidates.sum()), candidates=candidates
  )
  points = np.zeros((size, FEATURES.shape[1]), np.float32)
  points[: len(shortlist)] = FEATURES[shortlist]
  weights = (np.arange(size) < len(shortlist)).astype(np.float32)
  clusters = weighted_kmeans(key, points, weights, num_clusters=BUDGET)
  picked = []
  for c, center in enumerate(np.asarray(clusters.centers, np.float64)):
    members = shortlist[np.asarray(clusters.assignments)[: len(shortlist)] == c]
    if len(members) and pick == "nearest_center":
      squares = ((FEATURES[members] - center) ** 2).sum(axis=1)
      members = members[squares <= squares.min() * (1.0 + 1e-6)]
    picked += list(members[:1])
  left = [row for row in shortlist if row not in picked]
  rank = list(shortlist).index
  return sorted(picked, key=rank) + left[: BUDGET - len(picked)]


def pick_from(pool: Pool, *, factor=4, **options) -> np.ndarray:
  found = pick.pick_from_clusters(
    jax.random.key(3),
    pool.features,
    pool.auxiliary,
    pool.candidates,
    budget=BUDGET,
    shortlist_factor=factor,
    **{"cluster_pick": "most_uncertain"} | options,
  )
  assert found.shape == (BUDGET,)
  return np.asarray(found)


class TestPickFromClusters:
  @each("cluster_pick", PICKS)
  @each("num_devices", [1, 8])
  def test_matches_naive_pick(self, key, num_devices, cluster_pick):
    pool = pools.make_pool(num_devices=num_devices, garbage=pools.GARBAGE)
    expected = naive_pick(jax.random.key(3), AUXILIARY, pick=cluster_pick)
    found = pick_from(pool, cluster_pick=cluster_pick)
    np.testing.assert_array_equal(found, expected)

  def test_picks_differ_by_option(self):
    pool = pools.make_pool()
    first, second = (set(pick_from(pool, cluster_pick=name)) for name in PICKS)
    assert first != second

  @each("num_candidates", [BUDGET, BUDGET + 1, 3 * BUDGET])
  def test_shortlist_is_clipped_to_the_candidates(self, num_candidates):
    rows = np.flatnonzero(CANDIDATES)[-num_candidates:]
    candidates = np.isin(np.arange(ROWS), rows)
    pool = pools.make_pool(candidates=candidates, garbage=pools.GARBAGE)
    expected = naive_pick(jax.random.key(3), AUXILIARY, candidates)
    np.testing.assert_array_equal(pick_from(pool), expected)

  @each("cluster_pick", PICKS)
  def test_empty_clusters_give_way_to_the_next_most_uncertain(
    self, cluster_pick
  ):
    # Three places for more clusters.
    features = (np.arange(ROWS) % 3).astype(np.float32)[:, None]
    features = np.repeat(features, pools.DIM, axis=1)
    pool = pools.make_pool(features=features)
    found = pick_from(pool, cluster_pick=cluster_pick)
    shortlist = pools.highest(AUXILIARY, 4 * BUDGET)
    heads = {row % 3: row for row in shortlist[::-1]}
    left = [row for row in shortlist if row not in heads.values()]
    assert set(found) == set(heads.values()) | set(left[: BUDGET - 3])

  def test_of_equal_scores_the_lower_index_is_picked(self):
    scores = np.zeros(ROWS, np.float32)
    pool = pools.make_pool(auxiliary=scores)
    expected = naive_pick(jax.random.key(3), scores)
    np.testing.assert_array_equal(pick_from(pool), expected)

  def test_takes_one_of_each_far_group(self):
    rows = np.arange(ROWS)
    features = FEATURES.copy()
    groups = rows // 2 % BUDGET
    features[:, 0] += 1000.0 * groups
    scores = -np.asarray(rows, np.float32)
    found = pick_from(pools.make_pool(features=features, auxiliary=scores))
    assert sorted(groups[found]) == list(range(BUDGET))

  def test_holds_only_the_shortlist(self):
    rows, dim = 4096, 64

    def select(key, pool, *, budget):
      indices = pick.pick_from_clusters(
        key,
        pool.features,
        pool.probs[:, 0],
        pool.candidates,
        budget=budget,
        shortlist_factor=4,
        cluster_pick="most_uncertain",
      )
      return Selection(indices, None)

    pool = pools.wide_pool(rows=rows, dim=dim, classes=2)
    assert pools.temporary_floats(select, pool, budget=4) < rows * dim / 4

  @each(
    "options, match",
    [
      ({"factor": 0}, "shortlist_factor`, got 0"),
      ({"factor": 1.5}, "shortlist_factor`, got 1.5"),
      ({"cluster_pick": "middle"}, "'middle'; expected one of .*'nearest"),
    ],
  )
  def test_rejects_options_out_of_range(self, options, match):
    with pytest.raises(ValueError, match=match):
      pick_from(pools.make_pool(), **options)


class TestClustered:
  @each("base", ["gradient_magnitude", "learning_loss", "temporal_discrepancy"])
  @each("is_multi_label", [False, True])
  def test_picks_by_the_scores_of_the_strategy(self, key, base, is_multi_label):
    pool = pools.make_pool(is_multi_label=is_multi_label)
    found, plain = (
      pools.select(name, pool, is_multi_label=is_multi_label)
      for name in (f"{base}_clustered", base)
    )
    np.testing.assert_array_equal(found.scores, plain.scores)
    scores = np.asarray(plain.scores)
    expected = naive_pick(jax.random.split(key)[1], scores)
    np.testing.assert_array_equal(found.indices, expected)

  def test_without_scores_selects_as_the_strategy_does(self, key):
    pool = pools.change(pools.make_pool(), previous_probs=None)
    found = pools.select("temporal_discrepancy_clustered", pool)
    expected = pick.take_highest(
      pick.draw_uniform(jax.random.split(key)[0], pool.candidates),
      pool.candidates,
      budget=BUDGET,
    )
    np.testing.assert_array_equal(found.indices, expected)
    assert found.scores is None


WANTED = CANDIDATES & (np.arange(ROWS) % 3 == 0)


def pick_diverse(key, wanted, *, candidates=CANDIDATES, **values) -> np.ndarray:
  pool = pools.make_pool(candidates=candidates, **values)
  picked = pick.pick_diverse(
    key, pool.features, jnp.asarray(wanted), pool.candidates, budget=BUDGET
  )
  pools.assert_distinct_candidates(picked, candidates=candidates)
  return np.asarray(picked)


def naive_diverse(key, wanted) -> list[int]:
  """Each center in turn takes the nearest one that is left."""
  points = oracle.normalize(FEATURES)
  clusters = weighted_kmeans(
    jax.random.split(key)[1],
    np.asarray(points, np.float32),
    np.asarray(wanted, np.float32),
    num_clusters=BUDGET,
  )
  left, picked = set(np.flatnonzero(wanted)), []
  for center in np.asarray(clusters.centers, np.float64):
    distance = {row: ((points[row] - center) ** 2).sum() for row in left}
    picked.append(min(left, key=distance.__getitem__))
    left.remove(picked[-1])
  return picked


class TestPickDiverse:
  def test_takes_the_nearest_of_the_shortlist_to_each_center(self, key):
    picked = pick_diverse(key, WANTED)
    np.testing.assert_array_equal(picked, naive_diverse(key, WANTED))
    assert WANTED[picked].all()

  def test_ignores_the_length_of_features(self, key):
    lengths = np.linspace(0.5, 2.0, ROWS, dtype=np.float32)
    features = FEATURES * lengths[:, None]
    picked = pick_diverse(key, WANTED, features=features)
    assert set(picked) == set(pick_diverse(key, WANTED))

  @each("length", [0, 1, BUDGET - 1, BUDGET])
  def test_takes_the_whole_of_a_short_one(self, key, length):
    wanted = np.flatnonzero(WANTED)[:length]
    mask = np.isin(np.arange(ROWS), wanted)
    assert set(wanted) <= set(pick_diverse(key, mask))

  def test_takes_all_but_one_candidate(self, key):
    last = np.flatnonzero(CANDIDATES)[-BUDGET - 1 :]
    candidates = np.isin(np.arange(ROWS), last)
    picked = pick_diverse(key, candidates & WANTED, candidates=candidates)
    assert set(np.flatnonzero(candidates & WANTED)) <= set(picked)

  def test_fills_up_at_random(self):
    pool, counts = pools.make_pool(), np.zeros(ROWS)
    nothing = jnp.zeros(ROWS, bool)
    for seed in range(200):
      picked = pick.pick_diverse(
        jax.random.key(seed),
        pool.features,
        nothing,
        pool.candidates,
        budget=BUDGET,
      )
      counts[np.asarray(picked)] += 1
    assert scipy.stats.chisquare(counts[CANDIDATES]).pvalue > 0.01
