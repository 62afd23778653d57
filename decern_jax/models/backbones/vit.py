"""Vision transformers as DINO and DINOv2 define them."""

from collections.abc import Mapping
import functools

from flax import linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
import numpy as np

from decern_jax.models.registry import (
  IMAGENET_MEAN,
  IMAGENET_STD,
  ModelSpec,
  keep_stage,
  register,
)
from decern_jax.models.transformer import (
  INIT,
  Block,
  PatchEmbedding,
  layer_norm,
  resize_grid,
)

NUM_CLASS_TOKENS = 4

_HEAD_DIM = 64

# A tensor that only DINOv2's own training uses, and a classifier of other
# features than ours.
DINOV2_IGNORABLE = (
  "mask_token",
  "embeddings.mask_token",
  "classifier.weight",
  "classifier.bias",
)
# A classifier of the last class token, which is not the whole feature, and the
# optional pooler of `transformers.ViTModel`.
VIT_IGNORABLE = (
  "head.weight",
  "head.bias",
  "pooler.dense.weight",
  "pooler.dense.bias",
  "classifier.weight",
  "classifier.bias",
)

_LEAVES = {"kernel": "weight", "scale": "weight"}
_HUGGING_FACE_TOKENS = {
  "cls_token": "embeddings.cls_token",
  "pos_embed": "embeddings.position_embeddings",
  "register_tokens": "embeddings.register_tokens",
}
_HUGGING_FACE_VIT_LAYERS = {
  "norm1": "layernorm_before",
  "attn.proj": "attention.output.dense",
  "norm2": "layernorm_after",
  "mlp.fc1": "intermediate.dense",
  "mlp.fc2": "output.dense",
}
_HUGGING_FACE_DINOV2_LAYERS = {"attn.proj": "attention.output.dense"}


class VisionTransformer(nn.Module):
  """A vision transformer up to the features of DINO's linear evaluation.

  The features are the class tokens of the last four blocks after the final
  normalization, in the order of the blocks. With `use_patch_mean`, the mean of
  the last block's patch tokens follows.

  Attributes:
    width: Length of a token.
    num_heads: Number of heads of each attention.
    patch_size: Height and width of a patch.
    grid_size: Rows and columns of the position embedding, which is resized to
      those of the image's patches.
    depth: Number of blocks, four or more.
    use_layer_scale: Whether learned factors scale the updates of a block.
    use_patch_mean: Whether the features end with the mean patch token.
    num_registers: Number of tokens between the class token and the patches.
      They are not part of the features.
    grid_offset: The `offset` of `resize_grid`; 0.1 in DINO and in DINOv2
      without registers.
    antialias: Whether the position embedding is antialiased if it shrinks.
    dtype: Type of the computation, except for the normalizations. Parameters
      and features are float32.

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
      Float32 [batch, dim].
    """
    tokens = self._embed(images)
    norm = layer_norm("norm")
    features = []
    for index in range(self.depth):
      tokens = Block(
        self.num_heads, self.use_layer_scale, self.dtype, name=f"blocks_{index}"
      )(tokens)
      if index >= self.depth - NUM_CLASS_TOKENS:
        features.append(norm(tokens[:, :1])[:, 0])
        keep_stage(self, features[-1])
    if self.use_patch_mean:
      patches = norm(tokens[:, 1 + self.num_registers :])
      features.append(patches.mean(axis=1))
    return jnp.concatenate(features, axis=-1)

  def _embed(self, images: jax.Array) -> jax.Array:
    """Returns class token, registers and patches, with their positions."""
    patches = PatchEmbedding(
      self.width, self.patch_size, self.dtype, name="patch_embed"
    )(images)
    batch, rows, columns, width = patches.shape
    class_token = self._tokens("cls_token", 1)
    positions = self._tokens("pos_embed", 1 + self.grid_size**2)
    patch_positions = resize_grid(
      positions[0, 1:].reshape(self.grid_size, self.grid_size, width),
      (rows, columns),
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
    width, width // _HEAD_DIM, patch_size=16, grid_size=224 // 16, dtype=dtype
  )


def dinov2(
  width: int, *, num_registers: int = 0, dtype: DTypeLike = jnp.float32
) -> VisionTransformer:
  """Makes DINOv2's transformer with patches of 14, for 518 pixels.

  Args:
    width: Length of a token; a multiple of 64, the length of a head.
    num_registers: As in `VisionTransformer`. Models with registers also resize
      their position embeddings in another way.
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


def dino_name(path: tuple[str, ...]) -> str:
  """Returns the name of a variable in files of DINO, DINOv2 and timm.

  Args:
    path: Collection, layers and leaf, such as `("params", "blocks_0", "norm1",
      "scale")`. The classifier is the collection `"head"`.

  Returns:
    The tensor's name, such as `"blocks.0.norm1.weight"`.
  """
  leaf = _LEAVES.get(path[-1], path[-1])
  match path:
    case ("head", _):
      layers = ["head"]
    case (_, "patch_embed", _):
      layers = ["patch_embed", "proj"]
    case (_, *layers, _):
      layers = [layer.replace("blocks_", "blocks.") for layer in layers]
  return ".".join([*layers, leaf])


def from_timm_registers(
  tensors: Mapping[str, np.ndarray],
) -> dict[str, np.ndarray]:
  """Converts timm's files of models with registers to DINOv2's form.

  timm names the registers `reg_token`, and adds the position of the class token
  to the token, so that `pos_embed` has only those of the patches.

  Returns:
    The tensors under DINOv2's names, with zeros as the position of the class
    token. Other files are returned unchanged.
  """
  renamed = dict(tensors)
  if "reg_token" in renamed:
    renamed["register_tokens"] = renamed.pop("reg_token")
    if "pos_embed" in renamed:
      positions = renamed["pos_embed"]
      nothing = np.zeros_like(positions[:, :1])
      renamed["pos_embed"] = np.concatenate([nothing, positions], axis=1)
  return renamed


def _hugging_face_name(
  block_layers: Mapping[str, str], path: tuple[str, ...]
) -> str | tuple[str, ...]:
  """Returns the name of a variable in files of Hugging Face's `transformers`.

  Args:
    block_layers: Their names of the layers of a block that have another one.
    path: As in `dino_name`.

  Returns:
    The tensor's name; for the layer that joins queries, keys and values, the
    three names.
  """
  leaf = _LEAVES.get(path[-1], path[-1])
  match path:
    case ("head", _):
      return f"classifier.{leaf}"
    case (_, token) if token in _HUGGING_FACE_TOKENS:
      return _HUGGING_FACE_TOKENS[token]
    case (_, "patch_embed", _):
      return f"embeddings.patch_embeddings.projection.{leaf}"
    case (_, "norm", _):
      return f"layernorm.{leaf}"
  block = f"encoder.layer.{path[1].removeprefix('blocks_')}"
  match path[2:-1]:
    case ("attn", "qkv"):
      return tuple(
        f"{block}.attention.attention.{part}.{leaf}"
        for part in ("query", "key", "value")
      )
    case ("ls1" | "ls2" as scale,):
      return f"{block}.layer_scale{scale[-1]}.lambda1"
    case layers:
      layer = ".".join(layers)
      return f"{block}.{block_layers.get(layer, layer)}.{leaf}"


hugging_face_vit_name = functools.partial(
  _hugging_face_name, _HUGGING_FACE_VIT_LAYERS
)
hugging_face_dinov2_name = functools.partial(
  _hugging_face_name, _HUGGING_FACE_DINOV2_LAYERS
)


def make_vit_spec(width: int) -> ModelSpec:
  """Returns the row of DINO's transformer."""
  return ModelSpec(
    module=functools.partial(dino, width),
    dim=NUM_CLASS_TOKENS * width,
    stage_dims=(width,) * NUM_CLASS_TOKENS,
    mean=IMAGENET_MEAN,
    std=IMAGENET_STD,
    torch_name=dino_name,
    hugging_face_name=hugging_face_vit_name,
    ignorable=VIT_IGNORABLE,
    # The published training updates only these, of 12 blocks.
    published=("blocks_11.norm1.*", "blocks_11.norm2.*", "norm.*"),
  )


def make_dinov2_spec(width: int, *, num_registers: int = 0) -> ModelSpec:
  """Returns the row of DINOv2's transformer.

  Args:
    width: Length of a token.
    num_registers: As in `VisionTransformer`.
  """
  return ModelSpec(
    module=functools.partial(dinov2, width, num_registers=num_registers),
    dim=(NUM_CLASS_TOKENS + 1) * width,
    stage_dims=(width,) * NUM_CLASS_TOKENS,
    mean=IMAGENET_MEAN,
    std=IMAGENET_STD,
    torch_name=dino_name,
    hugging_face_name=hugging_face_dinov2_name,
    adapt=from_timm_registers if num_registers else None,
    ignorable=DINOV2_IGNORABLE,
  )


register("vit_tiny16", make_vit_spec(192))
register("vit_small16", make_vit_spec(384))
register("vit_base16", make_vit_spec(768))
register("dinov2_small14", make_dinov2_spec(384))
register("dinov2_base14", make_dinov2_spec(768))
register("dinov2_small14_reg", make_dinov2_spec(384, num_registers=4))
register("dinov2_base14_reg", make_dinov2_spec(768, num_registers=4))
