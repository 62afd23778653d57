"""The losses of self-supervised methods as loops in NumPy."""

import numpy as np


def cosine(a, b) -> float:
  return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def nt_xent(first, second, temperature) -> float:
  """Algorithm 1 of SimCLR: views 2k-1 and 2k are of one image."""
  views = [view for pair in zip(first, second, strict=True) for view in pair]
  total = 0.0
  for i, query in enumerate(views):
    partner = i + 1 if i % 2 == 0 else i - 1
    positive = np.exp(cosine(query, views[partner]) / temperature)
    others = sum(
      np.exp(cosine(query, other) / temperature)
      for k, other in enumerate(views)
      if k != i
    )
    total -= np.log(positive / others)
  return total / len(views)


def barlow_twins(first, second, weight) -> float:
  """Equations 1 and 2 of Barlow Twins, on coordinates with mean 0."""
  first, second = np.float64(first), np.float64(second)
  first, second = first - first.mean(0), second - second.mean(0)
  total = 0.0
  for i in range(first.shape[1]):
    for j in range(first.shape[1]):
      top = sum(a[i] * b[j] for a, b in zip(first, second, strict=True))
      # As in the authors' code, whose normalization adds 1e-5 to variances.
      variances = first[:, i].var() + 1e-5, second[:, j].var() + 1e-5
      correlation = top / len(first) / np.sqrt(variances[0] * variances[1])
      total += (1 - correlation) ** 2 if i == j else weight * correlation**2
  return total


def moco(queries, keys, queue, temperature) -> float:
  """Equation 1 of MoCo: one positive and all keys of the queue."""
  total = 0.0
  for query, key in zip(queries, keys, strict=True):
    positive = np.exp(cosine(query, key) / temperature)
    negatives = sum(np.exp(cosine(query, n) / temperature) for n in queue)
    total -= np.log(positive / (positive + negatives))
  return total / len(queries)


def normalize(rows) -> np.ndarray:
  return rows / np.linalg.norm(rows, axis=1, keepdims=True)
