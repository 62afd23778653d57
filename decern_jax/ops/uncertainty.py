"""Uncertainty of a prediction, from its class probabilities alone."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def entropy(
  probs: Float[Array, "*batch classes"],
) -> Float[Array, "*batch"]:
  """Returns the entropy -sum p log p, in nats; 0 log 0 counts as 0.

  Args:
    probs: Class probabilities p.

  Returns:
    The entropies, in [0, log classes].

  References:
    Settles, "Active Learning Literature Survey", 2009.
  """
  return jnp.sum(jax.scipy.special.entr(probs), axis=-1)


def margin(
  probs: Float[Array, "*batch classes"],
) -> Float[Array, "*batch"]:
  """Returns the difference of the two largest probabilities.

  Args:
    probs: Class probabilities, of two classes or more.

  Returns:
    The margins, in [0, 1]; a small one is an uncertain prediction.

  References:
    Scheffer, Decomain and Wrobel, "Active Hidden Markov Models for Information
    Extraction", IDA 2001.
  """
  top, _ = jax.lax.top_k(probs, 2)
  return top[..., 0] - top[..., 1]
