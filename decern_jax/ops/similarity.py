"""Cosine similarity and distance between features."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from decern_jax.distributed.rows import HostRows, Rows

# Below this length a feature has no direction, and its cosines are 0 (the
# convention of torch.nn.functional.normalize).
MIN_NORM = 1e-12


def normalize(
  features: Float[Array, "*batch dim"],
) -> Float[Array, "*batch dim"]:
  """Scales each feature to length 1; a zero feature stays zero."""
  norm = jnp.linalg.norm(features, axis=-1, keepdims=True)
  return features / jnp.maximum(norm, MIN_NORM)


def cosine_similarity(
  features: Float[Array, "rows dim"], others: Float[Array, "others dim"]
) -> Float[Array, "rows others"]:
  """Returns the cosine of every feature with every other one, in [-1, 1]."""
  return jnp.matmul(
    normalize(features),
    normalize(others).T,
    precision=jax.lax.Precision.HIGHEST,
  )


def normalized_in_order(
  rows: Rows, order: Int[Array, " rows"], num_rows: Int[Array, ""]
) -> Rows:
  """Returns rows of length 1 in another order.

  Args:
    rows: The rows.
    order: Positions in them.
    num_rows: Rows that count, the first ones; on the devices the others become
      zero: they may hold anything, and a NaN would outlive a weight of zero.

  Returns:
    The rows: on the devices a copy, on the host a view.
  """
  if isinstance(rows, HostRows):
    return dataclasses.replace(rows.reorder(order), transform=normalize)
  counts = jnp.arange(len(rows)) < num_rows
  return jnp.where(counts[:, None], normalize(rows[order]), 0.0)
