"""Metrics where an example has several labels, exact over padded data."""

from collections.abc import Sequence
from typing import Any

import numpy as np

THRESHOLD = 0.5
"""The lowest probability at which a label counts as predicted."""

RAREST_SHARE = 1 / 3
"""The share of the labels, rounded up, that are the rarest ones."""


def summarize(
  probs: np.ndarray,
  labels: np.ndarray,
  *,
  valid: np.ndarray | None = None,
  train_counts: np.ndarray,
) -> dict[str, Any]:
  """Returns the metrics of a data split.

  They are computed on the host in float64, because ranking needs the whole
  split in one place. Sorting it takes little time compared with the
  predictions.

  A label without a positive in the split has no recall, and therefore no F1 and
  no average precision. Both are None, and the means over labels leave the label
  out. These means are those of scikit-learn with `labels` set to the other
  labels. Unlike scikit-learn's default, they are over the same labels for every
  prediction. Micro F1, micro average precision and the Hamming loss still count
  the false positives of the label. An example with no label or with all labels
  has no pair to rank, and adds 0 to the ranking loss, as in scikit-learn.

  Args:
    probs: Float [rows, classes], the probability of each label.
    labels: [rows, classes], 0 or 1.
    valid: bool [rows], True at the rows that exist; None means all. The other
      rows may hold anything.
    train_counts: Int [classes], training examples that have each label. They
      determine the rarest third.

  Returns:
    Floats, each in [0, 1] or None where it is undefined: "macro_f1" and
    "macro_ap", means over labels; "micro_f1" and "micro_ap", over all pairs of
    an example and a label; "hamming_loss"; "ranking_loss"; "rarest_f1", the
    mean F1 of `rarest_labels`. And lists of one entry per label: "class_f1" and
    "class_ap".

  Raises:
    ValueError: If shapes do not fit, no row is valid, a probability is outside
      [0, 1], or a label is neither 0 nor 1.
  """
  probs, labels = _valid_rows(probs, labels, valid)
  if np.shape(train_counts) != (labels.shape[1],):
    raise ValueError(
      f"Expected `train_counts` of shape ({labels.shape[1]},), got "
      f"{np.shape(train_counts)}."
    )
  predicted = probs >= THRESHOLD
  class_f1 = class_f1_scores(predicted, labels)
  columns = zip(probs.T, labels.T, strict=True)
  class_ap = [average_precision(*column) for column in columns]
  rarest = rarest_labels(train_counts)
  return {
    "macro_f1": _mean(class_f1),
    "micro_f1": micro_f1_score(predicted, labels),
    "macro_ap": _mean(class_ap),
    "micro_ap": average_precision(probs.ravel(), labels.ravel()),
    "hamming_loss": float(np.mean(predicted != labels)),
    "ranking_loss": ranking_loss(probs, labels),
    "rarest_f1": _mean([class_f1[label] for label in rarest]),
    "class_f1": class_f1,
    "class_ap": class_ap,
  }


def class_f1_scores(
  predicted: np.ndarray, labels: np.ndarray
) -> list[float | None]:
  """Returns 2 TP / (2 TP + FP + FN) of each label.

  Args:
    predicted: bool [rows, classes].
    labels: bool [rows, classes].

  Returns:
    One score per label, in [0, 1]; None for a label without a positive.
  """
  hits = np.sum(predicted & labels, axis=0)
  positives = np.sum(labels, axis=0)
  sizes = positives + np.sum(predicted, axis=0)
  return [
    2 * int(hit) / int(size) if positive else None
    for hit, size, positive in zip(hits, sizes, positives, strict=True)
  ]


def micro_f1_score(predicted: np.ndarray, labels: np.ndarray) -> float | None:
  """Returns 2 TP / (2 TP + FP + FN) over all labels together.

  Args:
    predicted: bool [rows, classes].
    labels: bool [rows, classes].

  Returns:
    The score, in [0, 1]; None where no label has a positive.
  """
  together = (predicted.reshape(-1, 1), labels.reshape(-1, 1))
  return class_f1_scores(*together)[0]


def average_precision(scores: np.ndarray, relevant: np.ndarray) -> float | None:
  """Returns the sum over thresholds of precision times growth of recall.

  Every distinct score is one threshold, so that the order of equal scores does
  not matter. Nothing is interpolated.

  Args:
    scores: Float [rows], the higher the likelier.
    relevant: bool [rows], the truth.

  Returns:
    The average precision, in [0, 1]; None where nothing is relevant.
  """
  order = np.argsort(-scores, kind="stable")
  scores, hits = scores[order], np.cumsum(relevant[order])
  if not hits[-1]:
    return None
  # The last row of each score, after all rows with an equal score.
  ends = np.flatnonzero(np.append(scores[1:] != scores[:-1], True))
  precision = hits[ends] / (ends + 1)
  growth = np.diff(hits[ends], prepend=0)
  return float(np.sum(precision * growth) / hits[-1])


def ranking_loss(scores: np.ndarray, labels: np.ndarray) -> float:
  """Returns how often a label of an example does not rank above a wrong one.

  A pair is a label that the example has and one that it does not have. The loss
  of an example is the share of its pairs in which the first label does not have
  the higher score, and 0 without a pair. The losses are averaged.

  Args:
    scores: Float [rows, classes].
    labels: bool [rows, classes].

  Returns:
    The loss, in [0, 1].
  """
  num_labels = np.sum(labels, axis=1)
  num_pairs = num_labels * (labels.shape[1] - num_labels)
  wrong = np.zeros(len(labels), np.int64)
  # One label at a time: all pairs would be an array of rows · classes².
  for score, is_label in zip(scores.T, labels.T, strict=True):
    is_above = ~labels & (scores >= score[:, None])
    wrong += np.where(is_label, np.sum(is_above, axis=1), 0)
  return float(np.mean(wrong / np.maximum(num_pairs, 1)))


def rarest_labels(train_counts: np.ndarray) -> np.ndarray:
  """Returns the third of the labels with the fewest examples.

  Args:
    train_counts: Int [classes], training examples that have each label.

  Returns:
    Indices of labels from the rarest on, a third of all rounded up. Of equally
    rare labels the first come first.
  """
  count = int(np.ceil(RAREST_SHARE * len(train_counts)))
  return np.argsort(train_counts, kind="stable")[:count]


def _mean(values: Sequence[float | None]) -> float | None:
  """Returns the mean of the values that are not None, or None without any."""
  defined = [value for value in values if value is not None]
  return float(np.mean(defined)) if defined else None


def _valid_rows(
  probs: np.ndarray, labels: np.ndarray, valid: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
  """Checks the arrays and returns the rows that exist, with labels as bool."""
  probs, labels = np.asarray(probs), np.asarray(labels)
  if probs.ndim != 2 or probs.shape != labels.shape or 0 in probs.shape:
    raise ValueError(
      "Expected `probs` and `labels` of one shape [rows, classes], got "
      f"{probs.shape} and {labels.shape}."
    )
  valid = np.ones(len(probs), bool) if valid is None else np.asarray(valid)
  if valid.shape != (len(probs),) or valid.dtype != bool or not valid.any():
    raise ValueError(
      f"Expected `valid` to be bool [{len(probs)}] with a True row, got "
      f"{valid.dtype} {list(valid.shape)} with {np.count_nonzero(valid)}."
    )
  probs, labels = probs[valid], labels[valid]
  outside = probs[~((probs >= 0.0) & (probs <= 1.0))]
  if outside.size:
    raise ValueError(f"Expected `probs` in [0, 1], got {outside[0]}.")
  outside = labels[(labels != 0) & (labels != 1)]
  if outside.size:
    raise ValueError(f"Expected `labels` 0 or 1, got {outside[0]}.")
  return probs, labels.astype(bool)
