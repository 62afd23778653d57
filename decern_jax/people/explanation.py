"""Why an image was selected, as people and reports are told."""

from typing import Any

import numpy as np

from decern_jax import rounds
from decern_jax.learner import Fit, Part
from decern_jax.sharding import take_replicated

NUM_PREDICTIONS = 5


def explain(
  model: Fit,
  parts: dict[str, Part],
  state: rounds.RoundState,
  positions: np.ndarray,
  *,
  ids: tuple[str, ...],
  class_names: tuple[str, ...],
) -> dict[str, Any]:
  """Describes selected images by the model and by what is labeled.

  Args:
    model: The model of the round.
    parts: The data as it sees them.
    state: The state of the round.
    positions: int [selected].
    ids: Id of each training example.
    class_names: Name of each class.

  Returns:
    "predictions": for each image the likeliest classes with their
    probabilities; "nearest": the id of the labeled image whose feature has the
    least angle to its own.
  """
  if not len(positions):
    return {}
  train = parts["train"]
  rows = take_replicated(train.features, positions)
  probs = _probabilities(model, rows, is_multi_label=train.labels.ndim > 1)
  best = np.argsort(-probs, axis=1, kind="stable")[:, :NUM_PREDICTIONS]
  labeled = np.flatnonzero(state.labeled)
  known = _normalize(take_replicated(train.features, labeled))
  nearest = labeled[np.argmax(_normalize(rows) @ known.T, axis=1)]
  return {
    "predictions": [
      [[class_names[c], round(float(probs[row, c]), 4)] for c in classes]
      for row, classes in enumerate(best)
    ],
    "nearest": [ids[position] for position in nearest],
  }


def _probabilities(
  model: Fit, rows: np.ndarray, *, is_multi_label: bool
) -> np.ndarray:
  """Returns the probability of each class, [rows, classes]."""
  outputs = rows @ np.asarray(model.head.kernel) + np.asarray(model.head.bias)
  if is_multi_label:
    return 1.0 / (1.0 + np.exp(-outputs.astype(np.float64)))
  exponents = np.exp(outputs - outputs.max(axis=1, keepdims=True))
  return exponents / exponents.sum(axis=1, keepdims=True)


def _normalize(rows: np.ndarray) -> np.ndarray:
  lengths = np.linalg.norm(rows, axis=1, keepdims=True)
  return rows / np.maximum(lengths, np.finfo(np.float32).tiny)
