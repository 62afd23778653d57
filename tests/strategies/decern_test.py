"""Tests of decern_jax/strategies/decern.py."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy

from decern_jax import Anchors, Clusters
from decern_jax.distributed.sharding import make_mesh, place_pool, replicate
from decern_jax.ops.discrepancy import discrepancy_confusion
from decern_jax.strategies import Pool, decern
from decern_jax.strategies.decern import (
  calibrated_pick,
  check_budget,
  select_by_score,
  select_decern,
  uncertainty_threshold,
)
from tests import oracle, tasks
from tests.strategies import pools
from tests.table import each

# Of the shapes of the other tests of strategies, whose programs are the same.
POOL, BUDGET, CLASSES, DIM = pools.ROWS, pools.BUDGET, pools.CLASSES, pools.DIM
PROBLEM = pools.PROBLEM
ALL = np.ones(POOL, bool)
SCORES = oracle.discrepancy_confusion(PROBLEM)


def select(
  problem: oracle.Problem = PROBLEM,
  *,
  seed: int = 0,
  budget: Any = BUDGET,
  valid: np.ndarray = ALL,
  **options: Any,
) -> np.ndarray:
  found = select_decern(
    jax.random.key(seed), *problem.pool, budget=budget, valid=valid, **options
  )
  return np.asarray(found)


def assert_distinct(indices, *, budget=BUDGET, valid=ALL) -> None:
  """Exactly `budget` distinct indices of rows that exist."""
  assert indices.dtype == np.int32
  assert indices.shape == (budget,)
  assert len(np.unique(indices)) == budget
  assert valid[indices].all()


class TestSelectDecern:
  def test_picks_are_candidates(self):
    candidates = oracle.candidates(SCORES, budget=BUDGET)
    assert BUDGET < len(candidates) < POOL
    found = select()
    assert_distinct(found)
    assert np.isin(found, candidates).all()

  def test_fewer_candidates_than_budget_give_the_highest_scores(self):
    highest = np.argsort(-SCORES)
    threshold = oracle.uncertainty_threshold(SCORES, gamma=-50.0)
    assert (threshold < SCORES).sum() < BUDGET
    found = select(uncertainty_gamma=-50.0)
    np.testing.assert_array_equal(found, highest[:BUDGET])

  @each("num_valid", [BUDGET, BUDGET + 1, 30])
  def test_selects_only_valid_rows(self, num_valid):
    valid = np.random.default_rng(0).permutation(POOL) < num_valid
    found = select(valid=valid)
    assert_distinct(found, valid=valid)
    if num_valid == BUDGET:
      np.testing.assert_array_equal(np.sort(found), np.flatnonzero(valid))

  def test_equal_rows_give_distinct_indices(self):
    problem = PROBLEM._replace(
      features=np.repeat(PROBLEM.features[:1], POOL, axis=0),
      probs=np.repeat(PROBLEM.probs[:1], POOL, axis=0),
    )
    assert_distinct(select(problem, uncertainty_gamma=-3.0))

  def test_few_distinct_rows_are_filled_up(self):
    # Three kinds of rows; the one that scores highest makes the candidates.
    kinds = np.arange(POOL) % 3
    problem = PROBLEM._replace(
      features=PROBLEM.features[kinds], probs=PROBLEM.probs[kinds]
    )
    for seed in range(3):
      found = select(problem, uncertainty_gamma=0.0, seed=seed)
      assert_distinct(found)
      assert len(np.unique(kinds[found])) > 1

  def test_zero_features_give_distinct_indices(self):
    problem = PROBLEM._replace(features=np.zeros_like(PROBLEM.features))
    assert_distinct(select(problem))

  def test_depends_only_on_the_key(self):
    first = select()
    np.testing.assert_array_equal(select(), first)
    others = [set(select(seed=seed)) for seed in range(1, 6)]
    assert any(other != set(first) for other in others)

  def test_is_independent_of_shard_count(self):
    mesh = make_mesh(8)
    arrays = (PROBLEM.features, PROBLEM.probs, ALL)
    features, probs, valid = (place_pool(array, mesh) for array in arrays)
    # As `class_anchors` returns them, so that the program is that of `select`.
    anchors = replicate(PROBLEM.anchors, mesh)
    rows: list[dict[str, Any]] = [
      {},
      {"uncertainty_gamma": -9.0},
      {"diversity_gamma": 0.0},
    ]
    for options in rows:
      found = select_decern(
        jax.random.key(0),
        features,
        probs,
        anchors,
        PROBLEM.head,
        budget=BUDGET,
        valid=valid,
        **options,
      )
      np.testing.assert_array_equal(found, select(**options))

  def test_is_independent_of_rows_that_do_not_exist(self):
    valid = np.arange(POOL) % 3 != 1
    features = np.where(valid[:, None], PROBLEM.features, np.nan)
    probs = np.where(valid[:, None], PROBLEM.probs, np.nan)
    found = select(
      PROBLEM._replace(features=features, probs=probs), valid=valid
    )
    np.testing.assert_array_equal(found, select(valid=valid))

  def test_works_inside_of_a_users_jit(self):
    arrays = PROBLEM.features, PROBLEM.probs, ALL
    arrays = [place_pool(array, make_mesh(4)) for array in arrays]

    @jax.jit
    def run(key, features, probs, valid, anchors, head):
      return select_decern(
        key, features, probs, anchors, head, budget=BUDGET, valid=valid
      )

    found = run(jax.random.key(0), *arrays, *PROBLEM.pool[2:])
    np.testing.assert_array_equal(found, select())

  @pytest.mark.usefixtures("unannotated")
  def test_accepts_other_types_of_numbers(self):
    rounded = PROBLEM._replace(features=np.round(PROBLEM.features))
    expected = select(rounded)
    for dtype in (np.float64, np.int32, np.float16):
      cast = rounded._replace(features=rounded.features.astype(dtype))
      np.testing.assert_array_equal(
        select(
          cast, budget=np.int64(BUDGET), uncertainty_gamma=oracle.float32(0.5)
        ),
        expected,
      )

  def test_a_shrinking_pool_compiles_nothing(self):
    valid = ALL.copy()
    select(valid=valid)
    for round_num in range(7):
      with tasks.compilations() as found:
        indices = select(valid=valid, seed=round_num)
      assert not found
      assert_distinct(indices, valid=valid)
      valid[indices] = False
    assert valid.sum() == POOL - 7 * BUDGET

  @pytest.mark.usefixtures("unannotated")
  def test_rejects_what_does_not_fit(self):
    with pytest.raises(ValueError, match="`budget` <= 203, got 204"):
      select(budget=204)
    with pytest.raises(ValueError, match="1 <= `budget` <= 203, got 0"):
      select(budget=0)
    with pytest.raises(ValueError, match=r"an integer .*`budget`.* got 5\.0"):
      select(budget=5.0)
    valid = np.arange(POOL) < 3
    with pytest.raises(ValueError, match="`budget` <= 3 valid rows, got 4"):
      select(budget=4, valid=valid)
    with pytest.raises(ValueError, match=r"`valid` .* \[203\], got \(202,\)"):
      select(valid=np.ones(POOL - 1, bool))
    with pytest.raises(ValueError, match=r"`probs` .* got \(202, 6\)"):
      select(PROBLEM._replace(probs=PROBLEM.probs[:-1]))
    with pytest.raises(ValueError, match="`diversity_gamma` <= 1.0, got -0.1"):
      select(diversity_gamma=-0.1)
    with pytest.raises(ValueError, match="`uncertainty_gamma`, got nan"):
      select(uncertainty_gamma=float("nan"))

  def test_rejects_before_it_scores(self, monkeypatch):
    monkeypatch.delattr(decern, "discrepancy_confusion")
    with pytest.raises(ValueError, match="`diversity_gamma` <= 1.0, got 7.0"):
      select(diversity_gamma=7.0)


# Features in distant groups with high scores, and more rows with low ones.
GROUPS, PER_GROUP = BUDGET, 16
ANCHORS = np.random.default_rng(9).normal(size=(CLASSES, DIM))
ANCHORS = ANCHORS.astype(np.float32)


def make_groups(seed=0) -> tuple[np.ndarray, np.ndarray]:
  rng = np.random.default_rng(seed)
  directions = np.linalg.qr(rng.normal(size=(DIM, DIM)))[0][:GROUPS]
  rows = np.repeat(directions, PER_GROUP, axis=0)
  rows = rows + 0.05 * rng.normal(size=rows.shape)
  rows = rows * rng.uniform(0.5, 2.0, size=(len(rows), 1))
  others = rng.normal(size=(POOL - len(rows), DIM))
  high = rng.uniform(2.0, 3.0, size=len(rows))
  low = rng.uniform(0.0, 1.0, size=len(others))
  order = rng.permutation(POOL)
  features = np.concatenate([rows, others])[order]
  return oracle.float32(features), oracle.float32(
    np.concatenate([high, low])[order]
  )


def select_of(features, scores, *, valid=None, seed=0, **options):
  found = select_by_score(
    jax.random.key(seed),
    oracle.float32(features),
    oracle.float32(scores),
    Anchors(jnp.asarray(ANCHORS), jnp.eye(CLASSES)),
    valid=np.ones(len(features), bool) if valid is None else valid,
    budget=BUDGET,
    **options,
  )
  return np.asarray(found)


def naive_selection(features, scores, *, budget=BUDGET) -> np.ndarray:
  """Picks of distant groups, where every good clustering is the same."""
  rows = oracle.candidates(scores, budget=budget)
  points = oracle.normalize(features[rows])
  assignments = (points @ points.T > 0.5).argmax(axis=1)
  _, assignments = np.unique(assignments, return_inverse=True)
  centers = [
    np.average(points[assignments == k], axis=0, weights=scores[rows][own])
    for k, own in enumerate(np.arange(budget)[:, None] == assignments)
  ]
  picks: Any = oracle.calibrated_pick(
    points, np.stack(centers), assignments, ANCHORS
  )
  return np.sort(rows[picks])


class TestSelectByScore:
  @each("seed", range(4))
  def test_matches_naive_composition_on_distant_groups(self, seed):
    features, scores = make_groups(seed)
    candidates = oracle.candidates(scores, budget=BUDGET)
    assert len(candidates) == GROUPS * PER_GROUP
    np.testing.assert_array_equal(
      select_of(features, scores, seed=seed), naive_selection(features, scores)
    )

  def test_is_what_select_decern_does_with_its_scores(self, key):
    features, _, anchors, _ = PROBLEM.pool
    scores = discrepancy_confusion(*PROBLEM.pool, valid=ALL)
    found = select_by_score(key, features, scores, anchors, budget=BUDGET)
    np.testing.assert_array_equal(found, select())

  def test_exactly_as_many_candidates_as_budget_are_all_taken(self):
    features, scores = make_groups()
    rows = np.arange(BUDGET) * 7
    scores[scores > 1.0] -= 2.0
    scores[rows] += 5.0
    assert set(oracle.candidates(scores, budget=BUDGET)) == set(rows)
    found = select_of(features, scores)
    np.testing.assert_array_equal(found, np.argsort(-scores)[:BUDGET])
    # With a candidate less, the highest of the others is taken.
    scores[rows[0]] = np.partition(scores, -BUDGET - 1)[-BUDGET - 1] + 1e-3
    assert (scores > 4.0).sum() == BUDGET - 1
    found = select_of(features, scores)
    np.testing.assert_array_equal(found, np.argsort(-scores)[:BUDGET])
    assert found[-1] == rows[0]

  @each("value", [0.0, 0.1, 4.0])
  def test_constant_scores_give_distinct_indices(self, value):
    features, scores = make_groups()
    found = select_of(features, np.full_like(scores, value))
    assert len(np.unique(found)) == BUDGET

  def test_what_empty_clusters_leave_open_is_drawn_uniformly(self):
    # Ten candidates in one place fill one of the clusters.
    features, scores = make_groups()
    features[:10], scores[:10], scores[10:] = features[0], 5.0, 1.0
    valid = np.arange(POOL) != 20
    found = np.stack(
      [select_of(features, scores, valid=valid, seed=s) for s in range(300)]
    )
    picked = found[:, 0]
    np.testing.assert_array_equal(picked, picked[0])
    assert picked[0] < 10
    assert (np.diff(np.sort(found, axis=1), axis=1) > 0).all()
    counts = np.bincount(found[:, 1:].ravel(), minlength=POOL)
    rest = valid & (np.arange(POOL) != picked[0])
    assert not counts[~rest].any()
    assert scipy.stats.chisquare(counts[rest]).pvalue > 0.01

  def test_equal_points_give_distinct_indices(self):
    _, scores = make_groups()
    found = select_of(np.ones((POOL, DIM)), scores)
    assert len(np.unique(found)) == BUDGET

  @each("garbage", [1e30, np.nan])
  def test_is_independent_of_rows_that_do_not_exist(self, garbage):
    features, scores = make_groups()
    valid = np.arange(POOL) % 4 != 2
    expected = select_of(features, scores, valid=valid)
    features[~valid], scores[~valid] = garbage, garbage
    found = select_of(features, scores, valid=valid)
    np.testing.assert_array_equal(found, expected)
    assert valid[found].all()

  def test_negative_gamma_clusters_scores_of_zero_too(self):
    features, scores = make_groups()
    scores = np.where(scores >= np.sort(scores)[-3], scores, 0.0)
    found = select_of(features, scores, uncertainty_gamma=-10.0)
    assert len(np.unique(found)) == BUDGET

  @pytest.mark.usefixtures("unannotated")
  def test_rejects_what_does_not_fit(self, key):
    features, _, anchors, _ = PROBLEM.pool
    scores = np.ones(POOL)
    with pytest.raises(ValueError, match=r"`scores` .* \[203\], got \(9,\)"):
      select_by_score(key, features, scores[:9], anchors, budget=5)
    with pytest.raises(ValueError, match=r"`valid` .* \[203\], got \(9,\)"):
      select_by_score(
        key, features, scores, anchors, budget=5, valid=np.ones(9, bool)
      )
    with pytest.raises(ValueError, match=r"`anchors.features` .* got \(6, 12"):
      select_by_score(key, features[:, :9], scores, anchors, budget=5)
    with pytest.raises(ValueError, match="`budget` <= 203, got 250"):
      select_by_score(key, features, scores, anchors, budget=250)


LABELED = np.arange(POOL) % 5 == 3
LABELS = np.where(LABELED, np.arange(POOL) % 4, -1).astype(np.int32)


class TestSelect:
  def select(self, key, **options):
    arrays = PROBLEM.features, PROBLEM.probs, LABELS, ~LABELED
    features, probs, labels, candidates = map(jnp.asarray, arrays)
    pool = Pool(
      candidates=candidates,
      features=features,
      probs=probs,
      labels=labels,
      head=PROBLEM.head,
    )
    options = {"uncertainty_gamma": 0.5, "diversity_gamma": 0.8, **options}
    return decern.select(key, pool, budget=BUDGET, **options)

  @each(
    "options",
    [
      {},
      {"uncertainty_gamma": 9.0},
      {"uncertainty_gamma": -9.0},
      {"uncertainty_gamma": -9.0, "diversity_gamma": 0.0},
      {"uncertainty_gamma": -9.0, "diversity_gamma": 1.0},
    ],
  )
  def test_is_select_decern_with_the_anchors_of_the_labels(self, key, options):
    problem = PROBLEM._replace(
      labeled_features=PROBLEM.features[LABELED],
      labeled_probs=PROBLEM.probs[LABELED],
      labels=LABELS[LABELED],
    )
    found = self.select(key, **options)
    expected = np.where(LABELED, 0.0, oracle.discrepancy_confusion(problem))
    np.testing.assert_allclose(np.asarray(found.scores), expected, rtol=1e-5)
    indices = select(problem, valid=~LABELED, **options)
    np.testing.assert_array_equal(found.indices, indices)

  def test_depends_on_its_options(self, key):
    options = [{}, {"uncertainty_gamma": -9.0}, {"uncertainty_gamma": 9.0}]
    options += [
      {"uncertainty_gamma": -9.0, "diversity_gamma": g} for g in (0.0, 1.0)
    ]
    found = {tuple(self.select(key, **o).indices.tolist()) for o in options}
    assert len(found) > 2


class TestCheckBudget:
  def test_returns_an_int(self):
    budget = check_budget(np.uint8(3), 5, None)
    assert budget == 3
    assert type(budget) is int

  def test_counts_the_rows_that_exist(self):
    valid = place_pool(np.ones(5, bool), make_mesh(4))
    assert check_budget(5, 8, valid) == 5
    with pytest.raises(ValueError, match="`budget` <= 5 valid rows, got 6"):
      check_budget(6, 8, valid)


SIZE = 500
jitted_moments = jax.jit(decern.moments)


def moments_of(scores, *, garbage=np.nan) -> tuple:
  """Of scores that are padded with garbage to one size."""
  scores = oracle.float32(scores)
  padded = np.full(SIZE, garbage, np.float32)
  padded[: len(scores)] = scores
  return jitted_moments(padded, np.arange(SIZE) < len(scores))


class TestMoments:
  @each("shift", [0.0, 100.0])
  @each("size", [63, SIZE])
  @each("garbage", [0.0, 1e9, np.nan, -np.inf])
  def test_matches_scipy_whatever_the_padding(self, shift, size, garbage):
    scores = np.random.default_rng(0).gamma(2.0, size=size) + shift
    scores = scores.astype(np.float32)
    mean, std, skewness = moments_of(scores, garbage=garbage)
    scores = oracle.float64(scores)
    np.testing.assert_allclose(mean, scores.mean(), rtol=1e-6)
    np.testing.assert_allclose(std, scores.std(), rtol=1e-5)
    np.testing.assert_allclose(skewness, scipy.stats.skew(scores), rtol=1e-4)

  @each("value", [0.0, 0.1, 3.0, 1e6])
  @each("size", [1, 7, SIZE])
  def test_constant_scores_have_zero_skewness(self, value, size):
    mean, std, skewness = moments_of(np.full(size, value))
    np.testing.assert_allclose(mean, value, rtol=1e-6)
    np.testing.assert_allclose(std, 0.0, atol=1e-6 * value)
    assert skewness == 0.0

  def test_scores_that_differ_only_by_rounding_have_zero_skewness(self):
    scores = np.full(100, 0.7, np.float32)
    scores[0] = np.nextafter(scores[0], oracle.float32(1.0))
    assert moments_of(scores)[2] == 0.0

  def test_small_differences_are_no_rounding(self):
    scores = 1.0 + 1e-4 * np.random.default_rng(0).gamma(1.0, size=SIZE)
    scores = scores.astype(np.float32)
    np.testing.assert_allclose(
      moments_of(scores)[2], scipy.stats.skew(oracle.float64(scores)), rtol=1e-2
    )

  def test_no_valid_score_gives_zeros(self):
    assert moments_of([]) == (0.0, 0.0, 0.0)


class TestUncertaintyThreshold:
  scores = np.random.default_rng(0).gamma(2.0, size=POOL).astype(np.float32)

  @each("gamma", [-2.0, 0.0, 0.5])
  def test_matches_definition_on_one_device_and_eight(self, gamma):
    expected = oracle.uncertainty_threshold(self.scores, gamma=gamma)
    found = uncertainty_threshold(self.scores, gamma=gamma)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    mesh = make_mesh(8)
    scores, valid = place_pool(self.scores, mesh), place_pool(ALL, mesh)
    found = uncertainty_threshold(scores, valid=valid, gamma=gamma)
    np.testing.assert_allclose(found, expected, rtol=1e-5)

  def test_lies_above_the_mean_of_scores_skewed_to_the_right(self):
    scores = np.where(np.arange(POOL) == 4, 9.0, 1.0).astype(np.float32)
    assert uncertainty_threshold(scores) > 1.01 * scores.mean()

  def test_constant_scores_are_their_own_threshold(self):
    assert uncertainty_threshold(np.full(POOL, 0.75, np.float32)) == 0.75

  @pytest.mark.usefixtures("unannotated")
  def test_rejects_what_does_not_fit(self):
    with pytest.raises(ValueError, match=r"shape \[pool\], got \(3, 2\)"):
      uncertainty_threshold(np.ones((3, 2)))
    with pytest.raises(ValueError, match=r"`valid` .* \[203\], got \(4,\)"):
      uncertainty_threshold(self.scores, valid=np.ones(4, bool))
    with pytest.raises(ValueError, match="finite `gamma`, got nan"):
      uncertainty_threshold(self.scores, gamma=float("nan"))


POINTS, CLUSTERS = 60, 8


def make_clusters(*, dim=5, seed=0):
  """Points, random clusters of them, and anchors; no length is 1."""
  rng = np.random.default_rng(seed)
  features = 3.0 * rng.normal(size=(POINTS, dim)).astype(np.float32)
  centers = 0.2 * rng.normal(size=(CLUSTERS, dim)).astype(np.float32)
  assignments = rng.integers(CLUSTERS, size=POINTS).astype(np.int32)
  anchors = 7.0 * rng.normal(size=(3, dim)).astype(np.float32)
  return features, centers, assignments, anchors


ONES = np.ones(POINTS, np.float32)


def pick(
  features,
  centers,
  assignments,
  anchors,
  *,
  weights: Any = ONES,
  num_devices=1,
  **options: Any,
) -> list[int | None]:
  """Returns the pick of each cluster, None where it has none."""
  mesh = make_mesh(num_devices)
  weights = (
    None if weights is None else place_pool(oracle.float32(weights), mesh)
  )
  clusters = Clusters(
    oracle.float32(centers),
    place_pool(assignments, mesh),
    oracle.float32(0.0),
    jnp.asarray(1),
  )
  indices, valid = calibrated_pick(
    place_pool(oracle.float32(features), mesh),
    clusters,
    Anchors(anchors, jnp.eye(len(anchors))),
    weights=weights,
    **options,
  )
  assert indices.dtype == np.int32
  np.testing.assert_array_equal(np.asarray(indices)[~np.asarray(valid)], 0)
  found = zip(indices.tolist(), valid.tolist(), strict=True)
  return [index if is_valid else None for index, is_valid in found]


@functools.cache
def jitted_pick(block_size: int):
  """The function in blocks of a given size, of the first points only."""
  kernel = decern._calibrated_pick.__wrapped__
  return jax.jit(functools.partial(kernel, gamma=0.8, block_size=block_size))


class TestCalibratedPick:
  @each("gamma", [0.0, 0.3, 0.8, 1.0])
  @each("num_devices", [1, 8])
  def test_matches_naive_loop(self, gamma, num_devices):
    arguments = make_clusters()
    expected = oracle.calibrated_pick(*arguments, gamma=gamma)
    assert pick(*arguments, gamma=gamma, num_devices=num_devices) == expected

  def test_weights_may_be_left_out(self):
    arguments = make_clusters()
    expected = oracle.calibrated_pick(*arguments)
    assert pick(*arguments, weights=None) == expected

  @each("num_devices", [1, 8])
  def test_a_cluster_of_one_gives_it_and_an_empty_one_none(self, num_devices):
    features, centers, assignments, anchors = make_clusters()
    assignments = np.where(np.isin(assignments, [2, 5]), 0, assignments)
    assignments[17] = 5
    arguments = features, centers, np.int32(assignments), anchors
    found = pick(*arguments, num_devices=num_devices)
    assert found[2] is None
    assert found[5] == 17
    assert found == oracle.calibrated_pick(*arguments)

  @each("num_devices", [1, 8])
  def test_points_of_weight_zero_set_no_scale(self, num_devices):
    arguments = make_clusters()
    weights = np.random.default_rng(1).uniform(size=POINTS) < 0.5
    found = pick(*arguments, weights=weights, num_devices=num_devices)
    assert found == oracle.calibrated_pick(*arguments, weights=weights)
    assert found != pick(*arguments)

  def test_nothing_that_can_be_picked_gives_nothing(self):
    assert pick(*make_clusters(), weights=0.0 * ONES) == [None] * CLUSTERS

  @each("num_devices", [1, 8])
  def test_lowest_index_comes_first_among_equal_points(self, num_devices):
    features, centers, assignments, anchors = make_clusters()
    features[:] = features[0]
    arguments = features, centers, assignments, anchors
    found = pick(*arguments, num_devices=num_devices)
    firsts = [np.flatnonzero(assignments == k)[0] for k in range(CLUSTERS)]
    assert found == firsts

  @each("block_size", [7, 1000])
  @each("num_points", [37, POINTS])
  def test_is_independent_of_block_size_and_of_further_points(
    self, block_size, num_points
  ):
    features, centers, assignments, anchors = make_clusters()
    expected = oracle.calibrated_pick(
      features[:num_points], centers, assignments[:num_points], anchors
    )
    features[num_points:] = np.nan
    anchors = Anchors(jnp.asarray(anchors), jnp.eye(3))
    indices, valid = jitted_pick(block_size)(
      features, assignments, None, centers, anchors, num_points=num_points
    )
    np.testing.assert_array_equal(valid, [p is not None for p in expected])
    np.testing.assert_array_equal(indices, [p or 0 for p in expected])

  @each("scale", [1e-3, 1e4])
  def test_ignores_lengths(self, scale):
    features, centers, assignments, anchors = make_clusters()
    found = pick(scale * features, centers / scale, assignments, anchors)
    assert found == pick(features, centers, assignments, anchors)

  @pytest.mark.usefixtures("unannotated")
  def test_rejects_what_does_not_fit(self):
    features, centers, assignments, anchors = make_clusters()
    arguments = features, centers, assignments, anchors
    with pytest.raises(ValueError, match=r"`gamma` <= 1\.0, got 1\.5"):
      pick(*arguments, gamma=1.5)
    with pytest.raises(ValueError, match=r"`weights` .* \[60\], got \(7,\)"):
      pick(*arguments, weights=np.ones(7))
    with pytest.raises(ValueError, match=r"assignments` .* \[9\], got \(60,\)"):
      pick(features[:9], *arguments[1:])
    with pytest.raises(ValueError, match=r"clusters.centers` .* got \(8, 5\)"):
      pick(features[:, :4], *arguments[1:])
    with pytest.raises(ValueError, match=r"anchors.features` .* got \(3, 2\)"):
      pick(*arguments[:3], anchors[:, :2])
