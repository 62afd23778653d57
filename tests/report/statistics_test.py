"""Tests of `report.statistics`."""

import pytest

from decern_jax.report import statistics


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
