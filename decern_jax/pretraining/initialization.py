"""Backbones of the table with random weights, drawn from a seed."""

from collections.abc import Mapping
import hashlib
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from decern_jax import models, rounds
from decern_jax.models import bands
from decern_jax.models.registry import find_spec

Variables = Mapping[str, Any]


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
  spec = find_spec(name)
  module = spec.module(dtype=models.DTYPES[dtype])
  shift, scale = (
    np.asarray(bands.widen_moments(values, num_bands), np.float32)
    for values in (spec.mean, spec.std)
  )

  def apply(variables: Variables, images: jax.Array) -> jax.Array:
    return module.apply(variables, _normalize(images, shift, scale))

  def train_apply(variables: Variables, images: jax.Array):
    return _apply_in_training(
      module, variables, _normalize(images, shift, scale)
    )

  variables = init_variables(
    name, seed=seed, image_size=image_size, num_bands=num_bands
  )
  source = f"{name} {dtype} {image_size} {num_bands} {seed}"
  return models.Backbone(
    name=name,
    apply=apply,
    train_apply=train_apply,
    variables=variables,
    dim=spec.dim,
    head=None,
    fingerprint=hashlib.sha256(source.encode()).hexdigest(),
  )


def _apply_in_training(
  module: nn.Module, variables: Variables, inputs: jax.Array
) -> tuple[jax.Array, dict[str, Any]]:
  if "batch_stats" not in variables:
    return module.apply(variables, inputs), {}
  features, updated = module.apply(
    variables, inputs, train=True, mutable=["batch_stats"]
  )
  return features, updated["batch_stats"]


def _normalize(
  images: jax.Array, shift: np.ndarray, scale: np.ndarray
) -> jax.Array:
  shift, scale = (values.reshape(1, 1, 1, -1) for values in (shift, scale))
  return (images.astype(np.float32) - shift) / scale
