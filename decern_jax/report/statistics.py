"""Statistics of runs: learning curves, intervals, and tests between strategies.

Two strategies are compared on the seeds that both have: their runs are paired.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import math
from typing import Any

from jaxtyping import Bool, Float
import numpy as np
import scipy

# Below this number of seeds, no p-value of Wilcoxon's test can be under 0.05.
MIN_SEEDS_OF_WILCOXON = 6

SIGNIFICANCE = 0.05
LEVEL = 0.95
NUM_RESAMPLES = 1000

# Metrics are shares in [0, 1]. Differences below this are rounding errors: one
# image of a million is 1e-6.
_DECIMALS = 12

Interval = tuple[float, float]


def area_under_budget_curve(
  num_labeled: Sequence[int], metric: Sequence[float]
) -> float:
  """Returns the mean height of a learning curve (AUBC).

  This is the area under the metric over the number of labels (trapezoids),
  divided by the last number of labels minus the first.

  Args:
    num_labeled: [rounds], ascending.
    metric: [rounds], such as the test accuracy.

  Returns:
    The area, on the metric's scale; the metric itself for a single round.

  Raises:
    ValueError: If the lengths differ or the numbers do not ascend.
  """
  labels, values = _check_curve(num_labeled, metric)
  if labels.size == 1:
    return float(values[0])
  return float(np.trapezoid(values, labels) / (labels[-1] - labels[0]))


def labels_to_reach(
  num_labeled: Sequence[int], metric: Sequence[float], target: float
) -> float | None:
  """Returns how many labels a learning curve needs to reach a value.

  The curve is interpolated linearly between two numbers of labels.

  Args:
    num_labeled: [rounds], ascending.
    metric: [rounds], such as the test accuracy.
    target: The value.

  Returns:
    The first number of labels at which the curve is at the target or above;
    None if there is none.

  Raises:
    ValueError: If the lengths differ or the numbers do not ascend.
  """
  labels, values = _check_curve(num_labeled, metric)
  reached = np.flatnonzero(values >= target)
  if not reached.size:
    return None
  after = reached[0]
  if after == 0:
    return float(labels[0])
  before = after - 1
  fraction = (target - values[before]) / (values[after] - values[before])
  return float(labels[before] + fraction * (labels[after] - labels[before]))


def mean_and_deviation(
  values: np.ndarray | Sequence,
) -> tuple[np.ndarray, np.ndarray | None]:
  """Returns the mean over runs, and the sample standard deviation.

  Args:
    values: float [runs, ...].

  Returns:
    The mean [...], and the deviation [...] with n - 1 in its denominator; the
    deviation of a single run is None.

  Raises:
    ValueError: If there is no run.
  """
  values = np.asarray(values, float)
  if not len(values):
    raise ValueError("Expected `values` of at least 1 run, got none.")
  deviation = values.std(axis=0, ddof=1) if len(values) > 1 else None
  return values.mean(axis=0), deviation


def _check_curve(
  num_labeled: Sequence[int], metric: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
  """Returns a learning curve as arrays; raises if it is not one."""
  labels = np.asarray(num_labeled, float)
  values = np.asarray(metric, float)
  if labels.shape != values.shape or labels.ndim != 1 or not labels.size:
    raise ValueError(
      "Expected `num_labeled` and `metric` of one length, got shapes"
      f" {labels.shape} and {values.shape}."
    )
  if (np.diff(labels) <= 0).any():
    raise ValueError(f"Expected ascending `num_labeled`, got {num_labeled}.")
  return labels, values


def wilson(share: float, count: int, *, level: float = LEVEL) -> Interval:
  """Returns the score interval of a share, such as an accuracy.

  Args:
    share: Fraction of the images, in [0, 1].
    count: Number of images, at least 1.
    level: Confidence level.

  Returns:
    The ends of the interval, in [0, 1].

  References:
    Wilson, "Probable inference, the law of succession, and statistical
    inference", JASA 1927. Brown, Cai and DasGupta, "Interval estimation for a
    binomial proportion", Statistical Science 2001, recommend it.
  """
  test = scipy.stats.binomtest(round(share * count), count)
  interval = test.proportion_ci(level, method="wilson")
  return float(interval.low), float(interval.high)


def interval_of_difference(
  last: float, of_last: Interval, first: float, of_first: Interval
) -> Interval:
  """Returns an interval of the difference of two values.

  It treats the two values as independent. Values measured on the same images
  are not, and the interval is then wider than necessary.

  Returns:
    The ends of the interval of `last - first`.

  References:
    Newcombe, "Interval estimation for the difference between independent
    proportions", Statistics in Medicine 1998, method 10.
  """
  below = math.hypot(last - of_last[0], of_first[1] - first)
  above = math.hypot(of_last[1] - last, first - of_first[0])
  return last - first - below, last - first + above


def bootstrap_macro_f1(
  predicted: Bool[np.ndarray, "rows classes"],
  labels: Bool[np.ndarray, "rows classes"],
  *,
  seed: int = 0,
  num_resamples: int = NUM_RESAMPLES,
  level: float = LEVEL,
) -> Interval | None:
  """Returns the percentile interval of macro F1 over resampled images.

  A class counts in the resamples that contain a positive of it, as in
  `multilabel_metrics.summarize`.

  Returns:
    The ends of the interval; None where no class has a positive.

  References:
    Efron, "Better bootstrap confidence intervals", JASA 1987, section 1.
  """
  if not np.any(labels):
    return None
  count = len(labels)
  rng = np.random.default_rng(seed)
  # How often a resample draws each image: then all sums are matrix products.
  weights = rng.multinomial(count, [1 / count] * count, num_resamples)
  weights = weights.astype(np.float64)
  hits = weights @ (predicted & labels)
  positives = weights @ labels
  sizes = positives + weights @ predicted
  is_counted = positives > 0
  scores = 2 * hits / np.where(is_counted, sizes, 1.0)
  num_counted = is_counted.sum(axis=1)
  means = (scores * is_counted).sum(axis=1)[num_counted > 0]
  means /= num_counted[num_counted > 0]
  tail = (1 - level) / 2
  low, high = np.quantile(means, [tail, 1 - tail])
  return float(low), float(high)


@dataclasses.dataclass(frozen=True)
class Difference:
  """The paired difference of two samples: the first minus the second.

  Attributes:
    num_seeds: Number of pairs.
    difference: Mean of the differences; None without a pair.
    low: Lower end of the mean's 95 % interval; None below 2 pairs.
    high: Upper end.
    t_test_p: p-value of the two-sided paired t-test; None below 2 pairs.
    wilcoxon_p: p-value of the two-sided signed-rank test; None below 6 pairs.
  """

  num_seeds: int
  difference: float | None = None
  low: float | None = None
  high: float | None = None
  t_test_p: float | None = None
  wilcoxon_p: float | None = None


def paired_difference(
  first: Mapping[int, float], second: Mapping[int, float]
) -> Difference:
  """Compares two strategies on the seeds that both have.

  The interval is that of Student's t with n - 1 degrees of freedom. Where all
  differences are 0 up to rounding, the strategies are equal and p is 1; where
  all are the same other value, p is 0.

  Args:
    first: A share, such as the area under the learning curve, by seed.
    second: The same of the other strategy.
  """
  seeds = sorted(set(first) & set(second))
  values = _round([first[seed] - second[seed] for seed in seeds])
  count = len(values)
  if count < 2:
    return Difference(count, float(values[0]) if count else None)
  mean = low = high = float(values.mean())
  if np.ptp(values):
    test = scipy.stats.ttest_1samp(values, 0.0)
    low, high = map(float, test.confidence_interval(LEVEL))
  wilcoxon_p = None
  if count >= MIN_SEEDS_OF_WILCOXON:
    # SciPy's p-value of differences that are all 0 depends on its version.
    wilcoxon_p = _p_value(scipy.stats.wilcoxon(values)) if values.any() else 1.0
  return Difference(count, mean, low, high, t_test_p(values), wilcoxon_p)


def t_test_p(differences: Sequence[float] | np.ndarray) -> float:
  """Returns the p-value of the two-sided paired t-test.

  Args:
    differences: [pairs], differences of shares, at least 2.

  Returns:
    The p-value; 1 if all differences are 0 up to rounding, and 0 if all are
    the same other value.

  Raises:
    ValueError: If there are fewer than 2 pairs.
  """
  values = _round(differences)
  if len(values) < 2:
    raise ValueError(f"Expected at least 2 `differences`, got {len(values)}.")
  if not np.ptp(values):
    return 0.0 if values.any() else 1.0
  return _p_value(scipy.stats.ttest_1samp(values, 0.0))


def _p_value(result: Any) -> float:
  """Returns the p-value of a test of SciPy, which has no type for it."""
  return float(result.pvalue)


def _round(differences: Sequence[float] | np.ndarray) -> np.ndarray:
  """Returns differences without rounding errors.

  Metrics are counts of images divided by their number. Rounding errors must
  neither break ties nor turn equal runs into a constant, certain difference.
  """
  return np.round(np.asarray(differences, float), _DECIMALS)


def holm(p_values: Sequence[float] | np.ndarray) -> list[float]:
  """Corrects p-values for their number by Holm's method.

  The k-th smallest of m p-values, with k from 0, is multiplied by m - k. The
  products are then made non-decreasing, and at most 1.

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


@dataclasses.dataclass(frozen=True)
class PairResult:
  """The difference of the area under the learning curve of two strategies.

  Attributes:
    first: One strategy.
    second: The other.
    num_seeds: Number of seeds that both have.
    difference: Mean of first minus second; None without a common seed.
    low: Lower end of its 95 % interval; None below 2 seeds.
    high: Upper end.
    t_test_p: p-value of the two-sided paired t-test; None below 2 seeds.
    holm_p: The same, corrected for the number of pairs.
    wilcoxon_p: Uncorrected p-value of the signed-rank test; None below 6 seeds.
  """

  first: str
  second: str
  num_seeds: int
  difference: float | None
  low: float | None
  high: float | None
  t_test_p: float | None
  holm_p: float | None
  wilcoxon_p: float | None

  def flipped(self) -> "PairResult":
    """Returns the pair with its strategies exchanged."""
    return dataclasses.replace(
      self,
      first=self.second,
      second=self.first,
      difference=_negate(self.difference),
      low=_negate(self.high),
      high=_negate(self.low),
    )


def compare_pairs(
  names: Sequence[str], areas: Mapping[str, Mapping[int, float]]
) -> list[PairResult]:
  """Tests all pairs of strategies, and corrects for their number.

  Args:
    names: The strategies; a pair has the earlier one first.
    areas: For each strategy, its areas by seed.

  Returns:
    All pairs. Those with fewer than 2 common seeds are not tested, and do not
    count in the correction.
  """
  found = {
    (first, second): paired_difference(areas[first], areas[second])
    for index, first in enumerate(names)
    for second in names[index + 1 :]
  }
  p_values = {
    key: pair.t_test_p
    for key, pair in found.items()
    if pair.t_test_p is not None
  }
  corrected = holm(list(p_values.values()))
  holm_p = dict(zip(p_values, corrected, strict=True))
  return [
    PairResult(*key, holm_p=holm_p.get(key), **vars(pair))
    for key, pair in found.items()
  ]


def penalty_matrix(
  curves: Mapping[str, Mapping[int, Sequence[float] | np.ndarray]],
) -> Float[np.ndarray, "strategies strategies"]:
  """Returns the share of the budgets at which a strategy beats another.

  Strategy i beats j at a budget if its mean over the common seeds is higher,
  and the paired t-test has p < 0.05.

  Args:
    curves: For each strategy, its metric by seed, [budgets].

  Returns:
    The share at which the strategy of the row beats that of the column: 0 on
    the diagonal, NaN for pairs with fewer than 2 common seeds. The mean of a
    column, with its diagonal, says how often that strategy is beaten.

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


def column_means(
  matrix: Float[np.ndarray, "strategies strategies"],
) -> list[float | None]:
  """Returns the mean of each column of a penalty matrix.

  Args:
    matrix: As returned by `penalty_matrix`.

  Returns:
    The means over the values that are not NaN; None where no pair was tested.
  """
  means = []
  for index, column in enumerate(matrix.T):
    is_tested = ~np.isnan(column)
    has_pair = np.delete(is_tested, index).any()
    means.append(float(column[is_tested].mean()) if has_pair else None)
  return means


def _share_won(
  first: Mapping[int, Sequence[float] | np.ndarray],
  second: Mapping[int, Sequence[float] | np.ndarray],
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


def _negate(value: float | None) -> float | None:
  return None if value is None else -value
