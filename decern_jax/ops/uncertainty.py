"""Uncertainty of a prediction, computed from its class probabilities.

If an example has several labels, each label is a separate prediction of yes or
no. The functions named `binary_...` take such probabilities.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def entropy(probs: Float[Array, "*batch classes"]) -> Float[Array, "*batch"]:
  """Returns the entropy -sum p log p, in nats; 0 log 0 counts as 0.

  Returns:
    The entropies, in [0, log classes].

  References:
    Settles, "Active Learning Literature Survey", 2009.
  """
  return jnp.sum(jax.scipy.special.entr(probs), axis=-1)


def margin(probs: Float[Array, "*batch classes"]) -> Float[Array, "*batch"]:
  """Returns the difference of the two largest probabilities.

  Args:
    probs: Class probabilities, of two classes or more.

  Returns:
    The margins, in [0, 1]; a small one is an uncertain prediction.

  References:
    Scheffer, Decomain and Wrobel, "Active Hidden Markov Models for Information
    Extraction", IDA 2001.
  """
  # Not `top_k`, for which XLA would gather the whole pool on every device.
  top = jnp.argmax(probs, axis=-1)
  is_top = jax.nn.one_hot(top, probs.shape[-1], dtype=bool)
  return jnp.max(probs, -1) - jnp.max(jnp.where(is_top, -jnp.inf, probs), -1)


def least_confidence(
  probs: Float[Array, "*batch classes"],
) -> Float[Array, "*batch"]:
  """Returns 1 - max p, the probability of all classes but the likeliest.

  Returns:
    The values, in [0, 1 - 1 / classes].

  References:
    Lewis and Gale, "A Sequential Algorithm for Training Text Classifiers",
    SIGIR 1994.
  """
  return 1.0 - jnp.max(probs, axis=-1)


def binary_entropy(
  probs: Float[Array, "*batch labels"],
) -> Float[Array, "*batch"]:
  """Returns the sum over labels of -p log p - (1 - p) log (1 - p), in nats.

  Returns:
    The sums, in [0, labels · log 2].
  """
  no = -jax.scipy.special.xlog1py(1.0 - probs, -probs)
  return jnp.sum(jax.scipy.special.entr(probs) + no, axis=-1)


def binary_margin(
  probs: Float[Array, "*batch labels"],
) -> Float[Array, "*batch"]:
  """Returns the smallest |2 p - 1|, the margin of the closest label.

  Returns:
    The margins, in [0, 1]; a small one is an uncertain prediction.
  """
  return jnp.min(jnp.abs(2.0 * probs - 1.0), axis=-1)


def binary_least_confidence(
  probs: Float[Array, "*batch labels"],
) -> Float[Array, "*batch"]:
  """Returns the mean over labels of 1 - max(p, 1 - p).

  Returns:
    The means, in [0, 1/2].
  """
  return jnp.mean(jnp.minimum(probs, 1.0 - probs), axis=-1)
