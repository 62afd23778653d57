"""Vision transformers as DINO and DINOv2 define them."""

import functools

from flax import linen as nn
import jax
import jax.numpy as jnp

from decern_jax.models.position import resize_grid

NUM_CLASS_TOKENS = 4

_EPSILON = 1e-6
_MLP_RATIO = 4
_HEAD_DIM = 64
_INIT = nn.initializers.truncated_normal(0.02)

_layer_norm = functools.partial(
  nn.LayerNorm, epsilon=_EPSILON, use_fast_variance=False
)


class PatchEmbedding(nn.Module):
  """A linear layer on patches; pixels beyond the last whole one are left out.

  Attributes:
    width: Length of a token.
    patch_size: Height and width of a patch.
  """

  width: int
  patch_size: int

  @nn.compact
  def __call__(self, images: jax.Array) -> jax.Array:
    """Maps float [batch, height, width, 3] to [batch, rows, columns, width]."""
    batch, height, width, channels = images.shape
    size = self.patch_size
    rows, columns = height // size, width // size
    shape = (size, size, channels, self.width)
    kernel = self.param("kernel", _INIT, shape)
    bias = self.param("bias", nn.initializers.zeros, (self.width,))
    patches = (
      images[:, : rows * size, : columns * size]
      .reshape(batch, rows, size, columns, size, channels)
      .transpose(0, 1, 3, 2, 4, 5)
      .reshape(batch, rows, columns, -1)
    )
    return patches @ kernel.reshape(-1, self.width) + bias.reshape(1, 1, 1, -1)


class Attention(nn.Module):
  """Self-attention whose queries, keys and values are one linear layer.

  Attributes:
    num_heads: Number of heads, which divides the length of a token.
  """

  num_heads: int

  @nn.compact
  def __call__(self, tokens: jax.Array) -> jax.Array:
    """Mixes the tokens float [batch, length, width] of each image."""
    batch, length, width = tokens.shape
    qkv = nn.Dense(3 * width, name="qkv")(tokens)
    qkv = qkv.reshape(batch, length, 3, self.num_heads, -1)
    mixed = jax.nn.dot_product_attention(*jnp.moveaxis(qkv, 2, 0))
    return nn.Dense(width, name="proj")(mixed.reshape(tokens.shape))


class MLP(nn.Module):
  """Two linear layers with the exact GELU between them."""

  @nn.compact
  def __call__(self, tokens: jax.Array) -> jax.Array:
    """Maps each of the tokens float [batch, length, width]."""
    width = tokens.shape[-1]
    hidden = nn.Dense(_MLP_RATIO * width, name="fc1")(tokens)
    return nn.Dense(width, name="fc2")(nn.gelu(hidden, approximate=False))


class LayerScale(nn.Module):
  """A learned factor for each coordinate."""

  @nn.compact
  def __call__(self, tokens: jax.Array) -> jax.Array:
    """Scales the tokens float [batch, length, width]."""
    gamma = self.param("gamma", nn.initializers.ones, (tokens.shape[-1],))
    return tokens * gamma.reshape(1, 1, -1)


class Block(nn.Module):
  """Attention and an MLP, each normalised before and added to its input.

  Attributes:
    num_heads: Number of heads of the attention.
    use_layer_scale: Whether learned factors scale what is added.
  """

  num_heads: int
  use_layer_scale: bool

  @nn.compact
  def __call__(self, tokens: jax.Array) -> jax.Array:
    """Maps the tokens float [batch, length, width] of each image."""
    layers = (Attention(self.num_heads, name="attn"), MLP(name="mlp"))
    for index, layer in enumerate(layers, start=1):
      update = layer(_layer_norm(name=f"norm{index}")(tokens))
      if self.use_layer_scale:
        update = LayerScale(name=f"ls{index}")(update)
      tokens = tokens + update
    return tokens


class VisionTransformer(nn.Module):
  """A vision transformer up to the features of DINO's linear evaluation.

  The features are the class tokens of the last four blocks after the final
  normalisation, from the earliest to the last; with `use_patch_mean` also the
  mean of the last block's patch tokens.

  Attributes:
    width: Length of a token.
    num_heads: Number of heads of each attention.
    patch_size: Height and width of a patch.
    grid_size: Rows and columns of the position embedding, which is resized to
      those of the image's patches.
    depth: Number of blocks, four or more.
    use_layer_scale: Whether learned factors scale what a block adds.
    use_patch_mean: Whether the features end with the mean patch token.
    num_registers: Tokens between the class token and the patches that are part
      of no feature.
    grid_offset: Rows and columns that the resized grid counts in excess when
      positions are scaled; 0.1 in DINO and in DINOv2 without registers.
    antialias: Whether the position embedding is low-passed where it shrinks.

  References:
    Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021,
    https://arxiv.org/abs/2010.11929.
    Caron et al., "Emerging Properties in Self-Supervised Vision Transformers",
    ICCV 2021, https://arxiv.org/abs/2104.14294.
    Oquab et al., "DINOv2: Learning Robust Visual Features without
    Supervision", TMLR 2024, https://arxiv.org/abs/2304.07193.
    Darcet et al., "Vision Transformers Need Registers", ICLR 2024,
    https://arxiv.org/abs/2309.16588.
  """

  width: int
  num_heads: int
  patch_size: int
  grid_size: int
  depth: int = 12
  use_layer_scale: bool = False
  use_patch_mean: bool = False
  num_registers: int = 0
  grid_offset: float = 0.1
  antialias: bool = False

  @nn.compact
  def __call__(self, images: jax.Array) -> jax.Array:
    """Computes features of images.

    Args:
      images: Float [batch, height, width, 3], a patch or more on each side.

    Returns:
      Float [batch, dim], where dim is `feature_dim`.
    """
    tokens = self._embed(images)
    norm = _layer_norm(name="norm")
    features = []
    for index in range(self.depth):
      tokens = Block(
        self.num_heads, self.use_layer_scale, name=f"blocks_{index}"
      )(tokens)
      if index >= self.depth - NUM_CLASS_TOKENS:
        features.append(norm(tokens[:, :1])[:, 0])
    if self.use_patch_mean:
      patches = norm(tokens[:, 1 + self.num_registers :])
      features.append(patches.mean(axis=1))
    return jnp.concatenate(features, axis=-1)

  def _embed(self, images: jax.Array) -> jax.Array:
    """The class token, the registers and the patches, with positions."""
    patches = PatchEmbedding(self.width, self.patch_size, name="patch_embed")(
      images
    )
    batch, *grid, width = patches.shape
    class_token = self._tokens("cls_token", 1)
    positions = self._tokens("pos_embed", 1 + self.grid_size**2)
    patch_positions = resize_grid(
      positions[0, 1:].reshape(self.grid_size, self.grid_size, width),
      tuple(grid),
      offset=self.grid_offset,
      antialias=self.antialias,
    )
    first = class_token + positions[:, :1]
    if self.num_registers:
      registers = self._tokens("register_tokens", self.num_registers)
      first = jnp.concatenate([first, registers], axis=1)
    patches = (patches + patch_positions[None]).reshape(batch, -1, width)
    first = jnp.broadcast_to(first, (batch, *first.shape[1:]))
    return jnp.concatenate([first, patches], axis=1)

  def _tokens(self, name: str, number: int) -> jax.Array:
    return self.param(name, _INIT, (1, number, self.width))


def dino(width: int) -> VisionTransformer:
  """Makes DINO's transformer with patches of 16, for 224 pixels.

  Args:
    width: Length of a token; a multiple of 64, the length of a head.

  Returns:
    The module, of 12 blocks.
  """
  return VisionTransformer(
    width, width // _HEAD_DIM, patch_size=16, grid_size=224 // 16
  )


def dinov2(width: int, *, num_registers: int = 0) -> VisionTransformer:
  """Makes DINOv2's transformer with patches of 14, for 518 pixels.

  Args:
    width: Length of a token; a multiple of 64, the length of a head.
    num_registers: As in `VisionTransformer`; the models that have registers
      also resize their position embeddings in another way.

  Returns:
    The module, of 12 blocks.
  """
  return VisionTransformer(
    width,
    width // _HEAD_DIM,
    patch_size=14,
    grid_size=518 // 14,
    use_layer_scale=True,
    use_patch_mean=True,
    num_registers=num_registers,
    grid_offset=0.0 if num_registers else 0.1,
    antialias=num_registers > 0,
  )


def feature_dim(width: int, *, use_patch_mean: bool = False) -> int:
  """Length of a feature of a `VisionTransformer` with these attributes."""
  return (NUM_CLASS_TOKENS + use_patch_mean) * width
