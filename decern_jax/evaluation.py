"""Metrics of a classifier, exact over padded data."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int
import optax

from decern_jax.ops.head import LinearHead, logits


class Totals(NamedTuple):
  """Sums over the examples that count; sums of parts add up.

  Attributes:
    num_examples: int32 [], examples counted.
    num_correct: int32 [], examples whose largest logit is their label's.
    loss: float32 [], sum of the cross-entropies.
  """

  num_examples: Int[Array, ""]
  num_correct: Int[Array, ""]
  loss: Float[Array, ""]


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
  return Totals(
    jnp.sum(valid, dtype=jnp.int32),
    jnp.sum(correct, dtype=jnp.int32),
    jnp.sum(jnp.where(valid, losses, 0.0)),
  )


def summarize(totals: Totals) -> dict[str, float]:
  """Returns the means of totals.

  Args:
    totals: Totals over at least one example.

  Returns:
    "accuracy" in [0, 1] and "loss", the mean cross-entropy.
  """
  count = int(totals.num_examples)
  return {
    "accuracy": int(totals.num_correct) / count,
    "loss": float(totals.loss) / count,
  }
