"""The linear head that turns features into logits."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


class LinearHead(NamedTuple):
  """A linear classifier on features.

  Attributes:
    kernel: Weights W; the logits of features x are x W + c.
    bias: Biases c.
  """

  kernel: Float[Array, "dim classes"]
  bias: Float[Array, " classes"]


def logits(
  head: LinearHead, features: Float[Array, "*batch dim"]
) -> Float[Array, "*batch classes"]:
  """Computes the logits x W + c of features x, in full float32 precision.

  Args:
    head: The classifier's kernel W and bias c.
    features: Features x, as the classifier consumes them.

  Returns:
    The logits, before the softmax.
  """
  products = jnp.matmul(
    features, head.kernel, precision=jax.lax.Precision.HIGHEST
  )
  return products + jnp.broadcast_to(head.bias, products.shape)
