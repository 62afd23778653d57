"""Vision transformers as DINO and DINOv2 define them."""

from flax import linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from decern_jax.models.forward import KEPT, STAGES
from decern_jax.models.position import resize_grid
from decern_jax.models.transformer import (
  INIT,
  Block,
  PatchEmbedding,
  layer_norm,
)

NUM_CLASS_TOKENS = 4

_HEAD_DIM = 64


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
    dtype: Type of the computation but for the normalisations; parameters and
      features are float32.

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
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, images: jax.Array) -> jax.Array:
    """Computes features of images.

    Args:
      images: Float [batch, height, width, 3], a patch or more on each side.

    Returns:
      Float32 [batch, dim], where dim is `feature_dim`.
    """
    tokens = self._embed(images)
    norm = layer_norm("norm")
    features = []
    for index in range(self.depth):
      tokens = Block(
        self.num_heads,
        self.use_layer_scale,
        self.dtype,
        name=f"blocks_{index}",
      )(tokens)
      if index >= self.depth - NUM_CLASS_TOKENS:
        features.append(norm(tokens[:, :1])[:, 0])
        self.sow(KEPT, STAGES, features[-1])
    if self.use_patch_mean:
      patches = norm(tokens[:, 1 + self.num_registers :])
      features.append(patches.mean(axis=1))
    return jnp.concatenate(features, axis=-1)

  def _embed(self, images: jax.Array) -> jax.Array:
    """The class token, the registers and the patches, with positions."""
    patches = PatchEmbedding(
      self.width, self.patch_size, self.dtype, name="patch_embed"
    )(images)
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
    patch_positions = patch_positions[None].astype(self.dtype)
    patches = (patches + patch_positions).reshape(batch, -1, width)
    first = jnp.broadcast_to(
      first.astype(self.dtype), (batch, *first.shape[1:])
    )
    return jnp.concatenate([first, patches], axis=1)

  def _tokens(self, name: str, number: int) -> jax.Array:
    return self.param(name, INIT, (1, number, self.width))


def dino(width: int, *, dtype: DTypeLike = jnp.float32) -> VisionTransformer:
  """Makes DINO's transformer with patches of 16, for 224 pixels.

  Args:
    width: Length of a token; a multiple of 64, the length of a head.
    dtype: As in `VisionTransformer`.

  Returns:
    The module, of 12 blocks.
  """
  return VisionTransformer(
    width,
    width // _HEAD_DIM,
    patch_size=16,
    grid_size=224 // 16,
    dtype=dtype,
  )


def dinov2(
  width: int, *, num_registers: int = 0, dtype: DTypeLike = jnp.float32
) -> VisionTransformer:
  """Makes DINOv2's transformer with patches of 14, for 518 pixels.

  Args:
    width: Length of a token; a multiple of 64, the length of a head.
    num_registers: As in `VisionTransformer`; the models that have registers
      also resize their position embeddings in another way.
    dtype: As in `VisionTransformer`.

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
    dtype=dtype,
  )


def stage_dims(width: int) -> tuple[int, ...]:
  """Lengths of the class tokens that a `VisionTransformer` keeps as stages."""
  return (width,) * NUM_CLASS_TOKENS


def feature_dim(width: int, *, use_patch_mean: bool = False) -> int:
  """Length of a feature of a `VisionTransformer` with these attributes."""
  return (NUM_CLASS_TOKENS + use_patch_mean) * width
