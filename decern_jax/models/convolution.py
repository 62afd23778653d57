"""Padded convolutions, in the fastest form for the processor."""

from collections.abc import Callable, Sequence
import functools

from flax import linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

# Up to this many values per window, a matrix product of the gathered windows is
# faster than XLA's CPU convolution; from 64 channels on it is 2 to 3 times
# slower.
_MAX_WINDOW = 32

# Zeros before and after the rows, and the columns.
Pads = Sequence[tuple[int, int]]


class SameConv(nn.Module):
  """Convolution with padding and a bias.

  Attributes:
    features: Number of output channels.
    window: Rows and columns of the kernel.
    stride: Pixels from one window to the next.
    depthwise: Whether output channel c depends only on input channel c.
    is_symmetric: As in `same_conv`.
    dtype: Type of the computation; the parameters are float32.
  """

  features: int
  window: int = 1
  stride: int = 1
  depthwise: bool = False
  is_symmetric: bool = False
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, inputs: jax.Array) -> jax.Array:
    """Convolves float [batch, height, width, channels]."""
    group_size = 1 if self.depthwise else inputs.shape[-1]
    shape = (self.window, self.window, group_size, self.features)
    kernel = self.param("kernel", nn.initializers.he_normal(), shape)
    bias = self.param("bias", nn.initializers.zeros, (self.features,))
    inputs, kernel, bias = (
      array.astype(self.dtype) for array in (inputs, kernel, bias)
    )
    outputs = same_conv(
      inputs, kernel, stride=self.stride, is_symmetric=self.is_symmetric
    )
    return outputs + bias.reshape(1, 1, 1, -1)


def same_conv(
  inputs: jax.Array,
  kernel: jax.Array,
  *,
  stride: int = 1,
  is_symmetric: bool = False,
) -> jax.Array:
  """Convolves images with padding, to ceil(size / stride) pixels.

  TensorFlow's 'SAME' padding is divided between both sides, an odd zero is at
  the bottom or the right. PyTorch's networks pad half a window on every side,
  which differs where the stride is 2 and the size is even. The number of groups
  follows from the shapes: a kernel of one input channel is a depthwise
  convolution.

  All processors compute the same sums. On a CPU they are matrix products and
  shifted multiply-adds if these are faster.

  Args:
    inputs: Float [batch, height, width, channels].
    kernel: Float [rows, columns, channels / groups, outputs].
    stride: Pixels from one window to the next, along height and width.
    is_symmetric: Whether half a window is padded on every side; the kernel has
      odd sides then.

  Returns:
    Float [batch, ceil(height / stride), ceil(width / stride), outputs].
  """
  if is_symmetric:
    pads = tuple((side // 2, side // 2) for side in kernel.shape[:2])
  else:
    pads = jax.lax.padtype_to_pads(
      inputs.shape[1:3], kernel.shape[:2], (stride, stride), "SAME"
    )
  return jax.lax.platform_dependent(
    inputs,
    kernel,
    cpu=functools.partial(_cpu_form(inputs, kernel), stride=stride, pads=pads),
    default=functools.partial(_convolution, stride=stride, pads=pads),
  )


def _cpu_form(inputs: jax.Array, kernel: jax.Array) -> Callable[..., jax.Array]:
  rows, columns, group_size, outputs = kernel.shape
  channels = inputs.shape[-1]
  # XLA's CPU backend has no fast path for grouped convolutions, with which
  # MobileNetV2 would take nine times as long. Shifted multiply-adds fuse into
  # one loop whose innermost axis, the channels, is vectorized.
  if group_size == 1 and outputs == channels:
    return _shifted_sum
  if group_size == channels and rows == columns == 1:
    return _pointwise_product
  if group_size == channels and rows * columns * channels <= _MAX_WINDOW:
    return _window_product
  return _convolution


def _convolution(
  inputs: jax.Array, kernel: jax.Array, *, stride: int, pads: Pads
) -> jax.Array:
  return jax.lax.conv_general_dilated(
    inputs,
    kernel,
    window_strides=(stride, stride),
    padding=pads,
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
    feature_group_count=inputs.shape[-1] // kernel.shape[2],
  )


def _pointwise_product(
  inputs: jax.Array, kernel: jax.Array, *, stride: int, pads: Pads
) -> jax.Array:
  del pads  # of a window of one pixel
  return inputs[:, ::stride, ::stride] @ kernel[0, 0]


def _window_product(
  inputs: jax.Array, kernel: jax.Array, *, stride: int, pads: Pads
) -> jax.Array:
  shifts = _shifts(inputs, kernel.shape[:2], stride, pads)
  windows = jnp.concatenate(shifts, axis=-1)
  return windows @ kernel.reshape(-1, kernel.shape[-1])


def _shifted_sum(
  inputs: jax.Array, kernel: jax.Array, *, stride: int, pads: Pads
) -> jax.Array:
  shifts = _shifts(inputs, kernel.shape[:2], stride, pads)
  taps = kernel.reshape(len(shifts), 1, 1, 1, -1)
  products = (shift * tap for shift, tap in zip(shifts, taps, strict=True))
  return functools.reduce(jnp.add, products)


def _shifts(
  inputs: jax.Array, window: tuple[int, ...], stride: int, pads: Pads
) -> list[jax.Array]:
  """Returns the inputs shifted by each position in a window, row by row."""
  height, width = inputs.shape[1:3]
  padded = jnp.pad(inputs, ((0, 0), *pads, (0, 0)))
  rows, columns = -(-height // stride), -(-width // stride)
  return [
    padded[:, i : i + rows * stride : stride, j : j + columns * stride : stride]
    for i in range(window[0])
    for j in range(window[1])
  ]
