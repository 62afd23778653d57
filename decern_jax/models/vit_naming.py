"""What DINO's and Hugging Face's files call a transformer's variables."""

from collections.abc import Mapping

# The mask stands for hidden patches in DINOv2's own training.
DINOV2_IGNORABLE = ("mask_token", "embeddings.mask_token")
# A classifier of the last class token, which is a part of the features here.
VIT_IGNORABLE = ("head.weight", "head.bias")

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
