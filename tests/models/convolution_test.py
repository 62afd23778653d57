"""Tests of 'SAME' convolutions in all their forms."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from decern_jax.models import convolution
from tests.models import numpy_networks
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


def make_cases(height, width):
  return {
    name: make_case(shape, height, width) for name, shape in KERNELS.items()
  }


@functools.partial(jax.jit, static_argnames="stride")
def convolve_all(cases, *, stride):
  """All forms in one program."""
  return {
    name: convolution.same_conv(*case, stride=stride)
    for name, case in cases.items()
  }


def loss(operands, slopes):
  outputs = convolve_all(operands, stride=2)
  return sum((outputs[name] * slopes[name]).sum() for name in outputs)


def lower(name, platform):
  inputs, kernel = make_case(KERNELS[name], 8, 8)
  traced = jax.jit(convolution.same_conv).trace(inputs, kernel)
  return traced.lower(lowering_platforms=(platform,)).as_text()


class TestSameConv:
  def test_adds_a_bias_in_its_type(self):
    inputs, _ = make_case((3, 3, 4, 5), 6, 5)
    _, kernel = make_case((3, 3, 4, 5), 1, 1)
    bias = np.arange(5, dtype=np.float32)
    variables = {"params": {"kernel": kernel, "bias": bias}}
    expected = numpy_networks.conv(inputs, kernel, 2) + bias
    for dtype, atol in (("float32", 1e-4), ("bfloat16", 0.3)):
      module = convolution.SameConv(5, 3, stride=2, dtype=dtype)
      outputs = module.apply(variables, inputs)
      assert isinstance(outputs, jax.Array)
      assert outputs.dtype == dtype
      np.testing.assert_allclose(
        np.asarray(outputs, np.float32), expected, atol=atol
      )

  @each("depthwise, channels", [(True, 1), (False, 4)])
  def test_parameters_are_float32(self, key, depthwise, channels):
    module = convolution.SameConv(4, 3, depthwise=depthwise, dtype="bfloat16")
    inputs = jnp.zeros((2, 6, 5, 4))
    params = jax.eval_shape(module.init, key, inputs)["params"]
    assert params["kernel"].shape == (3, 3, channels, 4)
    assert {leaf.dtype for leaf in params.values()} == {jnp.dtype("float32")}


class TestSameConvFunction:
  @each("stride", [1, 2, 3])
  @each("height", [1, 4, 5])
  def test_matches_the_definition_at_every_padding(self, height, stride):
    cases = make_cases(height, 6)
    outputs = convolve_all(cases, stride=stride)
    for name, case in cases.items():
      expected = numpy_networks.conv(*case, stride)
      np.testing.assert_allclose(
        outputs[name], expected, rtol=1e-4, atol=1e-4, err_msg=name
      )

  @each("height", [4, 5])
  @each("name, padding", [("depthwise", 1), ("pointwise", 0), ("grouped", 1)])
  def test_pads_half_a_window_on_every_side(self, name, padding, height):
    case = make_case(KERNELS[name], height, 6)
    found = jax.jit(
      functools.partial(convolution.same_conv, stride=2, is_symmetric=True)
    )(*case)
    expected = numpy_networks.conv(*case, 2, padding)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)

  @each("name", ["depthwise", "pointwise", "few_channels"])
  def test_is_no_convolution_on_a_cpu(self, name):
    assert "stablehlo.convolution" not in lower(name, "cpu")

  @each("platform", ["tpu", "cuda"])
  @each("name", KERNELS)
  def test_is_one_convolution_elsewhere(self, name, platform):
    assert lower(name, platform).count("stablehlo.convolution") == 1

  def test_gradients_match_the_definition(self):
    cases = make_cases(5, 6)
    rng = np.random.default_rng(1)
    slopes = {
      name: rng.normal(size=(2, 3, 3, shape[-1])).astype(np.float32)
      for name, shape in KERNELS.items()
    }
    found = jax.jit(jax.grad(loss))(cases, slopes)
    for name, case in cases.items():
      expected = numpy_networks.conv_gradients(*case, slopes[name], 2)
      for one, other in zip(found[name], expected, strict=True):
        np.testing.assert_allclose(
          one, other, rtol=1e-4, atol=1e-4, err_msg=name
        )
