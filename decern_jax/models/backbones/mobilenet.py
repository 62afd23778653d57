"""MobileNetV2 with its batch normalization folded into the convolutions."""

from collections.abc import Callable, Iterator
import functools

from flax import linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
import numpy as np

from decern_jax.models.convolution import SameConv
from decern_jax.models.pretrained import Tensors
from decern_jax.models.registry import (
  IMAGENET_MEAN,
  IMAGENET_STD,
  ModelSpec,
  keep_stage,
  register,
)

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
    is_symmetric: As in `same_conv`.
    dtype: Type of the computation.
  """

  features: int
  expansion: int
  stride: int
  is_symmetric: bool = False
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, inputs: jax.Array) -> jax.Array:
    """Maps float [batch, height, width, channels] to the block's features."""
    conv = functools.partial(
      SameConv, is_symmetric=self.is_symmetric, dtype=self.dtype
    )
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
    is_symmetric: Whether convolutions pad half a window on every side, as
      PyTorch's networks do, and not as TensorFlow's 'SAME'.
    dtype: Type of the computation. Parameters and features are float32.

  References:
    Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks",
    CVPR 2018, https://arxiv.org/abs/1801.04381.
  """

  stages: tuple[tuple[int, int, int, int], ...] = STAGES
  stem_width: int = 32
  feature_dim: int = FEATURE_DIM
  is_symmetric: bool = False
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, images: jax.Array) -> jax.Array:
    """Computes features float32 [batch, feature_dim] of images.

    Args:
      images: Float [batch, height, width, 3], normalized as for the weights, 32
        pixels or more on each side.

    Returns:
      The last convolution's output, averaged over the image.
    """
    conv = functools.partial(
      SameConv, is_symmetric=self.is_symmetric, dtype=self.dtype
    )
    outputs = nn.relu6(conv(self.stem_width, 3, 2, name="stem")(images))
    blocks = [*_blocks(self.stages)]
    for index, block in enumerate(blocks, start=1):
      outputs = InvertedResidual(
        *block, self.is_symmetric, self.dtype, name=f"block{index}"
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


def from_torch(tensors: Tensors) -> Tensors:
  """Converts files of torchvision and timm, which have batch normalization.

  Args:
    tensors: The tensors of the file by name.

  Returns:
    The tensors of `torchvision_name`, with the normalization folded in. A file
    of another form is returned unchanged.
  """
  layers = (
    _timm_layers if "conv_stem.weight" in tensors else _torchvision_layers
  )
  renamed = {
    name.replace("classifier.1.", "classifier."): tensor
    for name, tensor in tensors.items()
  }
  return _fold(renamed, layers, epsilon=1e-5)


def from_hugging_face(tensors: Tensors) -> Tensors:
  """Converts files of `transformers`, which have TensorFlow's weights.

  Args:
    tensors: The tensors of the file by name.

  Returns:
    The tensors of `torchvision_name`, with the normalization folded in. A file
    of another form is returned unchanged.

  Raises:
    ValueError: If the file has the 1,000 classes of PyTorch's weights, which
      need another padding and other inputs.
  """
  bias = tensors.get("classifier.bias")
  if "features.0.0.bias" in tensors and bias is not None and bias.size == 1000:
    raise ValueError(
      "Expected weights trained in TensorFlow, with 1,001 classes, got 1,000"
      " classes: PyTorch's, whose padding and inputs are those of"
      " --config.model.name=mobilenet_v2_torch."
    )
  renamed = {
    name.removeprefix("mobilenet_v2."): tensor
    for name, tensor in tensors.items()
  }
  return _fold(renamed, _hugging_face_layers, epsilon=1e-3)


def _fold(
  tensors: Tensors,
  layers: Callable[[str, int, str], tuple[str, str]],
  *,
  epsilon: float,
) -> Tensors:
  """Folds batch normalizations into the convolutions before them.

  Args:
    tensors: The tensors by name.
    layers: Maps a convolution, "stem", "last" or the name of one in a block,
      the block's number and our name of it to its name in the file and to that
      of its normalization.
    epsilon: What the normalization adds to variances.
  """
  folded = dict(tensors)
  for path in _convolutions():
    ours = torchvision_name((*path, "kernel")).removesuffix(".weight")
    block = path[1].removeprefix("block")
    conv, norm = layers(path[-1], int(block) if block.isdigit() else 0, ours)
    if f"{norm}.running_var" not in folded or f"{conv}.weight" not in folded:
      continue
    weight = folded.pop(f"{conv}.weight")
    gain, bias, mean, variance = (
      np.asarray(folded.pop(f"{norm}.{leaf}"), np.float64)
      for leaf in ("weight", "bias", "running_mean", "running_var")
    )
    folded.pop(f"{norm}.num_batches_tracked", None)
    scale = gain / np.sqrt(variance + epsilon)
    weight = weight * scale[:, None, None, None]
    folded[f"{ours}.weight"] = weight.astype(np.float32)
    folded[f"{ours}.bias"] = (bias - mean * scale).astype(np.float32)
  return folded


def _convolutions() -> Iterator[tuple[str, ...]]:
  """Yields the collection and the layers of each convolution."""
  yield "params", "stem"
  for number, (_, expansion, _) in enumerate(_blocks(STAGES), start=1):
    for name in ("expand", "depthwise", "project"):
      if name != "expand" or expansion > 1:
        yield "params", f"block{number}", name
  yield "params", "last"


def _torchvision_layers(name: str, block: int, ours: str) -> tuple[str, str]:
  """Names a convolution and its normalization, which follows it."""
  del name, block
  parent, _, index = ours.rpartition(".")
  return ours, f"{parent}.{int(index) + 1}"


def _timm_layers(name: str, block: int, ours: str) -> tuple[str, str]:
  """Names a convolution and its normalization in a file of timm."""
  del ours
  if block == 0:
    return {"stem": ("conv_stem", "bn1"), "last": ("conv_head", "bn2")}[name]
  places = [(s, i) for s, row in enumerate(STAGES) for i in range(row[2])]
  stage, index = places[block - 1]
  layers = {
    "expand": ("conv_pw", "bn1"),
    "depthwise": ("conv_dw", "bn2"),
    "project": ("conv_pwl", "bn3"),
  }
  if block == 1:
    layers = {"depthwise": ("conv_dw", "bn1"), "project": ("conv_pw", "bn2")}
  conv, norm = layers[name]
  return f"blocks.{stage}.{index}.{conv}", f"blocks.{stage}.{index}.{norm}"


def _hugging_face_layers(name: str, block: int, ours: str) -> tuple[str, str]:
  """Names a convolution and its normalization in a file of transformers."""
  del ours
  layers = {
    "stem": "conv_stem.first_conv",
    "last": "conv_1x1",
    "expand": "expand_1x1",
    "depthwise": "conv_3x3",
    "project": "reduce_1x1",
  }
  parent = {0: "", 1: "conv_stem."}.get(block, f"layer.{block - 2}.")
  layer = f"{parent}{layers[name]}"
  return f"{layer}.convolution", f"{layer}.normalization"


register(
  "mobilenet_v2",
  ModelSpec(
    module=MobileNetV2,
    dim=FEATURE_DIM,
    stage_dims=(24, 32, 96, 320),
    torch_name=torchvision_name,
    adapt=from_hugging_face,
    published=("block17.*", "last.*"),
    packaged="mobilenet_v2_imagenet.safetensors",
  ),
)
# The weights of torchvision and timm. A name of its own, as a saved model does
# not tell how its convolutions pad.
register(
  "mobilenet_v2_torch",
  ModelSpec(
    module=functools.partial(MobileNetV2, is_symmetric=True),
    dim=FEATURE_DIM,
    stage_dims=(24, 32, 96, 320),
    mean=IMAGENET_MEAN,
    std=IMAGENET_STD,
    torch_name=torchvision_name,
    adapt=from_torch,
    published=("block17.*", "last.*"),
  ),
)
