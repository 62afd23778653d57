"""Tests of the layers of a vision transformer."""

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from decern_jax.models import transformer


class Norm(nn.Module):
  """The layer alone; Flax makes layers in modules only."""

  @nn.compact
  def __call__(self, tokens):
    return transformer.layer_norm("norm")(tokens)


class TestLayerNorm:
  def test_statistics_of_bfloat16_are_float32(self, key):
    # The mean of these numbers is none of bfloat16's, nor their differences.
    tokens = (256 + jnp.arange(64) * 2).reshape(1, 1, 64).astype(jnp.bfloat16)
    normalised, _ = Norm().init_with_output(key, tokens)
    values = np.float64(tokens)
    expected = (values - values.mean()) / np.sqrt(values.var() + 1e-6)
    assert normalised.dtype == jnp.float32
    np.testing.assert_allclose(normalised, expected, rtol=1e-5, atol=1e-6)


class TestAttention:
  def test_equal_tokens_attend_to_their_values(self, key):
    tokens = jnp.ones((2, 5, 8))
    module = transformer.Attention(num_heads=2)
    mixed, variables = module.init_with_output(key, tokens)
    params = variables["params"]
    values = (tokens @ params["qkv"]["kernel"])[..., 16:]
    expected = values @ params["proj"]["kernel"]
    np.testing.assert_allclose(mixed, expected, rtol=1e-5, atol=1e-6)

  def test_permuting_tokens_permutes_outputs(self, key):
    tokens = jax.random.normal(key, (2, 5, 8))
    module = transformer.Attention(num_heads=2)
    mixed, variables = module.init_with_output(key, tokens)
    np.testing.assert_allclose(
      module.apply(variables, tokens[:, ::-1]), mixed[:, ::-1], atol=1e-6
    )


class TestPatchEmbedding:
  def test_is_a_convolution_with_its_stride(self, key):
    images = jax.random.normal(key, (2, 9, 13, 3))
    module = transformer.PatchEmbedding(width=5, patch_size=4)
    patches, variables = module.init_with_output(key, images)
    expected = jax.lax.conv_general_dilated(
      images,
      variables["params"]["kernel"],
      (4, 4),
      "VALID",
      dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    assert patches.shape == (2, 2, 3, 5)
    np.testing.assert_allclose(patches, expected, rtol=1e-4, atol=1e-5)
