"""Tests of the layers of a vision transformer, and of resized positions."""

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from decern_jax.models import transformer
from tests.models import numpy_networks, tiny_models
from tests.table import each


class Norm(nn.Module):
  """The layer alone; Flax makes layers in modules only."""

  @nn.compact
  def __call__(self, tokens):
    return transformer.layer_norm("norm")(tokens)


def test_statistics_of_bfloat16_are_float32():
  # The mean of these numbers is none of bfloat16's, nor their differences.
  values = 256 + np.arange(64.0).reshape(1, 1, 64) * 2
  tokens = jnp.asarray(values, jnp.bfloat16)
  layer = {"scale": np.ones(64, np.float32), "bias": np.zeros(64, np.float32)}
  normalized = Norm().apply({"params": {"norm": layer}}, tokens)
  expected = numpy_networks.layer_norm(layer, np.float64(tokens))
  assert isinstance(normalized, jax.Array)
  assert normalized.dtype == jnp.float32
  np.testing.assert_allclose(normalized, expected, rtol=1e-5, atol=1e-6)


class TestAttention:
  def test_heads_mix_values_by_the_softmax_of_their_scores(self, key):
    tokens = np.random.default_rng(0).normal(size=(2, 5, 8)).astype(np.float32)
    module = transformer.Attention(num_heads=2)
    variables = tiny_models.draw(jax.eval_shape(module.init, key, tokens))
    mixed = jax.jit(module.apply)(variables, tokens)
    expected = numpy_networks.attention(variables["params"], tokens, 2)
    np.testing.assert_allclose(mixed, expected, rtol=1e-4, atol=1e-5)


@pytest.fixture
def grid():
  return np.random.default_rng(0).normal(size=(7, 7, 3)).astype(np.float32)


class TestResizeGrid:
  @each("offset, antialias", [(0.0, False), (0.1, False), (0.0, True)])
  @each("shape", [(3, 5), (4, 4), (8, 16)])
  def test_agrees_with_opencv_and_pillow(self, grid, shape, offset, antialias):
    resized = transformer.resize_grid(
      grid, shape, offset=offset, antialias=antialias
    )
    expected = numpy_networks.resize_grid(grid, shape, offset, antialias)
    np.testing.assert_allclose(resized, expected, rtol=1e-5, atol=5e-6)

  @each("offset, antialias", [(0.0, False), (0.1, False), (0.0, True)])
  @each("shape", [(3, 5), (4, 4), (7, 6), (8, 8), (16, 3)])
  def test_agrees_with_pytorch(self, grid, shape, offset, antialias):
    torch = pytest.importorskip("torch")
    expected = torch.nn.functional.interpolate(
      torch.from_numpy(grid).permute(2, 0, 1)[None],
      scale_factor=[(size + offset) / 7 for size in shape],
      mode="bicubic",
      antialias=antialias,
    )
    resized = transformer.resize_grid(
      grid, shape, offset=offset, antialias=antialias
    )
    np.testing.assert_allclose(
      resized, expected[0].permute(1, 2, 0), rtol=1e-5, atol=2e-6
    )

  def test_same_shape_is_unchanged(self, grid):
    resized = transformer.resize_grid(grid, (7, 7), offset=0.1, antialias=True)
    np.testing.assert_array_equal(resized, grid)

  def test_is_linear_and_differentiable(self, grid):
    def total(grid):
      return transformer.resize_grid(grid, (4, 4), offset=0.1).sum()

    value, gradient = jax.jit(jax.value_and_grad(total))(grid)
    np.testing.assert_allclose((gradient * grid).sum(), value, rtol=1e-4)
