"""From images to features: what a backbone computes, in its four forms."""

from collections.abc import Callable, Mapping
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

Variables = Mapping[str, Any]
Normalise = Callable[[jax.Array], jax.Array]
Stages = tuple[jax.Array, ...]

# The collection, and the name in it, under which modules `sow` their stages.
KEPT, STAGES = "intermediates", "stages"


def compute_features(
  module: nn.Module,
  normalise: Normalise,
  variables: Variables,
  images: jax.Array,
) -> jax.Array:
  """Computes features, as `Backbone.apply`."""
  return module.apply(variables, normalise(images))


def compute_training(
  module: nn.Module,
  normalise: Normalise,
  variables: Variables,
  images: jax.Array,
) -> tuple[jax.Array, dict[str, Any]]:
  """Computes features and new statistics, as `Backbone.train_apply`."""
  if "batch_stats" not in variables:
    return compute_features(module, normalise, variables, images), {}
  features, updated = module.apply(
    variables, normalise(images), train=True, mutable=["batch_stats"]
  )
  return features, updated["batch_stats"]


def compute_stages(
  module: nn.Module,
  normalise: Normalise,
  variables: Variables,
  images: jax.Array,
) -> tuple[jax.Array, Stages]:
  """Computes features and stages, as `Backbone.stage_apply`."""
  features, kept = module.apply(variables, normalise(images), mutable=[KEPT])
  return features, _pool(kept)


def compute_stages_training(
  module: nn.Module,
  normalise: Normalise,
  variables: Variables,
  images: jax.Array,
) -> tuple[tuple[jax.Array, Stages], dict[str, Any]]:
  """Computes all of these, as `Backbone.stage_train_apply`."""
  if "batch_stats" not in variables:
    return compute_stages(module, normalise, variables, images), {}
  features, updated = module.apply(
    variables, normalise(images), train=True, mutable=["batch_stats", KEPT]
  )
  return (features, _pool(updated)), updated["batch_stats"]


def repeat_features(
  apply: Callable[[Variables, jax.Array], jax.Array],
  variables: Variables,
  images: jax.Array,
) -> tuple[jax.Array, Stages]:
  """Computes features, which are the only stage too."""
  features = apply(variables, images)
  return features, (features,)


def normalise(
  mean: tuple[float, ...], std: tuple[float, ...], images: jax.Array
) -> jax.Array:
  """Brings images, uint8 or float in 0..255, to the scale of a module.

  Args:
    mean: Of each channel; subtracted.
    std: Of each channel; what the difference is divided by.
    images: [batch, height, width, channels].

  Returns:
    float32, of the same shape.
  """
  shift, scale = (
    np.asarray(values, np.float32).reshape(1, 1, 1, -1)
    for values in (mean, std)
  )
  return (images.astype(np.float32) - shift) / scale


def _pool(kept: Variables) -> Stages:
  """Averages what is an image: float32 [batch, dim] of each stage."""
  return tuple(
    stage.mean(axis=(1, 2), dtype=jnp.float32) if stage.ndim == 4 else stage
    for stage in kept[KEPT][STAGES]
  )
