"""MobileNetV2 with its batch normalization folded into the convolutions."""

from collections.abc import Iterator
import functools

from flax import linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from decern_jax.models.convolution import SameConv
from decern_jax.models.registry import ModelSpec, keep_stage, register

FEATURE_DIM = 1280

# (expansion, features, number of blocks, stride of the first) of each stage.
STAGES = (
  (1, 16, 1, 1),
  (6, 24, 2, 2),
  (6, 32, 3, 2),
  (6, 64, 4, 2),
  (6, 96, 3, 1),
  (6, 160, 3, 2),
  (6, 320, 1, 1),
)

# The layers of a block in torchvision. The first block has no expansion, and
# a convolution without an activation is not wrapped.
_FIRST_BLOCK = {"depthwise": "0.0", "project": "1"}
_LATER_BLOCKS = {"expand": "0.0", "depthwise": "1.0", "project": "2"}
_LEAVES = {"kernel": "weight", "bias": "bias"}


class InvertedResidual(nn.Module):
  """Expands the channels, filters each one, and projects them back.

  Attributes:
    features: Number of output channels.
    expansion: Filtered channels per input channel; 1 skips the expansion.
    stride: Stride of the filter. With stride 1 and equal channels, the input is
      added to the output.
    dtype: Type of the computation.
  """

  features: int
  expansion: int
  stride: int
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, inputs: jax.Array) -> jax.Array:
    """Maps float [batch, height, width, channels] to the block's features."""
    conv = functools.partial(SameConv, dtype=self.dtype)
    hidden = inputs.shape[-1] * self.expansion
    outputs = inputs
    if self.expansion > 1:
      outputs = nn.relu6(conv(hidden, name="expand")(outputs))
    outputs = nn.relu6(
      conv(hidden, 3, self.stride, depthwise=True, name="depthwise")(outputs)
    )
    outputs = conv(self.features, name="project")(outputs)
    is_residual = self.stride == 1 and outputs.shape == inputs.shape
    return inputs + outputs if is_residual else outputs


class MobileNetV2(nn.Module):
  """MobileNetV2 of width 1.0, up to the features that its classifier reads.

  The stages that it keeps are the last blocks at each resolution from a
  quarter of the image on.

  Attributes:
    stages: (expansion, features, number of blocks, stride of the first block)
      of each group of blocks.
    stem_width: Channels of the first convolution.
    feature_dim: Channels of the last convolution.
    dtype: Type of the computation. Parameters and features are float32.

  References:
    Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks",
    CVPR 2018, https://arxiv.org/abs/1801.04381.
  """

  stages: tuple[tuple[int, int, int, int], ...] = STAGES
  stem_width: int = 32
  feature_dim: int = FEATURE_DIM
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, images: jax.Array) -> jax.Array:
    """Computes features float32 [batch, feature_dim] of images.

    Args:
      images: Float [batch, height, width, 3] in [-1, 1], 32 pixels or more on
        each side.

    Returns:
      The last convolution's output, averaged over the image.
    """
    conv = functools.partial(SameConv, dtype=self.dtype)
    outputs = nn.relu6(conv(self.stem_width, 3, 2, name="stem")(images))
    blocks = [*_blocks(self.stages)]
    for index, block in enumerate(blocks, start=1):
      outputs = InvertedResidual(
        *block, dtype=self.dtype, name=f"block{index}"
      )(outputs)
      if index in _last_blocks(blocks):
        keep_stage(self, outputs)
    outputs = nn.relu6(conv(self.feature_dim, name="last")(outputs))
    return outputs.mean(axis=(1, 2), dtype=jnp.float32)


def torchvision_name(path: tuple[str, ...]) -> str:
  """Returns torchvision's name of a parameter with folded normalization.

  Args:
    path: Collection, layers and leaf, such as `("params", "stem", "kernel")`.
      The classifier is the collection `"head"`.

  Returns:
    The tensor's name, such as `"features.0.0.weight"`.
  """
  match path:
    case ("head", leaf):
      layer = "classifier"
    case (_, "stem", leaf):
      layer = "features.0.0"
    case (_, "last", leaf):
      layer = "features.18.0"
    case (_, "block1", name, leaf):
      layer = f"features.1.conv.{_FIRST_BLOCK[name]}"
    case (_, block, name, leaf):
      index = block.removeprefix("block")
      layer = f"features.{index}.conv.{_LATER_BLOCKS[name]}"
  return f"{layer}.{_LEAVES[leaf]}"


def _blocks(
  stages: tuple[tuple[int, int, int, int], ...],
) -> Iterator[tuple[int, int, int]]:
  """Yields features, expansion and stride of each block."""
  for expansion, features, num_blocks, stride in stages:
    for index in range(num_blocks):
      yield features, expansion, stride if index == 0 else 1


def _last_blocks(blocks: list[tuple[int, int, int]]) -> list[int]:
  """Returns the numbers, from 1, of the last blocks at each resolution."""
  ends = [i for i, (_, _, stride) in enumerate(blocks) if stride == 2]
  # The first of these is at half the image.
  return [*ends[1:], len(blocks)]


register(
  "mobilenet_v2",
  ModelSpec(
    module=MobileNetV2,
    dim=FEATURE_DIM,
    stage_dims=(24, 32, 96, 320),
    torch_name=torchvision_name,
    published=("block17.*", "last.*"),
    packaged="mobilenet_v2_imagenet.safetensors",
  ),
)
