"""Tests between strategies whose runs are paired by seed."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

# Below this number of seeds, no p-value of Wilcoxon's test can be under 0.05.
MIN_SEEDS_OF_WILCOXON = 6

SIGNIFICANCE = 0.05
_CONFIDENCE = 0.95


class Difference(NamedTuple):
  """The paired difference of two samples: the first minus the second.

  Attributes:
    num_seeds: Pairs.
    mean: Mean of the differences; None without any pair.
    low: Lower end of the mean's 95 % interval; None below 2 pairs.
    high: Upper end.
    t_test_p: p-value of the two-sided paired t-test; None below 2 pairs.
    wilcoxon_p: p-value of the two-sided signed-rank test; None below 6 pairs.
  """

  num_seeds: int
  mean: float | None
  low: float | None
  high: float | None
  t_test_p: float | None
  wilcoxon_p: float | None


def paired_difference(
  first: Mapping[int, float], second: Mapping[int, float]
) -> Difference:
  """Compares two strategies on the seeds that both have.

  With n differences of mean m and standard deviation s (n - 1 in its
  denominator), the interval is m ± t s / √n, t being the 97.5 % quantile of
  Student's distribution of n - 1 degrees of freedom. Where all differences are
  0, nothing speaks against equality, and p is 1, where the formula has 0 / 0;
  where all are equal and not 0, p is 0.

  Args:
    first: A value, such as the area under the learning curve, by seed.
    second: The same of the other strategy.

  Returns:
    The difference and its tests.
  """
  seeds = sorted(set(first) & set(second))
  differences = np.array([first[seed] - second[seed] for seed in seeds])
  count = len(seeds)
  if count < 2:
    mean = float(differences[0]) if count else None
    return Difference(count, mean, None, None, None, None)
  mean = float(differences.mean())
  error = float(differences.std(ddof=1) / np.sqrt(count))
  half = error * stats.t.ppf((1 + _CONFIDENCE) / 2, count - 1)
  return Difference(
    count,
    mean,
    float(mean - half),
    float(mean + half),
    t_test_p(differences),
    _wilcoxon_p(differences),
  )


def t_test_p(differences: Sequence[float] | np.ndarray) -> float:
  """Returns the p-value of the two-sided paired t-test.

  Args:
    differences: [pairs], at least 2.

  Returns:
    The p-value; 1 if all differences are 0, and 0 if all are another value.

  Raises:
    ValueError: If there are fewer than 2 pairs.
  """
  differences = np.asarray(differences, float)
  count = len(differences)
  if count < 2:
    raise ValueError(f"Expected at least 2 `differences`, got {count}.")
  if not differences.any():
    return 1.0
  if np.ptp(differences) == 0.0:
    return 0.0
  error = differences.std(ddof=1) / np.sqrt(count)
  return float(2 * stats.t.sf(abs(differences.mean()) / error, count - 1))


def holm(p_values: Sequence[float]) -> list[float]:
  """Corrects p-values for their number, as Holm does.

  The k-th smallest of m, from 0 on, is multiplied by m - k; none becomes
  smaller than one before it, nor larger than 1.

  Args:
    p_values: [tests], in [0, 1].

  Returns:
    The corrected p-values, in the same order.

  References:
    Holm, "A simple sequentially rejective multiple test procedure",
    Scandinavian Journal of Statistics 6(2), 1979.
  """
  p_values = np.asarray(p_values, float)
  order = np.argsort(p_values, kind="stable")
  factors = len(p_values) - np.arange(len(p_values))
  corrected = np.empty(len(p_values))
  scaled = np.minimum(1.0, factors * p_values[order])
  corrected[order] = np.maximum.accumulate(scaled)
  return corrected.tolist()


def penalty_matrix(
  curves: Mapping[str, Mapping[int, Sequence[float]]],
) -> np.ndarray:
  """Returns at which share of the budgets a strategy beats another.

  Strategy i beats j at a budget if its mean over the seeds that both have is
  higher, and the paired t-test has p < 0.05.

  Args:
    curves: For each strategy, its metric by seed, [budgets].

  Returns:
    float [strategies, strategies]: row i, column j for i beating j; 0 on the
    diagonal, NaN where a pair has fewer than 2 seeds in common. The mean of a
    column, its diagonal included, tells how often that strategy is beaten.

  References:
    Ash et al., "Deep Batch Active Learning by Diverse, Uncertain Gradient Lower
    Bounds", ICLR 2020, https://arxiv.org/abs/1906.03671.
  """
  names = list(curves)
  matrix = np.zeros((len(names), len(names)))
  for row, first in enumerate(names):
    for column, second in enumerate(names):
      if row != column:
        matrix[row, column] = _share_won(curves[first], curves[second])
  return matrix


def column_means(matrix: np.ndarray) -> list[float | None]:
  """Returns the mean of each column of a penalty matrix.

  Args:
    matrix: float [strategies, strategies], as of `penalty_matrix`.

  Returns:
    The means over what is not NaN; None where no pair could be tested.
  """
  means = []
  for position, column in enumerate(matrix.T):
    tested = ~np.isnan(column)
    others = np.delete(tested, position)
    means.append(float(column[tested].mean()) if others.any() else None)
  return means


def _share_won(
  first: Mapping[int, Sequence[float]], second: Mapping[int, Sequence[float]]
) -> float:
  """Returns the share of budgets at which the first beats the second."""
  seeds = sorted(set(first) & set(second))
  if len(seeds) < 2:
    return float("nan")
  differences = np.array(
    [np.subtract(first[seed], second[seed]) for seed in seeds]
  )
  won = [
    column.mean() > 0 and t_test_p(column) < SIGNIFICANCE
    for column in differences.T
  ]
  return float(np.mean(won))


def _wilcoxon_p(differences: np.ndarray) -> float | None:
  """Returns the p-value of the signed-rank test, None of too few pairs."""
  if len(differences) < MIN_SEEDS_OF_WILCOXON:
    return None
  if not differences.any():
    return 1.0
  # Accuracies are counts of images: rounding errors must not break their ties.
  return float(stats.wilcoxon(differences.round(12)).pvalue)
