"""A model with its weights: images to features, in inference and training."""

from collections.abc import Callable, Mapping
import functools
from typing import Any, NamedTuple

from flax import linen as nn
from flax import traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from decern_jax.models.registry import KEPT, STAGES, find_spec
from decern_jax.ops.head import LinearHead

Variables = Mapping[str, Any]
Normalize = Callable[[jax.Array], jax.Array]
Stages = tuple[jax.Array, ...]

MIN_IMAGE_SIZE = 32
DTYPES = {"bfloat16": jnp.bfloat16, "float32": jnp.float32}

NUM_COLORS = 3
"""Input channels of the networks of the table."""


class Backbone(NamedTuple):
  """A model with its weights.

  All functions are pure. They take images [batch, height, width, bands], uint8
  or float in 0..255, normalize them, and return float32 features [batch, dim].

  Attributes:
    name: Name in the table.
    apply: Maps variables and images to features.
    train_apply: Maps variables and images to features as in training, and the
      new `batch_stats`: every batch normalization uses the statistics of the
      batch and updates its running ones. A model without batch normalization
      returns the features of `apply`, and {}.
    stage_apply: Like `apply`, with a tuple of the outputs of the stages, each
      averaged over the image, float32 [batch, dim of the stage].
    stage_train_apply: Like `train_apply`, with such a tuple after the features.
    variables: Collections of float32 arrays: `params`, and `batch_stats` if the
      module has them.
    dim: Length of a feature.
    stage_dims: Length of each stage's output.
    head: The classifier that the weights came with, or None.
    fingerprint: Hex digest of the name, the variables and the type of the
      computation. Models with the same one compute the same features.
  """

  name: str
  apply: Callable[[Variables, jax.Array], jax.Array]
  train_apply: Callable[
    [Variables, jax.Array], tuple[jax.Array, dict[str, Any]]
  ]
  stage_apply: Callable[[Variables, jax.Array], tuple[jax.Array, Stages]]
  stage_train_apply: Callable[
    [Variables, jax.Array], tuple[tuple[jax.Array, Stages], dict[str, Any]]
  ]
  variables: Variables
  dim: int
  stage_dims: tuple[int, ...]
  head: LinearHead | None
  fingerprint: str


def assemble(
  name: str,
  module: nn.Module,
  variables: Variables,
  *,
  num_bands: int,
  head: LinearHead | None,
  fingerprint: str,
) -> Backbone:
  """Combines a module and its variables into a model.

  Args:
    name: Name of the model in the table.
    module: The module that the model's `ModelSpec` makes.
    variables: Variables of the module, or their shapes.
    num_bands: Channels of the images.
    head: As in `Backbone`.
    fingerprint: As in `Backbone`.
  """
  spec = find_spec(name)
  apply, train_apply, stage_apply, stage_train_apply = _bind(
    module,
    widen_moments(spec.mean, num_bands),
    widen_moments(spec.std, num_bands),
  )
  return Backbone(
    name=name,
    apply=apply,
    train_apply=train_apply,
    stage_apply=stage_apply,
    stage_train_apply=stage_train_apply,
    variables=variables,
    dim=spec.dim,
    stage_dims=spec.stage_dims,
    head=head,
    fingerprint=fingerprint,
  )


@functools.lru_cache(maxsize=32)
def _bind(
  module: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]
) -> tuple[Callable[..., Any], ...]:
  """Returns the four functions of a model.

  Equal models share them, because JAX compiles programs for each new function.
  """
  normalize_images = functools.partial(normalize, mean, std)
  return tuple(
    functools.partial(
      _compute, module, normalize_images, is_training, with_stages
    )
    for with_stages in (False, True)
    for is_training in (False, True)
  )


def with_one_stage(backbone: Backbone) -> Backbone:
  """Returns a model whose only stage is its features.

  Args:
    backbone: A frozen model: neither its parameters nor its statistics are
      trained.
  """
  return backbone._replace(
    stage_apply=functools.partial(_repeat_features, backbone.apply),
    stage_dims=(backbone.dim,),
  )


def check_options(image_size: int, dtype: str) -> None:
  """Refuses images that are too small, and an unknown dtype.

  Raises:
    ValueError: If an option is outside its range.
  """
  if dtype not in DTYPES:
    raise ValueError(f"Unknown dtype {dtype!r}; expected one of {[*DTYPES]}.")
  if image_size < MIN_IMAGE_SIZE:
    raise ValueError(
      f"Expected `image_size` >= {MIN_IMAGE_SIZE}, got {image_size}."
    )


def normalize(
  mean: tuple[float, ...], std: tuple[float, ...], images: jax.Array
) -> jax.Array:
  """Shifts and scales images to the range that the module was trained on.

  Args:
    mean: Mean of each channel, which is subtracted.
    std: Standard deviation of each channel, which divides the difference.
    images: [batch, height, width, channels], uint8 or float in 0..255.

  Returns:
    float32, of the same shape.
  """
  shift, scale = (
    np.asarray(values, np.float32).reshape(1, 1, 1, -1)
    for values in (mean, std)
  )
  return (images.astype(np.float32) - shift) / scale


def _compute(
  module: nn.Module,
  normalize_images: Normalize,
  is_training: bool,
  with_stages: bool,
  variables: Variables,
  images: jax.Array,
) -> Any:
  """Computes what the functions of `Backbone` return."""
  use_batch = is_training and "batch_stats" in variables
  options: dict[str, Any] = {"train": True} if use_batch else {}
  features, updated = module.apply(
    variables,
    normalize_images(images),
    mutable=["batch_stats"] * use_batch + [KEPT] * with_stages,
    **options,
  )
  found = (features, _pool(updated)) if with_stages else features
  return (found, updated.get("batch_stats", {})) if is_training else found


def _repeat_features(
  apply: Callable[[Variables, jax.Array], jax.Array],
  variables: Variables,
  images: jax.Array,
) -> tuple[jax.Array, Stages]:
  features = apply(variables, images)
  return features, (features,)


def _pool(kept: Variables) -> Stages:
  """Averages stages that are images over their pixels."""
  return tuple(
    stage.mean(axis=(1, 2), dtype=jnp.float32) if stage.ndim == 4 else stage
    for stage in kept[KEPT][STAGES]
  )


def first_convolution(variables: Variables) -> tuple[str, ...]:
  """Returns the path of the kernel that reads the image.

  Args:
    variables: Variables, or their shapes, of a network in which only the first
      convolution has three input channels.
  """
  flat: dict[tuple[str, ...], Any] = traverse_util.flatten_dict(variables)
  (first,) = (
    path
    for path, leaf in flat.items()
    if len(leaf.shape) == 4 and leaf.shape[2] == NUM_COLORS
  )
  return first


def widen_input(variables: Variables, num_bands: int) -> dict[str, Any]:
  """Gives the first convolution one input channel per band.

  Each new channel has the mean over the colors of the old kernel, scaled by 3 /
  bands. An image whose bands are all equal then has the features of the same
  image in gray. This initialization is the project's choice; fine-tuning
  changes it.

  Args:
    variables: Variables of a network in which only the first convolution has
      three input channels, or none because it has `num_bands` already.
    num_bands: Number of bands, at least 1; 3 changes nothing.
  """
  flat: dict[tuple[str, ...], Any] = traverse_util.flatten_dict(variables)
  inputs = {leaf.shape[2] for leaf in flat.values() if leaf.ndim == 4}
  if num_bands == NUM_COLORS or NUM_COLORS not in inputs:
    return dict(variables)
  first = first_convolution(variables)
  mean = jnp.mean(flat[first], axis=2, keepdims=True)
  flat[first] = jnp.repeat(mean, num_bands, axis=2) * (NUM_COLORS / num_bands)
  return traverse_util.unflatten_dict(flat)


def widen_moments(
  values: tuple[float, float, float], num_bands: int
) -> tuple[float, ...]:
  """Returns a value for each band: the average of the three colors' values.

  Args:
    values: Means or standard deviations of the three colors.
    num_bands: Number of bands. With 3 bands, the values are returned unchanged.
  """
  if num_bands == NUM_COLORS:
    return values
  return (sum(values) / NUM_COLORS,) * num_bands
