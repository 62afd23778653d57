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

from decern_jax.models import mobilenet, pretrained, small_cnn
from decern_jax.ops.head import LinearHead

Variables = Mapping[str, Any]
PathLike = str | os.PathLike[str]

MIN_IMAGE_SIZE = 32

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
      `"head"`; None for weights in this project's own format.
    packaged: Name of the weights that ship with the package, or None.
  """

  module: Callable[[], nn.Module]
  dim: int
  mean: tuple[float, float, float]
  std: tuple[float, float, float]
  torch_name: pretrained.TensorName | None = None
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


MODELS: dict[str, ModelSpec] = {
  "mobilenet_v2": ModelSpec(
    module=mobilenet.MobileNetV2,
    dim=mobilenet.FEATURE_DIM,
    mean=(127.5, 127.5, 127.5),
    std=(127.5, 127.5, 127.5),
    torch_name=mobilenet.torchvision_name,
  ),
  "small_cnn": ModelSpec(
    module=small_cnn.SmallCNN,
    dim=small_cnn.FEATURE_DIM,
    mean=(127.5, 127.5, 127.5),
    std=(127.5, 127.5, 127.5),
    packaged="small_cnn.safetensors",
  ),
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
  variables = pretrained.to_variables(
    tensors,
    {**template, **_head_template(tensors, spec)},
    torch_name=spec.torch_name,
    source=source,
  )
  return jax.tree.map(jnp.asarray, variables)


def _head_template(
  tensors: Mapping[str, np.ndarray], spec: ModelSpec
) -> dict[str, Any]:
  """The classifier's shapes, with as many classes as the file has."""
  name_of = spec.torch_name or pretrained.own_name
  bias = tensors.get(name_of(("head", "bias")))
  kernel = tensors.get(name_of(("head", "kernel")))
  if bias is None and kernel is None:
    return {}
  num_classes = kernel.size // spec.dim if bias is None else bias.size
  return {
    "head": {
      "kernel": jax.ShapeDtypeStruct((spec.dim, num_classes), jnp.float32),
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
