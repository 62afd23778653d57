"""The table of models."""

from collections.abc import Callable
import functools
from typing import NamedTuple

from flax import linen as nn

from decern_jax.models import (
  mobilenet,
  pretrained,
  resnet,
  small_cnn,
  vit,
  vit_naming,
)

_IMAGENET_MEAN = (123.675, 116.28, 103.53)
_IMAGENET_STD = (58.395, 57.12, 57.375)

# Of a transformer of 12 blocks: all that the published training leaves free.
_LAST_NORMS = ("blocks_11.norm1.*", "blocks_11.norm2.*", "norm.*")


class ModelSpec(NamedTuple):
  """What the table says of a model.

  Attributes:
    module: Makes the Flax module, which maps float images [batch, height,
      width, 3] to float32 features [batch, dim]; its option `dtype` is the type
      that it computes in. A module with `batch_stats` is called with the option
      `train`. It keeps the outputs of its stages by `sow`, from the first to
      the last, as `forward.STAGES`: [batch, height, width, dim], or float32
      [batch, dim].
    dim: Length of a feature.
    stage_dims: Length of each stage's output.
    mean: Of each channel, on the scale 0..255; subtracted before the module.
    std: Of each channel, likewise; what the difference is divided by.
    torch_name: Maps a variable's path, as in `("params", "stem", "kernel")`, to
      the tensor's name in a PyTorch file, with the classifier as the collection
      `"head"`; None for weights in this project's own format, which every
      model takes.
    hugging_face_name: Likewise for a file of Hugging Face's `transformers`;
      None for models that are not read from one.
    adapt: Gives the tensors of a variant of those files the names and shapes
      of `torch_name`, and leaves others as they are; None without a variant.
    ignorable: Patterns of the names that a PyTorch file may hold beside those.
    published: Patterns of the parameters, as `layer4_*` of the dotted path
      `layer4_0.conv1.kernel`, that DECERN's published training leaves free.
      The paper trains no MobileNet: there they are the last inverted residual
      block and the last convolution.
    packaged: Name of the weights that ship with the package, or None.
  """

  module: Callable[[], nn.Module]
  dim: int
  stage_dims: tuple[int, ...]
  mean: tuple[float, float, float]
  std: tuple[float, float, float]
  torch_name: pretrained.TensorName | None = None
  hugging_face_name: pretrained.TensorName | None = None
  adapt: Callable[[pretrained.Tensors], pretrained.Tensors] | None = None
  ignorable: tuple[str, ...] = ()
  published: tuple[str, ...] = ()
  packaged: str | None = None


def _resnet(*stage_sizes: int, use_bottleneck: bool) -> ModelSpec:
  """A row of the table for a ResNet of any source."""
  return ModelSpec(
    module=functools.partial(resnet.ResNet, stage_sizes, use_bottleneck),
    dim=resnet.feature_dim(stage_sizes, use_bottleneck=use_bottleneck),
    stage_dims=resnet.stage_dims(stage_sizes, use_bottleneck=use_bottleneck),
    mean=_IMAGENET_MEAN,
    std=_IMAGENET_STD,
    torch_name=resnet.torchvision_name,
    ignorable=resnet.IGNORABLE,
    published=("layer4_*",),
  )


def _vit16(width: int) -> ModelSpec:
  """A row for a transformer in DINO's form."""
  return ModelSpec(
    module=functools.partial(vit.dino, width),
    dim=vit.feature_dim(width),
    stage_dims=vit.stage_dims(width),
    mean=_IMAGENET_MEAN,
    std=_IMAGENET_STD,
    torch_name=vit_naming.dino_name,
    hugging_face_name=vit_naming.hugging_face_vit_name,
    ignorable=vit_naming.VIT_IGNORABLE,
    published=_LAST_NORMS,
  )


def _dinov2(width: int, *, num_registers: int = 0) -> ModelSpec:
  """A row for DINOv2."""
  return ModelSpec(
    module=functools.partial(vit.dinov2, width, num_registers=num_registers),
    dim=vit.feature_dim(width, use_patch_mean=True),
    stage_dims=vit.stage_dims(width),
    mean=_IMAGENET_MEAN,
    std=_IMAGENET_STD,
    torch_name=vit_naming.dino_name,
    hugging_face_name=vit_naming.hugging_face_dinov2_name,
    adapt=vit_naming.from_timm_registers if num_registers else None,
    ignorable=vit_naming.DINOV2_IGNORABLE,
  )


MODELS: dict[str, ModelSpec] = {
  "dinov2_base14": _dinov2(768),
  "dinov2_base14_reg": _dinov2(768, num_registers=4),
  "dinov2_small14": _dinov2(384),
  "dinov2_small14_reg": _dinov2(384, num_registers=4),
  "mobilenet_v2": ModelSpec(
    module=mobilenet.MobileNetV2,
    dim=mobilenet.FEATURE_DIM,
    stage_dims=mobilenet.STAGE_DIMS,
    mean=(127.5, 127.5, 127.5),
    std=(127.5, 127.5, 127.5),
    torch_name=mobilenet.torchvision_name,
    published=("block17.*", "last.*"),
  ),
  "resnet18": _resnet(2, 2, 2, 2, use_bottleneck=False),
  "resnet34": _resnet(3, 4, 6, 3, use_bottleneck=False),
  "resnet50": _resnet(3, 4, 6, 3, use_bottleneck=True),
  "resnet101": _resnet(3, 4, 23, 3, use_bottleneck=True),
  "small_cnn": ModelSpec(
    module=small_cnn.SmallCNN,
    dim=small_cnn.FEATURE_DIM,
    stage_dims=small_cnn.STAGE_DIMS,
    mean=(127.5, 127.5, 127.5),
    std=(127.5, 127.5, 127.5),
    published=("reduce2.*", "expand2.*", "refine2.*", "project.*"),
    packaged="small_cnn.safetensors",
  ),
  "vit_base16": _vit16(768),
  "vit_small16": _vit16(384),
  "vit_tiny16": _vit16(192),
}


def find_spec(name: str) -> ModelSpec:
  """Looks a model up in the table.

  Args:
    name: Name of the model.

  Returns:
    Its row.

  Raises:
    ValueError: If the name is unknown.
  """
  if name not in MODELS:
    raise ValueError(
      f"Unknown model {name!r}; expected one of {sorted(MODELS)}."
    )
  return MODELS[name]
