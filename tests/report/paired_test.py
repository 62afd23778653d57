"""Tests of decern_jax/report/paired.py."""

import math

import numpy as np
import pytest
from scipy import stats

from decern_jax.report import paired
from tests.table import each

SEEDS = (1, 11, 111, 1111, 11111, 2, 22)


def samples(count: int) -> tuple[dict[int, float], dict[int, float]]:
  rng = np.random.default_rng(0)
  first, second = rng.normal([0.6, 0.5], 0.1, (count, 2)).T
  seeds = SEEDS[:count]
  return (
    dict(zip(seeds, first.tolist(), strict=True)),
    dict(zip(seeds, second.tolist(), strict=True)),
  )


class TestPairedDifference:
  @each("count", [2, 3, 5, 7])
  def test_matches_scipy(self, count):
    first, second = samples(count)
    found = paired.paired_difference(first, second)
    expected = stats.ttest_rel([*first.values()], [*second.values()])
    interval = expected.confidence_interval(0.95)
    assert found.num_seeds == count
    np.testing.assert_allclose(
      [found.t_test_p, found.low, found.high], [expected.pvalue, *interval]
    )
    np.testing.assert_allclose(found.mean, (found.low + found.high) / 2)

  def test_matches_a_table_of_t(self):
    # Differences 1, 2, 3: mean 2, error 1/√3, and t(2 degrees) is 4.30265.
    found = paired.paired_difference({1: 2, 2: 4, 3: 6}, {1: 1, 2: 2, 3: 3})
    half = 4.30265 / math.sqrt(3)
    expected = [2.0, 2.0 - half, 2.0 + half]
    np.testing.assert_allclose(found[1:4], expected, rtol=1e-5)

  def test_pairs_seeds_whatever_their_order(self):
    first, second = samples(5)
    shuffled = dict(reversed(second.items()))
    expected = paired.paired_difference(first, second)
    assert paired.paired_difference(first, shuffled) == expected

  def test_leaves_out_seeds_of_one_side(self):
    first, second = samples(5)
    expected = paired.paired_difference(first, second)
    found = paired.paired_difference({**first, 7: 9.0}, {8: -9.0, **second})
    assert found == expected

  def test_exchanging_the_sides_changes_the_sign(self):
    first, second = samples(6)
    one = paired.paired_difference(first, second)
    other = paired.paired_difference(second, first)
    np.testing.assert_allclose(
      [other.mean, other.low, other.high], [-one.mean, -one.high, -one.low]
    )
    assert other.t_test_p == pytest.approx(one.t_test_p)
    assert other.wilcoxon_p == one.wilcoxon_p

  def test_one_pair_is_not_tested(self):
    found = paired.paired_difference({1: 0.75, 2: 0.5}, {1: 0.5})
    assert found == (1, 0.25, None, None, None, None)

  def test_no_pair_has_no_difference(self):
    found = paired.paired_difference({1: 0.5}, {2: 0.5})
    assert found == (0, None, None, None, None, None)

  @each("count", [2, 7])
  def test_no_difference_has_p_of_one(self, count):
    first, _ = samples(count)
    found = paired.paired_difference(first, first)
    assert found[:5] == (count, 0.0, 0.0, 0.0, 1.0)
    assert found.wilcoxon_p == (1.0 if count == 7 else None)


class TestSignedRanks:
  def wilcoxon_p(self, differences) -> float | None:
    first = dict(enumerate(differences))
    return paired.paired_difference(first, dict.fromkeys(first, 0)).wilcoxon_p

  @each("count", [5, 6])
  def test_begin_with_six_seeds(self, count):
    found = self.wilcoxon_p(range(1, count + 1))
    # All signs alike: 2 of the 2⁶ ways to give signs are as extreme.
    assert found == (None if count == 5 else 2 / 2**6)

  def test_match_scipy(self):
    first, second = samples(7)
    expected = stats.wilcoxon([*first.values()], [*second.values()]).pvalue
    found = paired.paired_difference(first, second).wilcoxon_p
    assert found == pytest.approx(expected)

  def test_count_ties_as_ties(self):
    differences = [1, 1, 1, 1, 1, -1]
    # The sum of the negative ranks is 3.5 or less in 1 + 6 of 2⁶ ways.
    assert self.wilcoxon_p(differences) == pytest.approx(2 * 7 / 2**6)
    noisy = np.array(differences) + [1e-15, 0, 3e-15, 0, 2e-15, 4e-15]
    assert self.wilcoxon_p(noisy) == self.wilcoxon_p(differences)


class TestTTestP:
  def test_matches_scipy(self):
    values = np.random.default_rng(1).normal(0.3, 1.0, 9)
    expected = stats.ttest_1samp(values, 0.0).pvalue
    assert paired.t_test_p(values) == pytest.approx(expected)

  def test_is_one_for_no_difference(self):
    assert paired.t_test_p([0.0, 0.0, 0.0]) == 1.0

  def test_is_zero_for_a_constant_difference(self):
    assert paired.t_test_p([0.1, 0.1, 0.1]) == 0.0

  def test_rejects_one_pair(self):
    with pytest.raises(ValueError, match="at least 2 `differences`, got 1"):
      paired.t_test_p([0.1])


class TestHolm:
  def test_matches_a_calculation_by_hand(self):
    # Sorted: 0.01 · 4, 0.02 · 3, 0.022 · 2 (raised to 0.06), 0.5 · 1.
    found = paired.holm([0.02, 0.5, 0.01, 0.022])
    np.testing.assert_allclose(found, [0.06, 0.5, 0.04, 0.06])

  def test_is_at_most_one(self):
    assert paired.holm([0.6, 0.7]) == [1.0, 1.0]

  def test_keeps_a_single_value(self):
    assert paired.holm([0.03]) == [0.03]

  def test_of_nothing_is_nothing(self):
    assert paired.holm([]) == []

  def test_matches_naive_loop(self):
    values = np.random.default_rng(2).uniform(size=15)
    for value, corrected in zip(values, paired.holm(values), strict=True):
      smaller = [p for p in values if p <= value]
      factors = [(values >= p).sum() for p in smaller]
      expected = max(f * p for f, p in zip(factors, smaller, strict=True))
      assert corrected == pytest.approx(min(1.0, expected))


def make_curves(num_seeds: int) -> dict[str, dict[int, np.ndarray]]:
  """Returns four strategies on six budgets, further apart at each."""
  rng = np.random.default_rng(3)
  return {
    name: {
      seed: level * np.arange(6) + rng.normal(0.0, 0.05, 6)
      for seed in range(num_seeds)
    }
    for level, name in zip([0.03, 0.0, 0.02, 0.025], "abcd", strict=True)
  }


class TestPenaltyMatrix:
  @each("num_seeds", [2, 5])
  def test_matches_naive_loop(self, num_seeds):
    curves = make_curves(num_seeds)
    expected = np.zeros((4, 4))
    for i, first in enumerate(curves.values()):
      for j, second in enumerate(curves.values()):
        for budget in range(6 if i != j else 0):
          one = [first[seed][budget] for seed in first]
          other = [second[seed][budget] for seed in first]
          test = stats.ttest_rel(one, other)
          expected[i, j] += test.pvalue < 0.05 and test.statistic > 0
    found = paired.penalty_matrix(curves)
    np.testing.assert_allclose(found, expected / 6)
    assert found.any()

  def test_equal_accuracies_are_no_win(self):
    curves = {"a": {1: [0.5, 0.5], 2: [0.6, 0.7]}}
    curves["b"] = curves["a"]
    assert not paired.penalty_matrix(curves).any()

  def test_uses_common_seeds_alone(self):
    curves = make_curves(5)
    expected = paired.penalty_matrix(curves)
    curves["a"][7] = np.full(6, -100.0)
    np.testing.assert_array_equal(paired.penalty_matrix(curves), expected)

  def test_pairs_of_one_seed_are_unknown(self):
    curves = {"a": {1: [0.5]}, "b": {1: [0.4]}}
    matrix = paired.penalty_matrix(curves)
    np.testing.assert_array_equal(matrix, [[0, np.nan], [np.nan, 0]])


class TestColumnMeans:
  def test_counts_the_diagonal(self):
    matrix = np.array([[0.0, 0.5, 1.0], [0.0, 0.0, 0.5], [0.0, 0.25, 0.0]])
    np.testing.assert_allclose(paired.column_means(matrix), [0.0, 0.25, 0.5])

  def test_leaves_out_what_was_not_tested(self):
    matrix = np.array([[0.0, 0.5, np.nan], [0, 0, np.nan], [np.nan] * 2 + [0]])
    assert paired.column_means(matrix) == [0.0, 0.25, None]
