"""Figures that sum up a run."""

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
  labels = np.asarray(num_labeled, float)
  values = np.asarray(metric, float)
  if labels.shape != values.shape or labels.ndim != 1 or not labels.size:
    raise ValueError(
      "Expected `num_labeled` and `metric` of one length, got shapes"
      f" {labels.shape} and {values.shape}."
    )
  if (np.diff(labels) <= 0).any():
    raise ValueError(f"Expected ascending `num_labeled`, got {num_labeled}.")
  if labels.size == 1:
    return float(values[0])
  return float(np.trapezoid(values, labels) / (labels[-1] - labels[0]))
