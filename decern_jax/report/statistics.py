"""Figures that sum up runs of one strategy."""

from collections.abc import Sequence

import numpy as np


def area_under_budget_curve(
  num_labeled: Sequence[int], metric: Sequence[float]
) -> float:
  """Returns the mean height of a learning curve (AUBC).

  The trapezoid of the metric over the number of labels, divided by the last
  number minus the first.

  Args:
    num_labeled: [rounds], ascending.
    metric: [rounds], such as the test accuracy.

  Returns:
    The area, on the metric's scale; the metric itself for a single round.

  Raises:
    ValueError: If the lengths differ or the numbers do not ascend.
  """
  labels, values = _curve(num_labeled, metric)
  if labels.size == 1:
    return float(values[0])
  return float(np.trapezoid(values, labels) / (labels[-1] - labels[0]))


def labels_to_reach(
  num_labeled: Sequence[int], metric: Sequence[float], target: float
) -> float | None:
  """Returns how many labels a learning curve needs to reach a value.

  Between two numbers of labels the curve is a straight line.

  Args:
    num_labeled: [rounds], ascending.
    metric: [rounds], such as the test accuracy.
    target: The value.

  Returns:
    The number at which the curve first is at the target or above it; the first
    number if it starts there; None if it never is.

  Raises:
    ValueError: If the lengths differ or the numbers do not ascend.
  """
  labels, values = _curve(num_labeled, metric)
  reached = np.flatnonzero(values >= target)
  if not reached.size:
    return None
  after = reached[0]
  if after == 0:
    return float(labels[0])
  before = after - 1
  part = (target - values[before]) / (values[after] - values[before])
  return float(labels[before] + part * (labels[after] - labels[before]))


def mean_and_deviation(
  values: np.ndarray | Sequence[Sequence[float]],
) -> tuple[np.ndarray, np.ndarray | None]:
  """Returns the mean over runs, and the sample's standard deviation.

  Args:
    values: float [runs, ...].

  Returns:
    Two arrays [...]; no deviation, but None, for a single run.

  Raises:
    ValueError: If there is no run.
  """
  values = np.asarray(values, float)
  if not len(values):
    raise ValueError("Expected `values` of at least 1 run, got none.")
  spread = values.std(axis=0, ddof=1) if len(values) > 1 else None
  return values.mean(axis=0), spread


def _curve(
  num_labeled: Sequence[int], metric: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
  """Returns a learning curve as arrays, and refuses one that is none."""
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
