"""Tests of decern_jax/report/intervals.py."""

import numpy as np
from scipy import stats

from decern_jax.ops import multilabel_metrics
from decern_jax.report import intervals
from tests.table import each


class TestWilson:
  @each("count", [1, 7, 200, 10_000])
  @each("share", [0.0, 0.25, 0.9, 1.0])
  def test_is_that_of_scipy(self, share, count):
    hits = round(share * count)
    expected = stats.binomtest(hits, count).proportion_ci(method="wilson")
    found = intervals.wilson(hits / count, count)
    np.testing.assert_allclose(found, expected, atol=1e-9)

  def test_level(self):
    wide = intervals.wilson(0.5, 50, level=0.99)
    narrow = intervals.wilson(0.5, 50, level=0.8)
    assert wide[0] < narrow[0] < 0.5 < narrow[1] < wide[1]


class TestDifference:
  def test_published_example(self):
    # Newcombe 1998, table II, case (a), method 10: 56/70 - 48/80.
    first, last = 48 / 80, 56 / 70
    found = intervals.difference(
      *(last, intervals.wilson(last, 70), first, intervals.wilson(first, 80))
    )
    np.testing.assert_allclose(found, (0.0524, 0.3339), atol=5e-5)

  def test_of_equal_values_holds_zero(self):
    interval = intervals.wilson(0.3, 100)
    low, high = intervals.difference(0.3, interval, 0.3, interval)
    assert low < 0 < high


class TestBootstrapMacroF1:
  def test_is_around_the_value(self):
    rng = np.random.default_rng(0)
    labels = rng.random((300, 4)) < 0.4
    predicted = labels ^ (rng.random(labels.shape) < 0.2)
    scores = multilabel_metrics.class_f1_scores(predicted, labels)
    low, high = intervals.bootstrap_macro_f1(predicted, labels)
    assert low < np.mean(scores) < high
    assert 0.02 < high - low < 0.1

  def test_width_falls_with_the_root_of_the_images(self):
    rng = np.random.default_rng(1)
    labels = rng.random((1600, 3)) < 0.5
    predicted = labels ^ (rng.random(labels.shape) < 0.3)
    widths = [
      np.diff(intervals.bootstrap_macro_f1(predicted[:n], labels[:n]))[0]
      for n in (100, 1600)
    ]
    assert 3.0 < widths[0] / widths[1] < 5.5

  def test_is_the_same_each_time(self):
    labels = np.eye(5, dtype=bool)
    first, second = (
      intervals.bootstrap_macro_f1(labels[::-1], labels) for _ in range(2)
    )
    assert first == second

  def test_perfect_predictions_leave_no_doubt(self):
    labels = np.array([[True, False], [False, True], [True, True]])
    assert intervals.bootstrap_macro_f1(labels, labels) == (1.0, 1.0)

  def test_a_label_without_a_positive_does_not_count(self):
    labels = np.array([[True, False], [True, False], [False, False]] * 10)
    without = labels[:, :1]
    assert intervals.bootstrap_macro_f1(
      labels, labels
    ) == intervals.bootstrap_macro_f1(without, without)

  def test_none_without_a_positive(self):
    nothing = np.zeros((3, 2), bool)
    assert intervals.bootstrap_macro_f1(nothing, nothing) is None
