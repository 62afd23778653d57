"""The networks of the table at their published sizes: shapes, nothing else."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from decern_jax.models import registry


class Traced(NamedTuple):
  """The shapes of what a network computes of two images, and its variables."""

  features: Any
  stages: Any
  variables: Any


@functools.cache
def trace(name: str, size: int = 32, dtype: str = "float32") -> Traced:
  """Traces a network of the table; computes and compiles nothing."""
  module = registry.find_spec(name).module(dtype=jnp.dtype(dtype))
  images = jnp.zeros((2, size, size, 3))
  features, variables = jax.eval_shape(
    lambda: module.init_with_output(jax.random.key(0), images, mutable=True)
  )
  kept = variables.pop(registry.KEPT)
  return Traced(features, kept[registry.STAGES], variables)
