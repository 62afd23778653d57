"""Tests of `report.statistics`."""

import numpy as np
import pytest

from decern_jax.report import statistics
from tests.table import each


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
    mean, deviation = statistics.mean_and_deviation(values)
    np.testing.assert_allclose(mean, values.mean(axis=0))
    np.testing.assert_allclose(deviation, values.std(axis=0, ddof=1))

  def test_one_run_has_no_deviation(self):
    mean, deviation = statistics.mean_and_deviation([[0.2, 0.4]])
    assert mean.tolist() == [0.2, 0.4]
    assert deviation is None

  def test_rejects_no_run(self):
    with pytest.raises(ValueError, match="at least 1 run, got none"):
      statistics.mean_and_deviation([])
