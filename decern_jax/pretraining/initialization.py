"""Backbones of the table with random weights, drawn from a seed."""

import hashlib
from typing import Any

import jax
import jax.numpy as jnp

from decern_jax import models, rounds
from decern_jax.models.registry import find_spec


def init_variables(
  name: str, *, seed: int, image_size: int, num_bands: int = 3
) -> dict[str, Any]:
  """Draws the variables of a model, as its module initialises them.

  Args:
    name: Name of the model in the table.
    seed: Seed of the draw.
    image_size: Height and width of the images.
    num_bands: Bands of the images.

  Returns:
    Collections of float32 arrays, as `models.create` has them.

  Raises:
    ValueError: If the name is unknown.
  """
  module = find_spec(name).module()
  image = jnp.zeros((1, image_size, image_size, num_bands))
  return jax.jit(module.init)(rounds.seed_key(seed, "backbone"), image)


def create_random(
  name: str,
  *,
  seed: int,
  image_size: int,
  num_bands: int = 3,
  dtype: str = "float32",
) -> models.Backbone:
  """Makes a model of the table with random weights.

  Images of other than three bands are normalised, in every band, by the means
  of the table's values.

  Args:
    name: Name of the model in the table.
    seed: Seed of the weights.
    image_size: Height and width of the images.
    num_bands: Bands of the images.
    dtype: What the model computes in, one of `models.DTYPES`.

  Returns:
    The model, without a classifier.

  Raises:
    ValueError: If a name is unknown.
  """
  if dtype not in models.DTYPES:
    raise ValueError(
      f"Unknown dtype {dtype!r}; expected one of {[*models.DTYPES]}."
    )
  variables = init_variables(
    name, seed=seed, image_size=image_size, num_bands=num_bands
  )
  source = f"{name} {dtype} {image_size} {num_bands} {seed}"
  return models.assemble(
    name,
    find_spec(name).module(dtype=models.DTYPES[dtype]),
    variables,
    num_bands=num_bands,
    head=None,
    fingerprint=hashlib.sha256(source.encode()).hexdigest(),
  )
