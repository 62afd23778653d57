"""Cosine similarity and distance between features."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

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
