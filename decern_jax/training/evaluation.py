"""Metrics of a classifier, exact over padded data."""

import dataclasses
from typing import Any

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


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Totals:
  """Sums over examples; the totals of disjoint sets of examples add up.

  Attributes:
    examples: Number of examples of each class.
    correct: Number of them that are classified correctly.
    loss: Sum of the cross-entropies.
  """

  examples: Int[Array, " classes"]
  correct: Int[Array, " classes"]
  loss: Float[Array, ""]


def evaluate(
  head: LinearHead,
  split: PlacedSplit,
  *,
  label_counts: np.ndarray | None = None,
) -> dict[str, Any]:
  """Returns the metrics of a head on one data split.

  Args:
    head: The head.
    split: The split, with at least one example.
    label_counts: int [classes], number of training examples with each label;
      needed where an example may have several labels.

  Returns:
    The metrics of `summarize`. If examples may have several labels, those of
    `multilabel_metrics.summarize`, and as "loss" the mean binary cross-entropy.
    All processes must call this together, and get the same result.
  """
  arrays = (split.features, split.labels, split.valid)
  if split.labels.ndim == 1:
    return summarize(jax.tree.map(to_host, evaluate_head(head, *arrays)))
  assert label_counts is not None
  probs = predict(head, split.features, is_multi_label=True)
  found = multilabel_metrics.summarize(
    to_host(probs),
    to_host(split.labels),
    valid=to_host(split.valid),
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
  """Counts the examples that a head classifies correctly.

  Args:
    head: The head.
    features: Features, with any padding.
    labels: Class of each row.
    valid: False in padding.

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
  """Counts rows by label; padding may have any label."""
  zeros = jnp.zeros(num_classes, jnp.int32)
  return zeros.at[labels].add(counted.astype(jnp.int32), mode="drop")


def summarize(totals: Totals) -> dict[str, Any]:
  """Returns the metrics that follow from totals.

  Args:
    totals: Totals over at least one example.

  Returns:
    "accuracy", the top-1 accuracy in [0, 1]; "class_accuracy", that of each
    class, None for a class without examples; "balanced_accuracy", the mean over
    the classes with examples; "loss", the mean cross-entropy.
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
