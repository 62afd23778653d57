"""How well the nearest neighbors of features predict labels."""

import numpy as np

from decern_jax.ops.multilabel_metrics import class_f1_scores

# Number of queries whose similarities to all examples are in memory at once.
_BLOCK_SIZE = 1024

# Share of the votes from which a label counts as predicted.
_THRESHOLD = 0.5


def nearest_votes(
  features: np.ndarray,
  labels: np.ndarray,
  *,
  queries: np.ndarray | None = None,
  num_neighbors: int,
  temperature: float,
) -> np.ndarray:
  """Predicts the labels of each query by votes of its nearest examples.

  A neighbor at cosine similarity s has weight exp(s / temperature), as in Wu
  et al., "Unsupervised Feature Learning via Non-Parametric Instance
  Discrimination", CVPR 2018.

  Args:
    features: float [examples, dim], the examples that vote.
    labels: [examples, classes], 0 or 1.
    queries: float [queries, dim]. None for the examples, each of which gets the
      votes of the others.
    num_neighbors: Votes per query, at most one per example.
    temperature: Temperature of the weights, positive.

  Returns:
    float32 [queries, classes], the share of the votes for each label.
  """
  features = _normalize(features)
  leaves_out = queries is None
  queries = features if leaves_out else _normalize(queries)
  count = min(num_neighbors, len(features) - leaves_out)
  shares = []
  for begin in range(0, len(queries), _BLOCK_SIZE):
    similarities = queries[begin : begin + _BLOCK_SIZE] @ features.T
    rows = np.arange(len(similarities))
    if leaves_out:
      similarities[rows, begin + rows] = -np.inf
    nearest = np.argpartition(-similarities, count - 1, axis=1)[:, :count]
    found = np.take_along_axis(similarities, nearest, axis=1)
    weights = np.exp((found - found.max(axis=1, keepdims=True)) / temperature)
    weights /= weights.sum(axis=1, keepdims=True)
    shares.append(np.einsum("qn,qnc->qc", weights, labels[nearest]))
  return np.concatenate(shares).astype(np.float32)


def score(
  features: np.ndarray,
  labels: np.ndarray,
  *,
  queries: np.ndarray | None = None,
  query_labels: np.ndarray | None = None,
  num_neighbors: int,
  temperature: float,
) -> dict[str, float]:
  """Scores how well the nearest examples predict the labels of queries.

  Args:
    features: As in `nearest_votes`.
    labels: int [examples], classes, or [examples, classes], 0 or 1.
    queries: As in `nearest_votes`.
    query_labels: The labels of the queries; None with `queries` None.
    num_neighbors: As in `nearest_votes`.
    temperature: As in `nearest_votes`.

  Returns:
    "knn_accuracy" of single labels, or "knn_macro_f1" of several: the mean F1
    of the labels that a query has.
  """
  truth = labels if query_labels is None else query_labels
  is_single = labels.ndim == 1
  if is_single:
    classes = np.arange(max(labels.max(), truth.max()) + 1)
    labels = labels[:, None] == classes
  votes = nearest_votes(
    features,
    labels.astype(np.float32),
    queries=queries,
    num_neighbors=num_neighbors,
    temperature=temperature,
  )
  if is_single:
    return {"knn_accuracy": float(np.mean(votes.argmax(axis=1) == truth))}
  return {"knn_macro_f1": macro_f1(votes >= _THRESHOLD, truth)}


def macro_f1(predicted: np.ndarray, labels: np.ndarray) -> float:
  """Returns the mean F1 of the labels that an example has.

  Args:
    predicted: bool [examples, classes].
    labels: [examples, classes], 0 or 1.

  Returns:
    The mean, in [0, 1]; 0 if no example has a label.
  """
  scores = class_f1_scores(predicted, labels.astype(bool))
  known = [score for score in scores if score is not None]
  return float(np.mean(known)) if known else 0.0


def _normalize(features: np.ndarray) -> np.ndarray:
  norms = np.linalg.norm(features, axis=1, keepdims=True)
  return features / np.maximum(norms, 1e-12)
