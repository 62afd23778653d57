"""The table of models, and how one is made ready to compute features."""

from collections.abc import Callable, Mapping
import functools
import hashlib
import os
import pathlib
from typing import Any, NamedTuple

from flax import linen as nn
from flax import traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from decern_jax.models import (
  mobilenet,
  pretrained,
  resnet,
  small_cnn,
  vit,
  vit_naming,
)
from decern_jax.ops.head import LinearHead

Variables = Mapping[str, Any]
PathLike = str | os.PathLike[str]

MIN_IMAGE_SIZE = 32

_IMAGENET_MEAN = (123.675, 116.28, 103.53)
_IMAGENET_STD = (58.395, 57.12, 57.375)
_WEIGHTS_DIR = pathlib.Path(__file__).parent / "weights"


class ModelSpec(NamedTuple):
  """What the table says of a model.

  Attributes:
    module: Makes the Flax module, which maps float images [batch, height,
      width, 3] to features [batch, dim].
    dim: Length of a feature.
    mean: Of each channel, on the scale 0..255; subtracted before the module.
    std: Of each channel, likewise; what the difference is divided by.
    torch_name: Maps a variable's path, as in `("params", "stem", "kernel")`, to
      the tensor's name in a PyTorch file, with the classifier as the collection
      `"head"`; None for weights in this project's own format, which every
      model takes.
    hugging_face_name: Likewise for a file of Hugging Face's `transformers`;
      None for models that are not read from one.
    ignorable: Patterns of the names that a PyTorch file may hold beside those.
    packaged: Name of the weights that ship with the package, or None.
  """

  module: Callable[[], nn.Module]
  dim: int
  mean: tuple[float, float, float]
  std: tuple[float, float, float]
  torch_name: pretrained.TensorName | None = None
  hugging_face_name: pretrained.TensorName | None = None
  ignorable: tuple[str, ...] = ()
  packaged: str | None = None


class Backbone(NamedTuple):
  """A model with its weights.

  Attributes:
    name: Name in the table.
    apply: Maps variables and images [batch, height, width, 3], uint8 or float
      in 0..255, to float32 features [batch, dim]. Pure; normalises the images.
    variables: Collections of float32 arrays: `params` and what else the module
      has.
    dim: Length of a feature.
    head: The classifier that the weights came with, or None.
    fingerprint: Hex digest of the name and the variables: with the same one,
      the same images have the same features.
  """

  name: str
  apply: Callable[[Variables, jax.Array], jax.Array]
  variables: Variables
  dim: int
  head: LinearHead | None
  fingerprint: str


def _resnet(*stage_sizes: int, use_bottleneck: bool) -> ModelSpec:
  """A row of the table for a ResNet of any source."""
  return ModelSpec(
    module=functools.partial(resnet.ResNet, stage_sizes, use_bottleneck),
    dim=resnet.feature_dim(stage_sizes, use_bottleneck=use_bottleneck),
    mean=_IMAGENET_MEAN,
    std=_IMAGENET_STD,
    torch_name=resnet.torchvision_name,
    ignorable=resnet.IGNORABLE,
  )


def _vit16(width: int) -> ModelSpec:
  """A row for a transformer in DINO's form."""
  return ModelSpec(
    module=functools.partial(vit.dino, width),
    dim=vit.feature_dim(width),
    mean=_IMAGENET_MEAN,
    std=_IMAGENET_STD,
    torch_name=vit_naming.dino_name,
    hugging_face_name=vit_naming.hugging_face_vit_name,
    ignorable=vit_naming.VIT_IGNORABLE,
  )


def _dinov2(width: int, *, num_registers: int = 0) -> ModelSpec:
  """A row for DINOv2."""
  return ModelSpec(
    module=functools.partial(vit.dinov2, width, num_registers=num_registers),
    dim=vit.feature_dim(width, use_patch_mean=True),
    mean=_IMAGENET_MEAN,
    std=_IMAGENET_STD,
    torch_name=vit_naming.dino_name,
    hugging_face_name=vit_naming.hugging_face_dinov2_name,
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
    mean=(127.5, 127.5, 127.5),
    std=(127.5, 127.5, 127.5),
    torch_name=mobilenet.torchvision_name,
  ),
  "resnet18": _resnet(2, 2, 2, 2, use_bottleneck=False),
  "resnet34": _resnet(3, 4, 6, 3, use_bottleneck=False),
  "resnet50": _resnet(3, 4, 6, 3, use_bottleneck=True),
  "resnet101": _resnet(3, 4, 23, 3, use_bottleneck=True),
  "small_cnn": ModelSpec(
    module=small_cnn.SmallCNN,
    dim=small_cnn.FEATURE_DIM,
    mean=(127.5, 127.5, 127.5),
    std=(127.5, 127.5, 127.5),
    packaged="small_cnn.safetensors",
  ),
  "vit_base16": _vit16(768),
  "vit_small16": _vit16(384),
  "vit_tiny16": _vit16(192),
}


def create(
  name: str, *, weights: PathLike | None = None, image_size: int
) -> Backbone:
  """Loads a model of the table.

  Args:
    name: Name of the model.
    weights: Local .safetensors file; None takes the one that ships with the
      package, for models that have one.
    image_size: Height and width of the images, 32 or more.

  Returns:
    The model with its weights, and the classifier if the file holds one.

  Raises:
    ValueError: If the name is unknown, the images are too small, there is no
      such file, or its tensors are not exactly those of the model.
  """
  spec = _find_spec(name)
  if image_size < MIN_IMAGE_SIZE:
    raise ValueError(
      f"Expected `image_size` >= {MIN_IMAGE_SIZE}, got {image_size}."
    )
  file = _find_weights(name, spec, weights)
  module = spec.module()
  variables = _load(module, spec, file, image_size, source=f"{name} in {file}")
  head = variables.pop("head", None)
  return Backbone(
    name=name,
    apply=functools.partial(_compute_features, module, spec.mean, spec.std),
    variables=variables,
    dim=spec.dim,
    head=LinearHead(**head) if head else None,
    fingerprint=_fingerprint(name, variables),
  )


def _find_spec(name: str) -> ModelSpec:
  if name not in MODELS:
    raise ValueError(
      f"Unknown model {name!r}; expected one of {sorted(MODELS)}."
    )
  return MODELS[name]


def _find_weights(
  name: str, spec: ModelSpec, weights: PathLike | None
) -> PathLike:
  if weights is not None:
    return weights
  if spec.packaged is None:
    raise ValueError(
      "Expected `config.model.weights` to name a local .safetensors file for "
      f"{name!r}, which has none in the package, got None."
    )
  return _WEIGHTS_DIR / spec.packaged


def _load(
  module: nn.Module,
  spec: ModelSpec,
  file: PathLike,
  image_size: int,
  *,
  source: str,
) -> dict[str, Any]:
  """Variables of the module, with the file's classifier as `head`."""
  tensors = pretrained.read_safetensors(file)
  shape = (1, image_size, image_size, 3)
  template = jax.eval_shape(
    lambda: module.init(jax.random.key(0), jnp.zeros(shape))
  )
  naming = pretrained.find_naming(tensors, template, _namings(spec))
  if naming:
    tensors = pretrained.without(tensors, spec.ignorable)
  variables = pretrained.to_variables(
    tensors,
    {**template, **_head_template(tensors, naming, spec.dim)},
    torch_name=naming,
    source=source,
  )
  return jax.tree.map(jnp.asarray, variables)


def _namings(spec: ModelSpec) -> list[pretrained.TensorName | None]:
  """The ways in which a file may name the variables; None is our own."""
  foreign = (spec.torch_name, spec.hugging_face_name)
  return [naming for naming in foreign if naming] + [None]


def _head_template(
  tensors: Mapping[str, np.ndarray],
  naming: pretrained.TensorName | None,
  dim: int,
) -> dict[str, Any]:
  """The classifier's shapes, with as many classes as the file has."""
  name_of = naming or pretrained.own_name
  bias = tensors.get(name_of(("head", "bias")))
  kernel = tensors.get(name_of(("head", "kernel")))
  if bias is None and kernel is None:
    return {}
  num_classes = kernel.size // dim if bias is None else bias.size
  return {
    "head": {
      "kernel": jax.ShapeDtypeStruct((dim, num_classes), jnp.float32),
      "bias": jax.ShapeDtypeStruct((num_classes,), jnp.float32),
    }
  }


def _compute_features(
  module: nn.Module,
  mean: tuple[float, ...],
  std: tuple[float, ...],
  variables: Variables,
  images: jax.Array,
) -> jax.Array:
  shift, scale = (
    np.asarray(values, np.float32).reshape(1, 1, 1, -1)
    for values in (mean, std)
  )
  return module.apply(variables, (images.astype(np.float32) - shift) / scale)


def _fingerprint(name: str, variables: Variables) -> str:
  digest = hashlib.sha256(name.encode())
  flat = traverse_util.flatten_dict(variables, sep=".")
  for path, array in sorted(flat.items()):
    digest.update(f"\n{path} {array.shape}\n".encode())
    digest.update(np.asarray(array).tobytes())
  return digest.hexdigest()
