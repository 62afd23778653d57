"""Why an image was selected, as people and reports are told."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from decern_jax.distributed.sharding import take_replicated, to_host
from decern_jax.features import embedding
from decern_jax.ops.multilabel_metrics import THRESHOLD
from decern_jax.ops.similarity import cosine_similarity
from decern_jax.report.statistics import bootstrap_macro_f1
from decern_jax.training import rounds
from decern_jax.training.learner import Fit, Part

NUM_PREDICTIONS = 5
NUM_NEAREST = 3

# Rows of the pool that are compared with the selected ones at once.
BLOCK_ROWS = 8192


def explain(
  model: Fit,
  parts: dict[str, Part],
  state: rounds.RoundState,
  positions: np.ndarray,
  *,
  ids: tuple[str, ...],
  class_names: tuple[str, ...],
) -> dict[str, Any]:
  """Describes selected images by the model and by the rest of the pool.

  Args:
    model: The model of the round.
    parts: The data as it sees them.
    state: The state of the round.
    positions: int [selected].
    ids: Id of each training example.
    class_names: Name of each class.

  Returns:
    For each image, unless none is selected: "predictions", the likeliest
    classes with their probabilities; "nearest_labeled", the ids of the labeled
    images whose features have the least angles to its own, with the cosines;
    "cluster_sizes", how many unlabeled images are closer to it, by the angle,
    than to any other selected one, itself among them. And where an image may
    have several labels, "intervals": of macro F1 on each part held out.
  """
  found = {}
  held_out = {name: part for name, part in parts.items() if name != "train"}
  if any(part.labels.ndim > 1 for part in held_out.values()):
    found["intervals"] = {
      name: _interval(model, part) for name, part in held_out.items()
    }
  if not len(positions):
    return found
  train = parts["train"]
  rows = jnp.asarray(take_replicated(train.features, positions))
  is_multi_label = train.labels.ndim > 1
  probs = embedding.predict(model.head, rows, is_multi_label=is_multi_label)
  return found | {
    "predictions": _predictions(np.asarray(probs), class_names),
    "nearest_labeled": _nearest(train, rows, state, ids),
    "cluster_sizes": _cluster_sizes(train, rows, state),
  }


def _predictions(
  probs: np.ndarray, class_names: tuple[str, ...]
) -> list[list[list]]:
  best = np.argsort(-probs, axis=1, kind="stable")[:, :NUM_PREDICTIONS]
  return [
    [[class_names[c], round(float(probs[row, c]), 4)] for c in classes]
    for row, classes in enumerate(best)
  ]


def _nearest(
  train: Part, rows, state: rounds.RoundState, ids: tuple[str, ...]
) -> list[list[list]]:
  labeled = np.flatnonzero(state.labeled)
  known = jnp.asarray(take_replicated(train.features, labeled))
  cosines = np.asarray(cosine_similarity(rows, known))
  best = np.argsort(-cosines, axis=1, kind="stable")[:, :NUM_NEAREST]
  return [
    [[ids[labeled[at]], round(float(cosines[row, at]), 4)] for at in nearest]
    for row, nearest in enumerate(best)
  ]


def _cluster_sizes(train: Part, rows, state: rounds.RoundState) -> list[int]:
  counts = np.zeros(len(rows), int)
  unlabeled = np.flatnonzero(~state.labeled)
  for start in range(0, len(unlabeled), BLOCK_ROWS):
    where = unlabeled[start : start + BLOCK_ROWS]
    # To one length, and so to one program.
    block = np.resize(where, min(BLOCK_ROWS, len(unlabeled)))
    others = jnp.asarray(take_replicated(train.features, block))
    # What the round did not look at is zero.
    is_seen = np.asarray(jnp.any(others != 0, axis=1))[: len(where)]
    nearest = np.asarray(jnp.argmax(cosine_similarity(others, rows), axis=1))
    counts += np.bincount(nearest[: len(where)][is_seen], minlength=len(counts))
  return counts.tolist()


def _interval(model: Fit, part: Part) -> tuple[float, float] | None:
  is_valid = to_host(part.valid)
  probs = embedding.predict(model.head, part.features, is_multi_label=True)
  predicted = to_host(probs)[is_valid] >= THRESHOLD
  return bootstrap_macro_f1(predicted, to_host(part.labels)[is_valid] > 0)
