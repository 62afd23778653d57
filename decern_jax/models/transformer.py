"""Layers of a vision transformer, and its position embeddings resized."""

from collections.abc import Callable
import functools
import math

from flax import linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
import numpy as np

INIT = nn.initializers.truncated_normal(0.02)

_EPSILON = 1e-6
_MLP_RATIO = 4

# Free coefficients of the cubic kernel in PyTorch.
_COEFFICIENT = -0.75
_ANTIALIAS_COEFFICIENT = -0.5
_SUPPORT = 2


def layer_norm(name: str) -> Callable[[jax.Array], jax.Array]:
  """Returns a layer that normalizes tokens of any type, in float32."""
  norm = nn.LayerNorm(epsilon=_EPSILON, use_fast_variance=False, name=name)
  return lambda tokens: norm(tokens.astype(jnp.float32))


class PatchEmbedding(nn.Module):
  """A linear layer on patches; pixels beyond the last whole patch are cropped.

  Attributes:
    width: Length of a token.
    patch_size: Height and width of a patch.
    dtype: Type of the computation; the parameters are float32.
  """

  width: int
  patch_size: int
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, images: jax.Array) -> jax.Array:
    """Maps float [batch, height, width, 3] to [batch, rows, columns, width]."""
    batch, height, width, channels = images.shape
    size = self.patch_size
    rows, columns = height // size, width // size
    shape = (size, size, channels, self.width)
    kernel = self.param("kernel", INIT, shape)
    bias = self.param("bias", nn.initializers.zeros, (self.width,))
    patches = (
      images[:, : rows * size, : columns * size]
      .reshape(batch, rows, size, columns, size, channels)
      .transpose(0, 1, 3, 2, 4, 5)
      .reshape(batch, rows, columns, -1)
    )
    patches, kernel, bias = (
      array.astype(self.dtype) for array in (patches, kernel, bias)
    )
    return patches @ kernel.reshape(-1, self.width) + bias.reshape(1, 1, 1, -1)


class Attention(nn.Module):
  """Self-attention whose queries, keys and values are one linear layer.

  Attributes:
    num_heads: Number of heads, which divides the length of a token.
    dtype: Type of the computation; scores and their softmax are float32.
  """

  num_heads: int
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, tokens: jax.Array) -> jax.Array:
    """Mixes the tokens float [batch, length, width] of each image."""
    batch, length, width = tokens.shape
    qkv = nn.Dense(3 * width, dtype=self.dtype, name="qkv")(tokens)
    qkv = qkv.reshape(batch, length, 3, self.num_heads, -1)
    query, key, value = jnp.moveaxis(qkv, 2, 0)
    # Not jax.nn.dot_product_attention, which promotes bfloat16 implicitly.
    scores = jnp.einsum(
      "bqhd,bkhd->bhqk", query, key, preferred_element_type=jnp.float32
    )
    weights = jax.nn.softmax(scores / math.sqrt(query.shape[-1]), axis=-1)
    mixed = jnp.einsum("bhqk,bkhd->bqhd", weights.astype(self.dtype), value)
    dense = nn.Dense(width, dtype=self.dtype, name="proj")
    return dense(mixed.reshape(tokens.shape))


class MLP(nn.Module):
  """Two linear layers with the exact GELU between them.

  Attributes:
    dtype: Type of the computation.
  """

  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, tokens: jax.Array) -> jax.Array:
    """Maps each of the tokens float [batch, length, width]."""
    width = tokens.shape[-1]
    dense = functools.partial(nn.Dense, dtype=self.dtype)
    hidden = dense(_MLP_RATIO * width, name="fc1")(tokens)
    return dense(width, name="fc2")(nn.gelu(hidden, approximate=False))


class LayerScale(nn.Module):
  """A learned factor for each coordinate."""

  @nn.compact
  def __call__(self, tokens: jax.Array) -> jax.Array:
    """Scales the tokens float [batch, length, width]."""
    gamma = self.param("gamma", nn.initializers.ones, (tokens.shape[-1],))
    return tokens * gamma.astype(tokens.dtype).reshape(1, 1, -1)


class Block(nn.Module):
  """Attention and an MLP, each on normalized tokens and added to them.

  Attributes:
    num_heads: Number of heads of the attention.
    use_layer_scale: Whether learned factors scale the updates.
    dtype: Type of the computation, except for the normalizations.
  """

  num_heads: int
  use_layer_scale: bool
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, tokens: jax.Array) -> jax.Array:
    """Maps the tokens float [batch, length, width] of each image."""
    layers = (
      Attention(self.num_heads, self.dtype, name="attn"),
      MLP(self.dtype, name="mlp"),
    )
    for index, layer in enumerate(layers, start=1):
      update = layer(layer_norm(f"norm{index}")(tokens))
      if self.use_layer_scale:
        update = LayerScale(name=f"ls{index}")(update)
      tokens = tokens + update
    return tokens


def resize_grid(
  grid: jax.Array,
  shape: tuple[int, int],
  *,
  offset: float = 0.0,
  antialias: bool = False,
) -> jax.Array:
  """Resizes a grid of position embeddings bicubically.

  Computes `torch.nn.functional.interpolate` as DINO and DINOv2 call it, with
  `mode="bicubic"`, `align_corners=False` and the scale factors (new rows +
  offset) / old rows and (new columns + offset) / old columns. A grid that has
  the shape already is returned unchanged.

  Args:
    grid: Float [rows, columns, dim].
    shape: Rows and columns of the result.
    offset: Added to the new size in the scale factor, at least 0.
    antialias: Whether the kernel is wider if the grid shrinks.

  Returns:
    Float [*shape, dim].
  """
  if grid.shape[:2] == shape:
    return grid
  rows, columns = (
    _resize_matrix(old, new, offset, antialias)
    for old, new in zip(grid.shape[:2], shape, strict=True)
  )
  return jnp.einsum(
    "ri,ijd,cj->rcd", rows, grid, columns, precision=jax.lax.Precision.HIGHEST
  )


def _resize_matrix(
  old: int, new: int, offset: float, antialias: bool
) -> np.ndarray:
  """Returns the weights [new, old] of a resized axis."""
  step = old / (new + offset)
  centers = (np.arange(new) + 0.5) * step - 0.5
  if antialias:
    width = max(step, 1.0)
    distances = (np.arange(old) - centers[:, None]) / width
    weights = _cubic(distances, _ANTIALIAS_COEFFICIENT)
    weights /= weights.sum(axis=1, keepdims=True)
    return weights.astype(np.float32)
  taps = np.floor(centers)[:, None] + np.arange(1 - _SUPPORT, 1 + _SUPPORT)
  weights = _cubic(taps - centers[:, None], _COEFFICIENT)
  matrix = np.zeros((new, old))
  # Outside of the grid, its border is repeated.
  inside = np.clip(taps, 0, old - 1).astype(int)
  np.add.at(matrix, (np.arange(new)[:, None], inside), weights)
  return matrix.astype(np.float32)


def _cubic(distances: np.ndarray, a: float) -> np.ndarray:
  """Returns Keys' cubic convolution kernel with the free coefficient a."""
  x = np.abs(distances)
  near = ((a + 2) * x - (a + 3)) * x**2 + 1
  far = a * (((x - 5) * x + 8) * x - 4)
  return np.where(x <= 1, near, np.where(x < _SUPPORT, far, 0.0))
