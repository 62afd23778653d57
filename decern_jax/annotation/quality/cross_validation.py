"""What a model says of labels that it did not see."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key
import numpy as np

from decern_jax.features import embedding
from decern_jax.training import training

NUM_FOLDS = 5

# The published one of a head on frozen features.
RECIPE = training.Recipe(
  num_epochs=200,
  batch_size=128,
  learning_rate=1e-3,
  warmup_epochs=5,
  warmup_learning_rate=1e-6,
  final_learning_rate=1e-5,
)


def predict_out_of_sample(
  key: Key[Array, ""],
  rows: np.ndarray,
  labels: np.ndarray,
  *,
  num_classes: int,
) -> Float[np.ndarray, "rows classes"]:
  """Predicts each example by a head that was trained without its fold.

  The examples of each class are spread evenly over the folds.

  Args:
    key: Random key of the folds and of the training.
    rows: float32 [rows, dim], features.
    labels: int32 [rows], or [rows, classes] of 0 and 1.
    num_classes: Number of classes.

  Returns:
    The probabilities.

  Raises:
    ValueError: If there are fewer examples than folds.
  """
  if len(rows) < NUM_FOLDS:
    raise ValueError(
      f"Expected at least {NUM_FOLDS} examples, got {len(rows)}."
    )
  fold_key, head_key, order_key = jax.random.split(key, 3)
  folds = _folds(fold_key, labels)
  head = training.init_head(
    head_key, dim=rows.shape[1], num_classes=num_classes
  )
  probs = np.zeros((len(rows), num_classes), np.float32)
  for fold in range(NUM_FOLDS):
    is_out = folds == fold
    trained, _ = training.fit_head(
      jax.random.fold_in(order_key, fold),
      head,
      *_first(rows, labels, ~is_out),
      recipe=RECIPE,
    )
    found = embedding.predict(
      trained, jnp.asarray(rows), is_multi_label=labels.ndim > 1
    )
    probs[is_out] = np.asarray(found)[is_out]
  return probs


def _folds(key, labels: np.ndarray) -> np.ndarray:
  """Returns the fold of each example."""
  order = np.asarray(jax.random.permutation(key, len(labels)))
  if labels.ndim == 1:
    order = order[np.argsort(labels[order], kind="stable")]
  folds = np.zeros(len(labels), int)
  folds[order] = np.arange(len(labels)) % NUM_FOLDS
  return folds


def _first(rows: np.ndarray, labels: np.ndarray, mask: np.ndarray):
  """Returns the rows of a mask before the others, of a length of few."""
  order = np.argsort(~mask, kind="stable")
  padding = (1 << (len(rows) - 1).bit_length()) - len(rows)
  order = np.pad(order, (0, padding))
  return (
    jnp.asarray(rows[order]),
    jnp.asarray(labels[order], jnp.int32),
    jnp.asarray(int(mask.sum())),
  )
