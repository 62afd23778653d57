"""Labels that are likely wrong, by confident learning."""

from typing import NamedTuple

import numpy as np

# Below this a mean probability is no confidence.
MIN_THRESHOLD = 2e-6
# A probability this close below its threshold passes it.
ROUNDING = 1e-6


class LabelErrors(NamedTuple):
  """Examples whose label is likely wrong, the worst first.

  Attributes:
    positions: int [found].
    suggested: int [found], the likeliest class of each.
    margins: float [found], the probability of the given label minus that of
      the likeliest other class, in [-1, 0].
  """

  positions: np.ndarray
  suggested: np.ndarray
  margins: np.ndarray


def find_label_errors(probs: np.ndarray, labels: np.ndarray) -> LabelErrors:
  """Finds labels that are likely wrong.

  The threshold of a class is the mean probability of it among the examples
  with its label. An example belongs to the class whose threshold its
  probability passes, the likeliest if it passes several. One that belongs to
  another class than its label, and is not predicted as its label either, is
  likely wrong: the rule of cleanlab's `find_label_issues` with
  `filter_by="confident_learning"`, in the order of its "normalized_margin".

  Args:
    probs: [rows, classes], of a model that did not see the label of the row.
    labels: int [rows], the class that each row was given.

  Returns:
    The examples.

  Raises:
    ValueError: If shapes do not fit.

  References:
    Northcutt, Jiang and Chuang, "Confident learning: Estimating uncertainty in
    dataset labels", JAIR 2021, sections 3.1 and 3.2.
  """
  probs = np.asarray(probs, np.float64)
  labels = np.asarray(labels)
  if probs.ndim != 2 or labels.shape != (len(probs),):
    raise ValueError(
      "Expected `probs` [rows, classes] and `labels` [rows], got shapes"
      f" {probs.shape} and {labels.shape}."
    )
  passes = probs >= _thresholds(probs, labels) - ROUNDING
  likeliest = probs.argmax(axis=1)
  confident = np.where(passes.sum(axis=1) > 1, likeliest, passes.argmax(axis=1))
  is_wrong = passes.any(axis=1) & (confident != labels) & (likeliest != labels)
  found = np.flatnonzero(is_wrong)
  rows = np.arange(len(found))
  others = probs[found].copy()
  others[rows, labels[found]] = -1.0
  margins = probs[found, labels[found]] - others.max(axis=1, initial=-1.0)
  order = np.argsort(margins, kind="stable")
  return LabelErrors(found[order], others.argmax(axis=1)[order], margins[order])


def _thresholds(probs: np.ndarray, labels: np.ndarray) -> np.ndarray:
  """Returns the threshold of each class; one without a label has no end."""
  thresholds = np.full(probs.shape[1], np.inf)
  for label in np.unique(labels):
    mean = probs[labels == label, label].mean()
    thresholds[label] = max(mean, MIN_THRESHOLD)
  return thresholds
