"""Intervals of what is measured on a finite number of images."""

import math
from statistics import NormalDist

import numpy as np

LEVEL = 0.95
NUM_RESAMPLES = 1000

Interval = tuple[float, float]


def wilson(share: float, count: int, *, level: float = LEVEL) -> Interval:
  """Returns the score interval of a share, such as an accuracy.

  Args:
    share: Of the images, in [0, 1].
    count: The images, 1 or more.
    level: The confidence.

  Returns:
    Its ends, in [0, 1].

  References:
    Wilson, "Probable inference, the law of succession, and statistical
    inference", JASA 1927. Brown, Cai and DasGupta, "Interval estimation for a
    binomial proportion", Statistical Science 2001, recommend it.
  """
  z = NormalDist().inv_cdf(0.5 + level / 2)
  middle = share + z**2 / (2 * count)
  half = z * math.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
  scale = 1 + z**2 / count
  low, high = (middle - half) / scale, (middle + half) / scale
  return max(0.0, low), min(1.0, high)


def difference(
  last: float, of_last: Interval, first: float, of_first: Interval
) -> Interval:
  """Returns an interval of the difference of two values.

  The distances of the ends are added as if the values were independent. Where
  both were measured on the same images they are not, and the interval is wider
  than it need be.

  Args:
    last: The value that counts positive.
    of_last: Its interval.
    first: The value that is taken from it.
    of_first: Its interval.

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
  predicted: np.ndarray,
  labels: np.ndarray,
  *,
  seed: int = 0,
  num_resamples: int = NUM_RESAMPLES,
  level: float = LEVEL,
) -> Interval | None:
  """Returns the percentile interval of macro F1 over resampled images.

  A label counts in the resamples that have a positive of it, as in
  `multilabel_metrics.summarize`.

  Args:
    predicted: bool [rows, classes].
    labels: bool [rows, classes].
    seed: Of the resamples.
    num_resamples: How many there are.
    level: The confidence.

  Returns:
    Its ends; None where no label has a positive.

  References:
    Efron, "Better bootstrap confidence intervals", JASA 1987, section 1.
  """
  if not np.any(labels):
    return None
  count = len(labels)
  rng = np.random.default_rng(seed)
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
