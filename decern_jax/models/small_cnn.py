"""A small residual network for small pictures, without normalisation layers."""

from flax import linen as nn
import jax
import jax.numpy as jnp

from decern_jax.models.mobilenet import SameConv

# Channels of the stem and of the stages; each halves the resolution.
_STEM_WIDTH = 24
_WIDTHS = (48, 96, 160)

# The features are those of the last two stages.
FEATURE_DIM = _WIDTHS[-2] + _WIDTHS[-1]


class ResidualStage(nn.Module):
  """Halves the resolution, then refines the result by a residual.

  Attributes:
    features: Number of output channels.
  """

  features: int

  @nn.compact
  def __call__(self, inputs: jax.Array) -> jax.Array:
    """Maps float [batch, height, width, channels] to half the resolution."""
    outputs = nn.relu(
      nn.Conv(self.features, (3, 3), strides=2, name="reduce")(inputs)
    )
    residual = nn.relu(nn.Conv(self.features, (3, 3), name="expand")(outputs))
    # A start at the identity stands in for the absent normalisation.
    residual = nn.Conv(
      self.features, (3, 3), kernel_init=nn.initializers.zeros, name="refine"
    )(residual)
    return nn.relu(outputs + residual)


class SmallCNN(nn.Module):
  """A stem and three residual stages; the last two give the features.

  An image's features depend on nothing but the image and the weights.  Those
  that ship with the package come from `benchmarks/pretrain_small_cnn.py`.
  """

  @nn.compact
  def __call__(self, images: jax.Array) -> jax.Array:
    """Computes features float [batch, 256] of images.

    Args:
      images: Float [batch, height, width, 3] in [-1, 1], 32 pixels or more on
        each side.

    Returns:
      The activations of the last two stages, averaged over the image.
    """
    outputs = nn.relu(SameConv(_STEM_WIDTH, 3, stride=2, name="stem")(images))
    pooled = []
    for i, width in enumerate(_WIDTHS):
      outputs = ResidualStage(width, name=f"stage{i}")(outputs)
      pooled.append(outputs.mean(axis=(1, 2)))
    return jnp.concatenate(pooled[-2:], axis=-1)
