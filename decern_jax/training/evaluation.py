"""Metrics of a classifier, exact over padded data."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int
import numpy as np
import optax

from decern_jax.distributed.sharding import to_host
from decern_jax.features.embedding import predict
from decern_jax.ops import multilabel_metrics
from decern_jax.ops.head import LinearHead, logits
from decern_jax.training.head import example_losses
from decern_jax.training.learner import PlacedSplit


class Totals(NamedTuple):
  """Sums over the examples that count; sums of parts add up.

  Attributes:
    examples: int32 [classes], examples of each class.
    correct: int32 [classes], those whose largest logit is their label's.
    loss: float32 [], sum of the cross-entropies.
  """

  examples: Int[Array, " classes"]
  correct: Int[Array, " classes"]
  loss: Float[Array, ""]


def evaluate(
  head: LinearHead, part: PlacedSplit, *, label_counts: np.ndarray | None = None
) -> dict[str, Any]:
  """Returns the metrics of a head on one part of the data.

  Args:
    head: The head.
    part: The part, of at least one example.
    label_counts: int [classes], training examples with each label; needed where
      an example may have several.

  Returns:
    As `summarize`, or where an example may have several labels what
    `multilabel_metrics.summarize` returns, with the mean binary cross-entropy
    as "loss". All processes get the same, and must call it together.
  """
  arrays = (part.features, part.labels, part.valid)
  if part.labels.ndim == 1:
    return summarize(jax.tree.map(to_host, evaluate_head(head, *arrays)))
  probs = predict(head, part.features, is_multi_label=True)
  found = multilabel_metrics.summarize(
    to_host(probs),
    to_host(part.labels),
    valid=to_host(part.valid),
    train_counts=label_counts,
  )
  return {**found, "loss": float(_mean_loss(head, *arrays))}


@jax.jit
def _mean_loss(head, features, labels, valid):
  losses = example_losses(logits(head, features), labels)
  total = jnp.sum(jnp.where(valid, losses, 0.0))
  return total / jnp.sum(valid).astype(total.dtype)


@jax.jit
def evaluate_head(
  head: LinearHead,
  features: Float[Array, "rows dim"],
  labels: Int[Array, " rows"],
  valid: Bool[Array, " rows"],
) -> Totals:
  """Counts what a head gets right.

  Args:
    head: The head.
    features: Features, padded to any length.
    labels: Class of each row.
    valid: True at the rows that exist.

  Returns:
    The totals over the valid rows.
  """
  outputs = logits(head, features)
  losses = optax.softmax_cross_entropy_with_integer_labels(outputs, labels)
  correct = valid & (jnp.argmax(outputs, axis=-1) == labels)
  num_classes = outputs.shape[-1]
  return Totals(
    _count_by_class(labels, valid, num_classes),
    _count_by_class(labels, correct, num_classes),
    jnp.sum(jnp.where(valid, losses, 0.0)),
  )


def _count_by_class(labels, counted, num_classes: int) -> jax.Array:
  """Counts rows by label; what a padded row has for its label is ignored."""
  zeros = jnp.zeros(num_classes, jnp.int32)
  return zeros.at[labels].add(counted.astype(jnp.int32), mode="drop")


def summarize(totals: Totals) -> dict[str, Any]:
  """Returns the metrics that totals give.

  Args:
    totals: Totals over at least one example.

  Returns:
    "accuracy", the top-1 accuracy in [0, 1]; "balanced_accuracy", the mean over
    the classes that have an example; "class_accuracy", one per class, None for
    a class without an example; "loss", the mean cross-entropy.
  """
  examples, correct = np.asarray(totals.examples), np.asarray(totals.correct)
  by_class = [
    int(right) / int(count) if count else None
    for right, count in zip(correct, examples, strict=True)
  ]
  present = [accuracy for accuracy in by_class if accuracy is not None]
  return {
    "accuracy": int(correct.sum()) / int(examples.sum()),
    "balanced_accuracy": sum(present) / len(present),
    "class_accuracy": by_class,
    "loss": float(totals.loss) / int(examples.sum()),
  }
