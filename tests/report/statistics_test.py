"""Tests of decern_jax/report/statistics.py."""

import math
from typing import Any

import numpy as np
import pytest
import scipy

from decern_jax.ops import multilabel_metrics
from decern_jax.report import statistics
from tests.table import each

# Untyped, as many of their results may be None.
paired_difference: Any = statistics.paired_difference
compare_pairs: Any = statistics.compare_pairs
column_means: Any = statistics.column_means
mean_and_deviation: Any = statistics.mean_and_deviation
bootstrap_macro_f1: Any = statistics.bootstrap_macro_f1

SEEDS = (1, 11, 111, 1111, 11111, 2, 22)


def samples(count: int) -> tuple[dict[int, float], dict[int, float]]:
  rng = np.random.default_rng(0)
  first, second = rng.normal([0.6, 0.5], 0.1, (count, 2)).T
  seeds = SEEDS[:count]
  return (
    dict(zip(seeds, first.tolist(), strict=True)),
    dict(zip(seeds, second.tolist(), strict=True)),
  )


AREAS = {
  "decern": {1: 0.5, 11: 0.45, 111: 0.65},
  "margin": {1: 0.45, 11: 0.45, 111: 0.55},
  "random": {1: 0.4, 11: 0.3, 111: 0.5},
}


class TestAreaUnderBudgetCurve:
  def test_matches_hand_computation(self):
    area = statistics.area_under_budget_curve([10, 20, 40], [0.0, 1.0, 0.5])
    assert area == pytest.approx((10 * 0.5 + 20 * 0.75) / 30)

  def test_constant_metric_is_its_own_area(self):
    area = statistics.area_under_budget_curve([3, 7, 8], [0.4, 0.4, 0.4])
    assert area == pytest.approx(0.4)

  def test_single_round_is_its_metric(self):
    assert statistics.area_under_budget_curve([5], [0.3]) == 0.3

  def test_rejects_other_lengths(self):
    with pytest.raises(ValueError, match=r"\(2,\) and \(1,\)"):
      statistics.area_under_budget_curve([1, 2], [0.5])

  def test_rejects_labels_that_do_not_ascend(self):
    with pytest.raises(ValueError, match=r"\[2, 2\]"):
      statistics.area_under_budget_curve([2, 2], [0.5, 0.6])


class TestLabelsToReach:
  def test_is_between_the_rounds_around(self):
    found = statistics.labels_to_reach([10, 20, 40], [0.2, 0.4, 0.8], 0.5)
    assert found == pytest.approx(25.0)

  @each("target, labels", [(0.4, 20.0), (0.8, 40.0)])
  def test_is_a_round_that_has_the_target(self, target, labels):
    found = statistics.labels_to_reach([10, 20, 40], [0.2, 0.4, 0.8], target)
    assert found == pytest.approx(labels)

  def test_is_none_above_the_curve(self):
    assert statistics.labels_to_reach([10, 20], [0.2, 0.4], 0.41) is None

  def test_is_the_first_number_if_it_starts_there(self):
    assert statistics.labels_to_reach([10, 20], [0.5, 0.4], 0.45) == 10.0

  def test_is_the_first_of_several_crossings(self):
    curve = [0.0, 0.4, 0.1, 0.6]
    found = statistics.labels_to_reach([10, 20, 30, 40], curve, 0.3)
    assert found == pytest.approx(17.5)

  def test_passes_a_flat_part(self):
    found = statistics.labels_to_reach([10, 20, 30], [0.2, 0.2, 0.4], 0.3)
    assert found == pytest.approx(25.0)

  def test_rejects_labels_that_do_not_ascend(self):
    with pytest.raises(ValueError, match=r"\[2, 2\]"):
      statistics.labels_to_reach([2, 2], [0.5, 0.6], 0.5)


class TestMeanAndDeviation:
  def test_matches_numpy(self):
    values = np.random.default_rng(0).uniform(size=(5, 3))
    mean, deviation = mean_and_deviation(values)
    np.testing.assert_allclose(mean, values.mean(axis=0))
    np.testing.assert_allclose(deviation, values.std(axis=0, ddof=1))

  def test_one_run_has_no_deviation(self):
    mean, deviation = mean_and_deviation([[0.2, 0.4]])
    assert mean.tolist() == [0.2, 0.4]
    assert deviation is None

  def test_rejects_no_run(self):
    with pytest.raises(ValueError, match="at least 1 run, got none"):
      mean_and_deviation([])


class TestWilson:
  @each("count", [1, 7, 200, 10_000])
  @each("share", [0.0, 0.25, 0.9, 1.0])
  def test_is_that_of_scipy(self, share, count):
    hits = round(share * count)
    expected = scipy.stats.binomtest(hits, count).proportion_ci(method="wilson")
    found = statistics.wilson(hits / count, count)
    np.testing.assert_allclose(found, expected, atol=1e-9)

  def test_level(self):
    wide = statistics.wilson(0.5, 50, level=0.99)
    narrow = statistics.wilson(0.5, 50, level=0.8)
    assert wide[0] < narrow[0] < 0.5 < narrow[1] < wide[1]


class TestIntervalOfDifference:
  def test_published_example(self):
    # Newcombe 1998, table II, case (a), method 10: 56/70 - 48/80.
    first, last = 48 / 80, 56 / 70
    found = statistics.interval_of_difference(
      *(last, statistics.wilson(last, 70), first, statistics.wilson(first, 80))
    )
    np.testing.assert_allclose(found, (0.0524, 0.3339), atol=5e-5)

  def test_of_equal_values_holds_zero(self):
    interval = statistics.wilson(0.3, 100)
    low, high = statistics.interval_of_difference(0.3, interval, 0.3, interval)
    assert low < 0 < high


class TestBootstrapMacroF1:
  def test_is_around_the_value(self):
    rng = np.random.default_rng(0)
    labels = rng.random((300, 4)) < 0.4
    predicted = labels ^ (rng.random(labels.shape) < 0.2)
    scores = multilabel_metrics.class_f1_scores(predicted, labels)
    low, high = bootstrap_macro_f1(predicted, labels)
    assert low < np.mean(np.asarray(scores, float)) < high
    assert 0.02 < high - low < 0.1

  def test_width_falls_with_the_root_of_the_images(self):
    rng = np.random.default_rng(1)
    labels = rng.random((1600, 3)) < 0.5
    predicted = labels ^ (rng.random(labels.shape) < 0.3)
    widths = [
      np.diff(bootstrap_macro_f1(predicted[:n], labels[:n]))[0]
      for n in (100, 1600)
    ]
    assert 3.0 < widths[0] / widths[1] < 5.5

  def test_is_the_same_each_time(self):
    labels = np.eye(5, dtype=bool)
    first, second = (bootstrap_macro_f1(labels[::-1], labels) for _ in range(2))
    assert first == second

  def test_perfect_predictions_leave_no_doubt(self):
    labels = np.array([[True, False], [False, True], [True, True]])
    assert bootstrap_macro_f1(labels, labels) == (1.0, 1.0)

  def test_a_label_without_a_positive_does_not_count(self):
    labels = np.array([[True, False], [True, False], [False, False]] * 10)
    without = labels[:, :1]
    assert bootstrap_macro_f1(labels, labels) == bootstrap_macro_f1(
      without, without
    )

  def test_none_without_a_positive(self):
    nothing = np.zeros((3, 2), bool)
    assert bootstrap_macro_f1(nothing, nothing) is None


class TestPairedDifference:
  @each("count", [2, 3, 5, 7])
  def test_matches_scipy(self, count):
    first, second = samples(count)
    found = paired_difference(first, second)
    expected = scipy.stats.ttest_rel([*first.values()], [*second.values()])
    interval = expected.confidence_interval(0.95)
    assert found.num_seeds == count
    np.testing.assert_allclose(
      [found.t_test_p, found.low, found.high], [expected.pvalue, *interval]
    )
    np.testing.assert_allclose(found.difference, (found.low + found.high) / 2)

  def test_matches_a_table_of_t(self):
    # Differences 1, 2, 3: mean 2, error 1/√3, and t(2 degrees) is 4.30265.
    found = paired_difference({1: 2, 2: 4, 3: 6}, {1: 1, 2: 2, 3: 3})
    half = 4.30265 / math.sqrt(3)
    expected = [2.0, 2.0 - half, 2.0 + half]
    np.testing.assert_allclose(
      [found.difference, found.low, found.high], expected, rtol=1e-5
    )

  def test_pairs_seeds_whatever_their_order(self):
    first, second = samples(5)
    shuffled = dict(reversed(second.items()))
    expected = paired_difference(first, second)
    assert paired_difference(first, shuffled) == expected

  def test_leaves_out_seeds_of_one_side(self):
    first, second = samples(5)
    expected = paired_difference(first, second)
    found = paired_difference({**first, 7: 9.0}, {8: -9.0, **second})
    assert found == expected

  def test_exchanging_the_sides_changes_the_sign(self):
    first, second = samples(6)
    one = paired_difference(first, second)
    other = paired_difference(second, first)
    np.testing.assert_allclose(
      [other.difference, other.low, other.high],
      [-one.difference, -one.high, -one.low],
    )
    assert other.t_test_p == pytest.approx(one.t_test_p)
    assert other.wilcoxon_p == one.wilcoxon_p

  def test_one_pair_is_not_tested(self):
    found = paired_difference({1: 0.75, 2: 0.5}, {1: 0.5})
    assert found == statistics.Difference(1, 0.25)

  def test_no_pair_has_no_difference(self):
    found = paired_difference({1: 0.5}, {2: 0.5})
    assert found == statistics.Difference(0)

  @each("count", [2, 7])
  def test_no_difference_has_p_of_one(self, count):
    first, _ = samples(count)
    wilcoxon_p = 1.0 if count == 7 else None
    expected = statistics.Difference(count, 0.0, 0.0, 0.0, 1.0, wilcoxon_p)
    assert paired_difference(first, first) == expected
    # A different order of additions is no difference either.
    rounded = {seed: value + 2**-53 for seed, value in first.items()}
    assert paired_difference(rounded, first) == expected
    assert rounded != first

  def test_a_constant_difference_is_certain(self):
    first, _ = samples(3)
    second = {seed: value - 0.25 for seed, value in first.items()}
    found = paired_difference(first, second)
    assert found == statistics.Difference(3, 0.25, 0.25, 0.25, 0.0)


class TestSignedRanks:
  def wilcoxon_p(self, differences) -> float | None:
    first = dict(enumerate(differences))
    return paired_difference(first, dict.fromkeys(first, 0)).wilcoxon_p

  @each("count", [5, 6])
  def test_begin_with_six_seeds(self, count):
    found = self.wilcoxon_p(range(1, count + 1))
    # All signs alike: 2 of the 2⁶ ways to give signs are as extreme.
    assert found == (None if count == 5 else 2 / 2**6)

  def test_match_scipy(self):
    first, second = samples(7)
    _, expected = scipy.stats.wilcoxon([*first.values()], [*second.values()])
    found = paired_difference(first, second).wilcoxon_p
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
    _, expected = scipy.stats.ttest_1samp(values, 0.0)
    assert statistics.t_test_p(values) == pytest.approx(expected)

  @each("values", [[0.0, 0.0, 0.0], [1e-16] * 3, [1e-16, -2e-16, 0.0]])
  def test_is_one_for_no_difference(self, values):
    assert statistics.t_test_p(values) == 1.0

  @each("values", [[0.1, 0.1, 0.1], [-1e-6] * 3, [0.1, 0.1 + 1e-16, 0.1]])
  def test_is_zero_for_a_constant_difference(self, values):
    assert statistics.t_test_p(values) == 0.0

  def test_rejects_one_pair(self):
    with pytest.raises(ValueError, match="at least 2 `differences`, got 1"):
      statistics.t_test_p([0.1])


class TestHolm:
  def test_matches_a_calculation_by_hand(self):
    # Sorted: 0.01 · 4, 0.02 · 3, 0.022 · 2 (raised to 0.06), 0.5 · 1.
    found = statistics.holm([0.02, 0.5, 0.01, 0.022])
    np.testing.assert_allclose(found, [0.06, 0.5, 0.04, 0.06])

  def test_is_at_most_one(self):
    assert statistics.holm([0.6, 0.7]) == [1.0, 1.0]

  def test_keeps_a_single_value(self):
    assert statistics.holm([0.03]) == [0.03]

  def test_of_nothing_is_nothing(self):
    assert statistics.holm([]) == []

  def test_matches_naive_loop(self):
    values = np.random.default_rng(2).uniform(size=15)
    for value, corrected in zip(values, statistics.holm(values), strict=True):
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
          test = scipy.stats.ttest_rel(one, other)
          expected[i, j] += test.pvalue < 0.05 and test.statistic > 0
    found = statistics.penalty_matrix(curves)
    np.testing.assert_allclose(found, expected / 6)
    assert found.any()

  @each("error", [0.0, 2**-53])
  def test_equal_accuracies_are_no_win(self, error):
    curves = {
      "a": {1: [0.5 + error, 0.5], 2: [0.6 + error, 0.7]},
      "b": {1: [0.5, 0.5], 2: [0.6, 0.7]},
    }
    assert not statistics.penalty_matrix(curves).any()

  def test_uses_common_seeds_alone(self):
    curves = make_curves(5)
    expected = statistics.penalty_matrix(curves)
    curves["a"][7] = np.full(6, -100.0)
    np.testing.assert_array_equal(statistics.penalty_matrix(curves), expected)

  def test_pairs_of_one_seed_are_unknown(self):
    curves = {"a": {1: [0.5]}, "b": {1: [0.4]}}
    matrix = statistics.penalty_matrix(curves)
    np.testing.assert_array_equal(matrix, [[0, np.nan], [np.nan, 0]])


class TestColumnMeans:
  def test_counts_the_diagonal(self):
    matrix = np.array([[0.0, 0.5, 1.0], [0.0, 0.0, 0.5], [0.0, 0.25, 0.0]])
    np.testing.assert_allclose(column_means(matrix), [0.0, 0.25, 0.5])

  def test_leaves_out_what_was_not_tested(self):
    matrix = np.array([[0.0, 0.5, np.nan], [0, 0, np.nan], [np.nan] * 2 + [0]])
    assert column_means(matrix) == [0.0, 0.25, None]


class TestComparePairs:
  def test_has_all_pairs_in_order(self):
    found = compare_pairs(["margin", "random", "decern"], AREAS)
    assert [(pair.first, pair.second) for pair in found] == [
      ("margin", "random"),
      ("margin", "decern"),
      ("random", "decern"),
    ]

  def test_corrects_over_all_pairs(self):
    found = compare_pairs([*AREAS], AREAS)
    alone = [
      paired_difference(AREAS[pair.first], AREAS[pair.second]) for pair in found
    ]
    assert [pair.difference for pair in found] == [
      one.difference for one in alone
    ]
    assert [pair.t_test_p for pair in found] == [one.t_test_p for one in alone]
    corrected = statistics.holm([one.t_test_p for one in alone])
    assert [pair.holm_p for pair in found] == corrected
    assert max(corrected) > max(one.t_test_p for one in alone) / 2

  def test_pairs_without_a_test_do_not_count(self):
    areas = {**AREAS, "entropy": {1: 0.2}}
    expected = compare_pairs([*AREAS], AREAS)
    found = compare_pairs([*areas], areas)
    assert [pair for pair in found if pair.second != "entropy"] == expected
    untested = [pair for pair in found if pair.second == "entropy"]
    assert [pair.holm_p for pair in untested] == [None] * 3
    assert untested[0].difference == pytest.approx(0.3)

  def test_one_strategy_has_no_pair(self):
    assert compare_pairs(["random"], AREAS) == []


class TestPairResult:
  def test_flipping_changes_the_signs(self):
    pair = compare_pairs(["decern", "random"], AREAS)[0]
    flipped = pair.flipped()
    assert (flipped.first, flipped.second) == ("random", "decern")
    assert flipped.difference == -pair.difference
    assert (flipped.low, flipped.high) == (-pair.high, -pair.low)
    assert flipped.holm_p == pair.holm_p
    assert flipped.flipped() == pair

  def test_flipping_keeps_what_is_unknown(self):
    areas = {"decern": {1: 0.5}, "random": {2: 0.5}}
    pair = compare_pairs(["decern", "random"], areas)[0]
    assert pair.flipped().flipped() == pair
    assert pair.flipped().low is None
