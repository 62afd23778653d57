"""ResNets as torchvision, timm and DINO define them."""

from collections.abc import Callable
import functools
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from decern_jax.models.convolution import same_conv
from decern_jax.models.registry import (
  IMAGENET_MEAN,
  IMAGENET_STD,
  ModelSpec,
  keep_stage,
  register,
)

_MOMENTUM = 0.9
_EPSILON = 1e-5
_BOTTLENECK_EXPANSION = 4

_LEAVES = {
  "kernel": "weight",
  "scale": "weight",
  "bias": "bias",
  "mean": "running_mean",
  "var": "running_var",
}

# Counters that PyTorch stores with the statistics, and does not use.
IGNORABLE = ("*.num_batches_tracked",)


class Conv(nn.Module):
  """Convolution without a bias, padded by half a window on every side.

  Attributes:
    features: Number of output channels.
    window: Rows and columns of the kernel; odd.
    stride: Pixels from one window to the next.
    dtype: Type of the computation; the kernel is float32.
  """

  features: int
  window: int = 1
  stride: int = 1
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, inputs: jax.Array) -> jax.Array:
    """Convolves float [batch, height, width, channels]."""
    shape = (self.window, self.window, inputs.shape[-1], self.features)
    kernel = self.param("kernel", nn.initializers.he_normal(), shape)
    inputs, kernel = inputs.astype(self.dtype), kernel.astype(self.dtype)
    if self.window == 1:
      return same_conv(inputs, kernel, stride=self.stride)
    # 'SAME' would pad strided windows less at the top and the left.
    form = functools.partial(_convolve, stride=self.stride)
    if -(-min(inputs.shape[1:3]) // self.stride) >= self.window:
      return form(inputs, kernel)
    gather = functools.partial(_gather_product, stride=self.stride)
    return jax.lax.platform_dependent(inputs, kernel, cpu=gather, default=form)


def _convolve(
  inputs: jax.Array, kernel: jax.Array, *, stride: int
) -> jax.Array:
  half = kernel.shape[0] // 2
  return jax.lax.conv_general_dilated(
    inputs,
    kernel,
    window_strides=(stride, stride),
    padding=[(half, half)] * 2,
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
  )


def _gather_product(
  inputs: jax.Array, kernel: jax.Array, *, stride: int
) -> jax.Array:
  """Convolves by one matrix product of the gathered windows.

  XLA's CPU backend has no fast path for images smaller than the window, which
  can also occur only in the gradient. This form is 30 to 100 times as fast.
  """
  half, size = kernel.shape[0] // 2, kernel.shape[0]
  padded = jnp.pad(inputs, ((0, 0), (half, half), (half, half), (0, 0)))
  rows, columns = (-(-side // stride) for side in inputs.shape[1:3])
  windows = jnp.concatenate(
    [
      padded[
        :, i : i + rows * stride : stride, j : j + columns * stride : stride
      ]
      for i in range(size)
      for j in range(size)
    ],
    axis=-1,
  )
  return windows @ kernel.reshape(-1, kernel.shape[-1])


class ResidualBlock(nn.Module):
  """Two 3x3 convolutions, or one between two 1x1 convolutions, and a shortcut.

  Attributes:
    features: Number of channels of the 3x3 convolutions.
    stride: Stride of the first 3x3 convolution.
    use_bottleneck: Whether 1x1 convolutions reduce the channels before and
      multiply them by four after.
    dtype: Type of the computation, except for the normalizations.
  """

  features: int
  stride: int
  use_bottleneck: bool
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, inputs: jax.Array, *, train: bool = False) -> jax.Array:
    """Maps float [batch, height, width, channels] to the block's features."""
    layers = self._layers()
    outputs = inputs
    for index, conv in enumerate(layers, start=1):
      outputs = _norm(f"bn{index}", train, self.dtype)(conv(outputs))
      if index < len(layers):
        outputs = nn.relu(outputs)
    shortcut = inputs
    if outputs.shape != inputs.shape:
      shortcut = Conv(
        outputs.shape[-1],
        stride=self.stride,
        dtype=self.dtype,
        name="downsample_0",
      )(inputs)
      shortcut = _norm("downsample_1", train, self.dtype)(shortcut)
    return nn.relu(shortcut + outputs)

  def _layers(self) -> tuple[Conv, ...]:
    conv = functools.partial(Conv, dtype=self.dtype)
    features, stride = self.features, self.stride
    if not self.use_bottleneck:
      return (
        conv(features, 3, stride, name="conv1"),
        conv(features, 3, name="conv2"),
      )
    return (
      conv(features, name="conv1"),
      conv(features, 3, stride, name="conv2"),
      conv(features * _BOTTLENECK_EXPANSION, name="conv3"),
    )


class ResNet(nn.Module):
  """A residual network (v1.5), up to the features that its classifier reads.

  The running statistics of the batch normalization are the collection
  `batch_stats`. They follow the biased variance of each batch, PyTorch's the
  unbiased one, which differs by a factor of 1 - 1 / n for n pixels of a batch.

  Attributes:
    stage_sizes: Number of blocks of each stage.
    use_bottleneck: Whether the blocks have three convolutions.
    width: Channels of the stem and of the first stage's 3x3 convolutions;
      every later stage has twice as many.
    dtype: Type of the computation, except for the normalizations. Variables and
      features are float32.

  References:
    He et al., "Deep Residual Learning for Image Recognition", CVPR 2016,
    https://arxiv.org/abs/1512.03385.
  """

  stage_sizes: tuple[int, ...]
  use_bottleneck: bool
  width: int = 64
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, images: jax.Array, *, train: bool = False) -> jax.Array:
    """Computes features of images.

    Args:
      images: Float [batch, height, width, 3].
      train: Whether to normalize by the statistics of the batch, and to update
        the running statistics if `batch_stats` is mutable.

    Returns:
      The last block's output, averaged over the image: float32 [batch, dim].
    """
    outputs = Conv(self.width, 7, 2, self.dtype, name="conv1")(images)
    outputs = nn.relu(_norm("bn1", train, self.dtype)(outputs))
    padding: Any = ((1, 1), (1, 1))  # Flax's annotation lacks pairs
    outputs = nn.max_pool(outputs, (3, 3), (2, 2), padding=padding)
    for stage, num_blocks in enumerate(self.stage_sizes):
      for index in range(num_blocks):
        outputs = ResidualBlock(
          self.width * 2**stage,
          stride=2 if stage > 0 and index == 0 else 1,
          use_bottleneck=self.use_bottleneck,
          dtype=self.dtype,
          name=f"layer{stage + 1}_{index}",
        )(outputs, train=train)
      keep_stage(self, outputs)
    return outputs.mean(axis=(1, 2), dtype=jnp.float32)


def make_spec(
  *stage_sizes: int,
  use_bottleneck: bool,
  width: int = 64,
  origin: str = "",
) -> ModelSpec:
  """Returns the row of a `ResNet` with these attributes.

  Args:
    *stage_sizes: Number of blocks of each stage.
    use_bottleneck: Whether the blocks have three convolutions.
    width: Channels of the stem.
    origin: As in `ModelSpec`.
  """
  expansion = _BOTTLENECK_EXPANSION if use_bottleneck else 1
  stage_dims = tuple(
    width * 2**stage * expansion for stage in range(len(stage_sizes))
  )
  return ModelSpec(
    module=functools.partial(ResNet, stage_sizes, use_bottleneck, width),
    dim=stage_dims[-1],
    stage_dims=stage_dims,
    mean=IMAGENET_MEAN,
    std=IMAGENET_STD,
    torch_name=torchvision_name,
    ignorable=IGNORABLE,
    published=(f"layer{len(stage_sizes)}_*",),
    origin=origin,
  )


def torchvision_name(path: tuple[str, ...]) -> str:
  """Returns the name of a variable in files of torchvision, timm and DINO.

  Args:
    path: Collection, layers and leaf, such as `("params", "layer1_0", "conv1",
      "kernel")`. The classifier is the collection `"head"`.

  Returns:
    The tensor's name, such as `"layer1.0.conv1.weight"`.
  """
  collection, *layers, leaf = path
  layer = "fc" if collection == "head" else ".".join(layers)
  return f"{layer.replace('_', '.')}.{_LEAVES[leaf]}"


def _norm(
  name: str, train: bool, dtype: DTypeLike
) -> Callable[[jax.Array], jax.Array]:
  """Returns batch normalization in float32, for inputs of any type."""
  norm = nn.BatchNorm(
    use_running_average=not train,
    momentum=_MOMENTUM,
    epsilon=_EPSILON,
    name=name,
  )
  return lambda inputs: norm(inputs.astype(jnp.float32)).astype(dtype)


register("resnet18", make_spec(2, 2, 2, 2, use_bottleneck=False))
register("resnet34", make_spec(3, 4, 6, 3, use_bottleneck=False))
register(
  "resnet50",
  make_spec(
    *(3, 4, 6, 3),
    use_bottleneck=True,
    origin=(
      "https://dl.fbaipublicfiles.com/dino/dino_resnet50_pretrain/"
      "dino_resnet50_pretrain.pth"
    ),
  ),
)
register("resnet101", make_spec(3, 4, 23, 3, use_bottleneck=True))
