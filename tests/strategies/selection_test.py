"""Tests of decern_jax/strategies/selection.py."""

import contextlib

import jax
import numpy as np
import pytest

from decern_jax.distributed.sharding import make_mesh, place_pool
from decern_jax.strategies import selection
from decern_jax.strategies.scoring import discrepancy_confusion
from decern_jax.strategies.selection import (
  check_budget,
  select_by_score,
  select_decern,
)
from tests import oracle
from tests.table import each

# No multiple of a number of shards.
POOL = 43
PROBLEM = oracle.make_problem(pool=POOL)


def select(problem=PROBLEM, *, seed=0, **options) -> np.ndarray:
  key = jax.random.key(seed)
  return np.asarray(select_decern(key, *problem.pool, **options))


def assert_distinct(positions, budget, valid=None) -> None:
  """Exactly `budget` distinct positions, of rows that exist."""
  assert positions.dtype == np.int32
  assert positions.shape == (budget,)
  assert len(np.unique(positions)) == budget
  valid = np.ones(POOL, bool) if valid is None else valid
  assert valid[positions].all()


@contextlib.contextmanager
def compilations():
  """Collects the compilations of programs while it is open."""
  found = []

  def listen(event, duration, **kwargs):
    del duration, kwargs
    if event == "/jax/core/compile/backend_compile_duration":
      found.append(event)

  jax.monitoring.register_event_duration_secs_listener(listen)
  try:
    yield found
  finally:
    jax.monitoring.unregister_event_duration_listener(listen)


class TestSelectDecern:
  @each("budget", [1, 5, POOL - 1, POOL])
  def test_gives_exactly_the_budget(self, budget):
    assert_distinct(select(budget=budget), budget)

  def test_budget_of_the_pool_gives_all_of_it(self):
    found = select(budget=POOL)
    np.testing.assert_array_equal(np.sort(found), np.arange(POOL))

  @each("num_valid", [5, 6, 30, POOL])
  def test_selects_valid_rows_alone(self, num_valid):
    valid = np.random.default_rng(0).permutation(POOL) < num_valid
    found = select(budget=5, valid=valid)
    assert_distinct(found, 5, valid)
    if num_valid == 5:
      np.testing.assert_array_equal(np.sort(found), np.flatnonzero(valid))

  def test_picks_are_candidates(self):
    scores = oracle.discrepancy_confusion(PROBLEM)
    candidates = oracle.candidates(scores, budget=5)
    assert 5 < len(candidates) < POOL
    found = select(budget=5)
    assert np.isin(found, candidates).all()

  def test_exactly_as_many_candidates_as_budget_are_all_taken(self):
    scores = oracle.discrepancy_confusion(PROBLEM)
    candidates = oracle.candidates(scores, budget=1)
    found = select(budget=len(candidates))
    np.testing.assert_array_equal(np.sort(found), candidates)

  def test_fewer_candidates_than_budget_give_the_highest_scores(self):
    scores = oracle.discrepancy_confusion(PROBLEM)
    assert len(oracle.candidates(scores, budget=1)) < POOL - 1
    np.testing.assert_array_equal(
      select(budget=POOL - 1), np.argsort(-scores)[: POOL - 1]
    )

  @each("budget", [1, 5, POOL - 1])
  def test_equal_rows_give_distinct_positions(self, budget):
    problem = PROBLEM._replace(
      features=np.repeat(PROBLEM.features[:1], POOL, axis=0),
      probs=np.repeat(PROBLEM.probs[:1], POOL, axis=0),
    )
    found = select(problem, budget=budget, uncertainty_gamma=-3.0)
    assert_distinct(found, budget)

  def test_few_distinct_rows_are_filled_up(self):
    # Three kinds of rows; the one that scores highest makes the candidates.
    kinds = np.arange(POOL) % 3
    problem = PROBLEM._replace(
      features=PROBLEM.features[kinds], probs=PROBLEM.probs[kinds]
    )
    for seed in range(3):
      found = select(problem, budget=5, uncertainty_gamma=0.0, seed=seed)
      assert_distinct(found, 5)
      assert len(np.unique(kinds[found])) > 1

  def test_zero_features_give_distinct_positions(self):
    problem = PROBLEM._replace(features=np.zeros_like(PROBLEM.features))
    assert_distinct(select(problem, budget=5), 5)

  def test_depends_on_the_key_alone(self):
    first = select(budget=5)
    np.testing.assert_array_equal(select(budget=5), first)
    others = [set(select(budget=5, seed=seed)) for seed in range(1, 6)]
    assert any(other != set(first) for other in others)

  @each("num_devices, budget", [(2, 5), (8, 5), (8, POOL - 1)])
  def test_is_independent_of_shard_count(self, num_devices, budget):
    mesh = make_mesh(num_devices)
    found = select_decern(
      jax.random.key(0),
      place_pool(PROBLEM.features, mesh),
      place_pool(PROBLEM.probs, mesh),
      *PROBLEM.pool[2:],
      budget=budget,
      valid=place_pool(np.ones(POOL, bool), mesh),
    )
    np.testing.assert_array_equal(found, select(budget=budget))

  def test_is_independent_of_rows_that_do_not_exist(self):
    rows = np.flatnonzero(np.arange(POOL) % 3 != 1)
    valid = np.isin(np.arange(POOL), rows)
    features = np.where(valid[:, None], PROBLEM.features, np.nan)
    probs = np.where(valid[:, None], PROBLEM.probs, np.nan)
    padded = select(
      PROBLEM._replace(features=features, probs=probs), budget=5, valid=valid
    )
    alone = select(
      PROBLEM._replace(
        features=PROBLEM.features[rows], probs=PROBLEM.probs[rows]
      ),
      budget=5,
    )
    np.testing.assert_array_equal(padded, rows[alone])

  def test_works_inside_of_a_users_jit(self):
    arrays = PROBLEM.features, PROBLEM.probs, np.ones(POOL, bool)
    arrays = [place_pool(array, make_mesh(4)) for array in arrays]

    @jax.jit
    def run(key, features, probs, valid, anchors, head):
      return select_decern(
        key, features, probs, anchors, head, budget=5, valid=valid
      )

    found = run(jax.random.key(0), *arrays, *PROBLEM.pool[2:])
    np.testing.assert_array_equal(found, select(budget=5))

  @pytest.mark.usefixtures("unannotated")
  def test_accepts_other_types_of_numbers(self):
    rounded = PROBLEM._replace(features=np.round(PROBLEM.features))
    expected = select(rounded, budget=5)
    for dtype in (np.float64, np.int32, np.float16):
      cast = rounded._replace(features=rounded.features.astype(dtype))
      np.testing.assert_array_equal(
        select(cast, budget=np.int64(5), uncertainty_gamma=np.float32(0.5)),
        expected,
      )

  def test_a_shrinking_pool_compiles_once(self):
    problem = oracle.make_problem(pool=61, dim=29)
    arrays = problem.features, problem.probs
    features, probs = (place_pool(array, make_mesh(4)) for array in arrays)
    valid = np.arange(len(features)) < 61
    counts = []
    for round_num in range(8):
      with compilations() as found:
        positions = select_decern(
          jax.random.key(round_num),
          features,
          probs,
          *problem.pool[2:],
          budget=7,
          valid=place_pool(valid, make_mesh(4)),
        )
      counts.append(len(found))
      valid[np.asarray(positions)] = False
    assert valid.sum() == 61 - 8 * 7
    assert counts[0] > 0
    assert counts[1:] == [0] * 7

  @pytest.mark.usefixtures("unannotated")
  def test_rejects_what_does_not_fit(self):
    with pytest.raises(ValueError, match="`budget` <= 43, got 44"):
      select(budget=44)
    with pytest.raises(ValueError, match="1 <= `budget` <= 43, got 0"):
      select(budget=0)
    with pytest.raises(ValueError, match=r"an integer .*`budget`.* got 5\.0"):
      select(budget=5.0)
    with pytest.raises(ValueError, match="`budget` <= 3 valid rows, got 4"):
      select(budget=4, valid=np.arange(POOL) < 3)
    with pytest.raises(ValueError, match=r"`valid` .* \[43\], got \(42,\)"):
      select(budget=4, valid=np.ones(42, bool))
    with pytest.raises(ValueError, match=r"`probs` .* got \(42, 5\)"):
      select(PROBLEM._replace(probs=PROBLEM.probs[:42]), budget=4)
    with pytest.raises(ValueError, match="`diversity_gamma` <= 1.0, got -0.1"):
      select(budget=4, diversity_gamma=-0.1)
    with pytest.raises(ValueError, match="`uncertainty_gamma`, got nan"):
      select(budget=4, uncertainty_gamma=float("nan"))

  def test_rejects_before_it_scores(self, monkeypatch):
    monkeypatch.delattr(selection, "discrepancy_confusion")
    with pytest.raises(ValueError, match="`diversity_gamma` <= 1.0, got 7.0"):
      select(budget=4, diversity_gamma=7.0)


class TestSelectByScore:
  def test_is_what_select_decern_does_with_its_scores(self, key):
    features, _, anchors, _ = PROBLEM.pool
    scores = discrepancy_confusion(*PROBLEM.pool)
    found = select_by_score(key, features, scores, anchors, budget=5)
    np.testing.assert_array_equal(found, select(budget=5))

  def test_rejects_what_does_not_fit(self, key):
    features, _, anchors, _ = PROBLEM.pool
    scores = np.ones(POOL)
    with pytest.raises(ValueError, match=r"`scores` .* \[43\], got \(9,\)"):
      select_by_score(key, features, scores[:9], anchors, budget=5)
    with pytest.raises(ValueError, match=r"`valid` .* \[43\], got \(9,\)"):
      select_by_score(
        key, features, scores, anchors, budget=5, valid=np.ones(9, bool)
      )
    with pytest.raises(ValueError, match=r"`anchors.features` .* got \(5, 37"):
      select_by_score(key, features[:, :9], scores, anchors, budget=5)
    with pytest.raises(ValueError, match="`budget` <= 43, got 50"):
      select_by_score(key, features, scores, anchors, budget=50)


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
