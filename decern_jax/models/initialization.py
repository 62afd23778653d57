"""Backbones of the table with random weights, drawn from a seed."""

import hashlib
from typing import Any

import jax
import jax.numpy as jnp

from decern_jax.models import loading
from decern_jax.models.registry import find_spec
from decern_jax.ops import keys

# What stands in place of a file.
RANDOM = "random"


def load_or_draw(
  name: str,
  *,
  weights: loading.PathLike | None,
  seed: int,
  image_size: int,
  num_bands: int = 3,
  dtype: str = "float32",
) -> loading.Backbone:
  """Makes a model of the table, with the weights of a file or with random ones.

  Args:
    name: Name of the model in the table.
    weights: As in `models.create`; `"random"` draws them.
    seed: Seed of the weights that are drawn.
    image_size: Height and width of the images.
    num_bands: Bands of the images.
    dtype: What the model computes in, one of `models.DTYPES`.

  Returns:
    The model.

  Raises:
    ValueError: As `models.create`.
  """
  options = {"image_size": image_size, "num_bands": num_bands, "dtype": dtype}
  if weights == RANDOM:
    return create_random(name, seed=seed, **options)
  return loading.create(name, weights=weights, **options)


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
  return jax.jit(module.init)(keys.seed_key(seed, "backbone"), image)


def create_random(
  name: str,
  *,
  seed: int,
  image_size: int,
  num_bands: int = 3,
  dtype: str = "float32",
) -> loading.Backbone:
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
    ValueError: If a name is unknown or the images are too small.
  """
  loading.check_options(image_size, dtype)
  variables = init_variables(
    name, seed=seed, image_size=image_size, num_bands=num_bands
  )
  source = f"{name} {dtype} {image_size} {num_bands} {seed}"
  return loading.assemble(
    name,
    find_spec(name).module(dtype=loading.DTYPES[dtype]),
    variables,
    num_bands=num_bands,
    head=None,
    fingerprint=hashlib.sha256(source.encode()).hexdigest(),
  )
