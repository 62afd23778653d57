"""What DINO's and Hugging Face's files call a transformer's variables."""

from collections.abc import Mapping

import numpy as np

# The mask stands for hidden patches in DINOv2's own training.
DINOV2_IGNORABLE = ("mask_token", "embeddings.mask_token")
# A classifier of the last class token, which is a part of the features here;
# what `transformers.ViTModel` adds after the features unless told not to.
VIT_IGNORABLE = (
  "head.weight",
  "head.bias",
  "pooler.dense.weight",
  "pooler.dense.bias",
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


def dino_name(path: tuple[str, ...]) -> str:
  """Names a variable as DINO, DINOv2 and timm do.

  Args:
    path: Collection, layers and leaf, as in `("params", "blocks_0", "norm1",
      "scale")`. The classifier is the collection `"head"`.

  Returns:
    The tensor's name, as in `"blocks.0.norm1.weight"`.
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


def hugging_face_vit_name(path: tuple[str, ...]) -> str | tuple[str, ...]:
  """Names a variable as `transformers.ViTModel` does in a file.

  Args:
    path: As in `dino_name`.

  Returns:
    The tensor's name; those of queries, keys and values for the layer that is
    the three of them.
  """
  return _hugging_face_name(path, _HUGGING_FACE_VIT_LAYERS)


def hugging_face_dinov2_name(path: tuple[str, ...]) -> str | tuple[str, ...]:
  """Names a variable as `transformers.Dinov2Model` does in a file.

  Args:
    path: As in `dino_name`.

  Returns:
    As `hugging_face_vit_name` does.
  """
  return _hugging_face_name(path, _HUGGING_FACE_DINOV2_LAYERS)


def from_timm_registers(
  tensors: Mapping[str, np.ndarray],
) -> dict[str, np.ndarray]:
  """Gives timm's files of models with registers DINOv2's names and shapes.

  timm calls the registers `reg_token`, and adds the class token's position to
  the token: `pos_embed` holds those of the patches alone.

  Args:
    tensors: The tensors of a file by name.

  Returns:
    The tensors under DINOv2's names, the class token at position zero; as they
    are unless the file is timm's.
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
  path: tuple[str, ...], block_layers: Mapping[str, str]
) -> str | tuple[str, ...]:
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
