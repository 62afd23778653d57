"""Why an image was selected, as people and reports are told."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from decern_jax import features, rounds
from decern_jax.learner import Fit, Part
from decern_jax.ops.similarity import cosine_similarity
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
  rows = jnp.asarray(take_replicated(train.features, positions))
  is_multi_label = train.labels.ndim > 1
  probs = features.predict(model.head, rows, is_multi_label=is_multi_label)
  probs = np.asarray(probs)
  best = np.argsort(-probs, axis=1, kind="stable")[:, :NUM_PREDICTIONS]
  labeled = np.flatnonzero(state.labeled)
  known = jnp.asarray(take_replicated(train.features, labeled))
  cosines = np.asarray(cosine_similarity(rows, known))
  nearest = labeled[np.argmax(cosines, axis=1)]
  return {
    "predictions": [
      [[class_names[c], round(float(probs[row, c]), 4)] for c in classes]
      for row, classes in enumerate(best)
    ],
    "nearest": [ids[position] for position in nearest],
  }
