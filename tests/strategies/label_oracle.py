"""DECERN's reading for several labels by the letter, in NumPy float64."""

import numpy as np
from scipy import special

from tests import oracle

EPSILON = 1e-10


def sigmoid(values) -> np.ndarray:
  return special.expit(oracle.float64(values))


def label_anchors(features, probs, labels) -> tuple[np.ndarray, np.ndarray]:
  """Mean feature and prediction of each label's positives."""
  anchors = []
  for rows in (oracle.float64(features), oracle.float64(probs)):
    labeled = labels[:, 0] >= 0
    means = []
    for column in labels.T:
      positive = column == 1
      means.append(rows[positive if positive.any() else labeled].mean(axis=0))
    anchors.append(np.array(means))
  return tuple(anchors)


def gradients(features, kernel, bias) -> np.ndarray:
  """Gradient of the summed binary cross-entropy by the features."""
  outputs = oracle.float64(features) @ kernel + bias
  # p - [p >= 1/2], without the cancellation.
  residual = np.where(outputs >= 0.0, -1.0, 1.0) * sigmoid(-np.abs(outputs))
  return residual @ oracle.float64(kernel).T


def cross_entropy(u, fused) -> np.ndarray:
  """Sum over labels of -u log(P + eps) - (1 - u) log(1 - P + eps)."""
  total = np.zeros(len(fused))
  for label in range(fused.shape[1]):
    yes, no = sigmoid(fused[:, label]), sigmoid(-fused[:, label])
    total -= u[:, label] * np.log(yes + EPSILON)
    total -= (1.0 - u[:, label]) * np.log(no + EPSILON)
  return np.maximum(total, 0.0)


def discrepancy_confusion(features, probs, anchors, kernel, bias) -> np.ndarray:
  """Label by label, over every coordinate of the fused features."""
  x, p = oracle.float64(features), oracle.float64(probs)
  mask = oracle.salient_coordinates(gradients(features, kernel, bias))
  rho = mask.mean(axis=1)
  scores = []
  for a, q, p_i in zip(*map(oracle.float64, anchors), p.T, strict=True):
    lam = np.clip(p_i, 1 / 64, 63 / 64)
    lengths = np.linalg.norm(x, axis=1) * np.linalg.norm(a)
    cosine = np.clip(x @ a / np.where(lengths > 0.0, lengths, 1.0), -1.0, 1.0)
    d = (1.0 - cosine) / 2.0
    fused = (x + mask * lam[:, None] * (a - x)) @ kernel + bias

    def mixture(weight, q=q):
      return (1.0 - weight)[:, None] * p + weight[:, None] * q

    confusion = cross_entropy(sigmoid(fused), fused) ** (1.0 - d)
    scores.append(
      (1.0 - rho) * (cross_entropy(p, fused) ** d + confusion)
      + rho * (cross_entropy(mixture(lam), fused) ** d + confusion)
      + (cross_entropy(mixture(rho * lam), fused) ** d + confusion)
    )
  return np.mean(scores, axis=0)
