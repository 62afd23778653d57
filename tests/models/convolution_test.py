"""Tests of 'SAME' convolutions in all their forms."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from decern_jax.models import convolution
from tests.table import each

# Kernel shapes for 4 and for 40 input channels: one for each form.
KERNELS = {
  "depthwise": (3, 3, 1, 4),
  "pointwise": (1, 1, 4, 6),
  "few_channels": (2, 3, 4, 5),
  "many_channels": (3, 3, 40, 8),
  "grouped": (3, 3, 2, 6),
  "channel_multiplier": (3, 3, 1, 8),
}


def make_case(kernel_shape, height, width):
  rng = np.random.default_rng(0)
  channels = 40 if kernel_shape[2] == 40 else 4
  inputs = rng.normal(size=(2, height, width, channels))
  kernel = rng.normal(size=kernel_shape)
  return inputs.astype(np.float32), kernel.astype(np.float32)


def naive_conv(inputs, kernel, stride):
  """TensorFlow's definition, one output at a time."""
  rows, columns, group_size, num_outputs = kernel.shape
  batch, height, width, channels = inputs.shape
  out_height, out_width = -(-height // stride), -(-width // stride)
  top = max((out_height - 1) * stride + rows - height, 0) // 2
  left = max((out_width - 1) * stride + columns - width, 0) // 2
  per_group = num_outputs // (channels // group_size)
  outputs = np.zeros((batch, out_height, out_width, num_outputs))
  for n, y, x, o, i, j, c in np.ndindex(*outputs.shape, *kernel.shape[:3]):
    row, column = y * stride + i - top, x * stride + j - left
    if 0 <= row < height and 0 <= column < width:
      channel = o // per_group * group_size + c
      outputs[n, y, x, o] += (
        float(inputs[n, row, column, channel]) * kernel[i, j, c, o]
      )
  return outputs


def xla_conv(inputs, kernel, stride):
  return jax.lax.conv_general_dilated(
    inputs,
    kernel,
    (stride, stride),
    "SAME",
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
    feature_group_count=inputs.shape[-1] // kernel.shape[2],
  )


def lower(name, platform):
  inputs, kernel = make_case(KERNELS[name], 8, 8)
  traced = jax.jit(convolution.same_conv).trace(inputs, kernel)
  return traced.lower(lowering_platforms=(platform,)).as_text()


class TestSameConv:
  @each("dtype", ["float32", "bfloat16"])
  def test_adds_a_bias_in_its_type(self, key, dtype):
    inputs, _ = make_case((3, 3, 4, 5), 6, 5)
    module = convolution.SameConv(5, 3, stride=2, dtype=dtype)
    outputs, variables = module.init_with_output(key, inputs)
    params = variables["params"] | {"bias": jnp.arange(5.0)}
    moved = module.apply({"params": params}, inputs)
    assert outputs.shape == (2, 3, 3, 5)
    assert outputs.dtype == dtype
    assert {leaf.dtype for leaf in params.values()} == {jnp.dtype("float32")}
    np.testing.assert_allclose(
      (moved - outputs).astype(float),
      np.broadcast_to(np.arange(5.0), outputs.shape),
      atol=1e-5 if dtype == "float32" else 5e-2,
    )

  def test_depthwise_kernel_sees_one_channel(self, key):
    inputs, _ = make_case((3, 3, 4, 5), 6, 5)
    module = convolution.SameConv(4, 3, depthwise=True)
    variables = module.init(key, inputs)
    assert variables["params"]["kernel"].shape == (3, 3, 1, 4)


class TestSameConvFunction:
  @each("stride", [1, 2])
  @each("size", [(5, 4), (4, 3)])
  @each("name", ["depthwise", "few_channels", "grouped"])
  def test_matches_naive_loop(self, name, size, stride):
    inputs, kernel = make_case(KERNELS[name], *size)
    outputs = convolution.same_conv(inputs, kernel, stride=stride)
    expected = naive_conv(inputs, kernel, stride)
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-5)

  @each("stride", [1, 2, 3])
  @each("height", range(1, 6))
  @each("name", KERNELS)
  def test_matches_xla_at_every_padding(self, name, height, stride):
    inputs, kernel = make_case(KERNELS[name], height, 6)
    outputs = convolution.same_conv(inputs, kernel, stride=stride)
    expected = xla_conv(inputs, kernel, stride)
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-5)

  @each("name", ["depthwise", "pointwise", "few_channels"])
  def test_is_no_convolution_on_a_cpu(self, name):
    assert "stablehlo.convolution" not in lower(name, "cpu")

  @each("platform", ["tpu", "cuda"])
  @each("name", KERNELS)
  def test_is_one_convolution_elsewhere(self, name, platform):
    assert lower(name, platform).count("stablehlo.convolution") == 1

  @each("name", KERNELS)
  def test_gradients_match_xla(self, name):
    inputs, kernel = make_case(KERNELS[name], 5, 6)

    def loss(conv, inputs, kernel):
      return jnp.sin(conv(inputs, kernel)).sum()

    grad = jax.grad(loss, argnums=(1, 2))
    actual = grad(
      functools.partial(convolution.same_conv, stride=2), inputs, kernel
    )
    expected = grad(functools.partial(xla_conv, stride=2), inputs, kernel)
    for one, other in zip(actual, expected, strict=True):
      np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)
