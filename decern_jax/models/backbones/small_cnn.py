"""A small residual network for small pictures."""

from collections.abc import Mapping
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from decern_jax.models.convolution import SameConv
from decern_jax.models.registry import ModelSpec, keep_stage, register

# Channels of the stem and of the stages; each halves the resolution.
_STEM_WIDTH = 24
STAGE_DIMS = (48, 96, 160)

# The features are the outputs of the last two stages.
FEATURE_DIM = STAGE_DIMS[-2] + STAGE_DIMS[-1]

_MOMENTUM = 0.95
_EPSILON = 1e-5
_NORM_SUFFIX = "_norm"
_PROJECTION = "project"


class SmallCNN(nn.Module):
  """A stem and three residual stages; a projection whitens the features.

  The weights that ship with the package come from
  `benchmarks/pretrain_small_cnn.py`.

  Attributes:
    use_batch_norm: Whether batch normalization follows every convolution, and
      there is no projection. The network is trained in this form, and
      `fold_batch_norm` converts its variables to the other form, in which the
      features of an image do not depend on other images.
    dtype: Type of the computation. Parameters, statistics and features are
      float32.
  """

  use_batch_norm: bool = False
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, images: jax.Array) -> jax.Array:
    """Computes features float32 [batch, 256] of images.

    Args:
      images: Float [batch, height, width, 3] in [-1, 1], 32 pixels or more on
        each side.

    Returns:
      The activations of the last two stages, averaged over the image, and
      projected unless batch normalization is used.
    """
    outputs = nn.relu(self._conv(images, _STEM_WIDTH, "stem", stride=2))
    pooled = []
    for i, width in enumerate(STAGE_DIMS):
      outputs = nn.relu(self._conv(outputs, width, f"reduce{i}", stride=2))
      residual = nn.relu(self._conv(outputs, width, f"expand{i}"))
      outputs = nn.relu(outputs + self._conv(residual, width, f"refine{i}"))
      keep_stage(self, outputs)
      pooled.append(outputs.mean(axis=(1, 2), dtype=jnp.float32))
    features = jnp.concatenate(pooled[-2:], axis=-1)
    if self.use_batch_norm:
      return features
    return nn.Dense(FEATURE_DIM, name=_PROJECTION)(features)

  def _conv(
    self, inputs: jax.Array, features: int, name: str, stride: int = 1
  ) -> jax.Array:
    conv = SameConv(features, 3, stride, dtype=self.dtype, name=name)
    outputs = conv(inputs)
    if not self.use_batch_norm:
      return outputs
    norm = nn.BatchNorm(
      use_running_average=False,
      momentum=_MOMENTUM,
      epsilon=_EPSILON,
      name=name + _NORM_SUFFIX,
    )
    return norm(outputs.astype(jnp.float32)).astype(self.dtype)


def fold_batch_norm(variables: Mapping[str, Any]) -> dict[str, Any]:
  """Folds the normalization of a trained network into its convolutions.

  Args:
    variables: `params` and `batch_stats` of `SmallCNN(use_batch_norm=True)`.

  Returns:
    The variables of a `SmallCNN()` that normalizes by the running statistics
    and has the identity as its projection.
  """
  params, stats = variables["params"], variables["batch_stats"]
  folded = {
    _PROJECTION: {
      "kernel": jnp.eye(FEATURE_DIM),
      "bias": jnp.zeros(FEATURE_DIM),
    }
  }
  for norm, statistics in stats.items():
    name = norm.removesuffix(_NORM_SUFFIX)
    gain = params[norm]["scale"] / jnp.sqrt(statistics["var"] + _EPSILON)
    shift = (params[name]["bias"] - statistics["mean"]) * gain
    folded[name] = {
      "kernel": params[name]["kernel"] * gain.reshape(1, 1, 1, -1),
      "bias": params[norm]["bias"] + shift,
    }
  return {"params": folded}


register(
  "small_cnn",
  ModelSpec(
    module=SmallCNN,
    dim=FEATURE_DIM,
    stage_dims=STAGE_DIMS,
    published=("reduce2.*", "expand2.*", "refine2.*", "project.*"),
    packaged="small_cnn.safetensors",
  ),
)
