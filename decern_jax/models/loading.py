"""A model of the table with its weights, ready to compute or to be trained."""

from collections.abc import Callable
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

from decern_jax.io import storage
from decern_jax.models import bands, forward, hub, pickled, pretrained
from decern_jax.models.forward import Stages, Variables
from decern_jax.models.registry import ModelSpec, find_spec
from decern_jax.ops.head import LinearHead

PathLike = str | os.PathLike[str]

MIN_IMAGE_SIZE = 32
DTYPES = {"bfloat16": jnp.bfloat16, "float32": jnp.float32}

_WEIGHTS_DIR = pathlib.Path(__file__).parent / "weights"


class Backbone(NamedTuple):
  """A model with its weights.

  All functions take images [batch, height, width, bands], uint8 or float in
  0..255, which they normalise, and give float32 features [batch, dim]. They are
  pure.

  Attributes:
    name: Name in the table.
    apply: Maps variables and images to features.
    train_apply: Maps variables and images to features as in training, and the
      new `batch_stats`: every batch normalisation takes the statistics of the
      batch, and moves its running ones. A model without them has the features
      of `apply`, and {}.
    stage_apply: As `apply`, with a tuple of the outputs of the stages, each
      averaged over the image, float32 [batch, its dim].
    stage_train_apply: As `train_apply`, with such a tuple beside the features.
    variables: Collections of float32 arrays: `params` and what else the module
      has.
    dim: Length of a feature.
    stage_dims: Length of each stage's output.
    head: The classifier that the weights came with, or None.
    fingerprint: Hex digest of the name, the variables and the type of the
      computation: with the same one, the same images have the same features.
  """

  name: str
  apply: Callable[[Variables, jax.Array], jax.Array]
  train_apply: Callable[
    [Variables, jax.Array], tuple[jax.Array, dict[str, Any]]
  ]
  stage_apply: Callable[[Variables, jax.Array], tuple[jax.Array, Stages]]
  stage_train_apply: Callable[
    [Variables, jax.Array], tuple[tuple[jax.Array, Stages], dict[str, Any]]
  ]
  variables: Variables
  dim: int
  stage_dims: tuple[int, ...]
  head: LinearHead | None
  fingerprint: str


def create(
  name: str,
  *,
  weights: PathLike | None = None,
  image_size: int,
  num_bands: int = 3,
  dtype: str = "float32",
) -> Backbone:
  """Loads a model of the table.

  Args:
    name: Name of the model.
    weights: .safetensors file, local or on gs://, or one on the Hugging Face
      Hub as `hf://owner/repo[@revision][/path/file.safetensors]`; None takes
      the one that ships with the package, for models that have one.
    image_size: Height and width of the images, 32 or more.
    num_bands: Channels of the images; where the weights are those of three
      colors, the first convolution is widened (`bands.widen_input`).
    dtype: What the model computes in, `"float32"` or `"bfloat16"`. Parameters,
      statistics and features are float32 in both cases.

  Returns:
    The model with its weights, and the classifier if the file holds one.

  Raises:
    ValueError: If a name is unknown, the images are too small, there is no
      such file, or its tensors are not exactly those of the model.
  """
  spec = find_spec(name)
  check_options(image_size, dtype)
  file = _find_weights(name, spec, weights)
  module = spec.module(dtype=DTYPES[dtype])
  variables = _load(
    module,
    spec,
    file,
    (1, image_size, image_size, num_bands),
    source=f"{name} in {file}",
  )
  head = variables.pop("head", None)
  variables = bands.widen_input(variables, num_bands)
  return assemble(
    name,
    module,
    variables,
    num_bands=num_bands,
    head=LinearHead(**head) if head else None,
    fingerprint=_fingerprint(name, variables, dtype),
  )


def assemble(
  name: str,
  module: nn.Module,
  variables: Variables,
  *,
  num_bands: int,
  head: LinearHead | None,
  fingerprint: str,
) -> Backbone:
  """Puts a model together from its module and its variables.

  Args:
    name: Name of the model.
    module: What its row of the table makes.
    variables: Of the module, or their forms.
    num_bands: Channels of the images.
    head: As in `Backbone`.
    fingerprint: As in `Backbone`.

  Returns:
    The model.
  """
  spec = find_spec(name)
  normalise = functools.partial(
    forward.normalise,
    bands.widen_moments(spec.mean, num_bands),
    bands.widen_moments(spec.std, num_bands),
  )
  bind = functools.partial
  return Backbone(
    name=name,
    apply=bind(forward.compute_features, module, normalise),
    train_apply=bind(forward.compute_training, module, normalise),
    stage_apply=bind(forward.compute_stages, module, normalise),
    stage_train_apply=bind(forward.compute_stages_training, module, normalise),
    variables=variables,
    dim=spec.dim,
    stage_dims=spec.stage_dims,
    head=head,
    fingerprint=fingerprint,
  )


def with_one_stage(backbone: Backbone) -> Backbone:
  """Returns a model whose `stage_apply` has its features as the only stage.

  Args:
    backbone: The model, of which nothing trains: nor do its statistics.
  """
  return backbone._replace(
    stage_apply=functools.partial(forward.repeat_features, backbone.apply),
    stage_dims=(backbone.dim,),
  )


def check_options(image_size: int, dtype: str) -> None:
  """Refuses images that are too small, and an unknown type of numbers.

  Args:
    image_size: Height and width of the images.
    dtype: What a model computes in.

  Raises:
    ValueError: Shows what is wrong.
  """
  if dtype not in DTYPES:
    raise ValueError(f"Unknown dtype {dtype!r}; expected one of {[*DTYPES]}.")
  if image_size < MIN_IMAGE_SIZE:
    raise ValueError(
      f"Expected `image_size` >= {MIN_IMAGE_SIZE}, got {image_size}."
    )


def _find_weights(
  name: str, spec: ModelSpec, weights: PathLike | None
) -> PathLike:
  if weights is not None:
    return _locate(weights)
  if spec.packaged is None:
    raise ValueError(
      "Expected `config.model.weights` to name a local .safetensors file, or "
      f"one on the Hugging Face Hub as {hub.FORM}, for {name!r}, which has "
      "none in the package, got None."
    )
  return _WEIGHTS_DIR / spec.packaged


def _locate(weights: PathLike) -> PathLike:
  """The file; one of the Hub is downloaded."""
  if storage.is_remote(weights) and not hub.is_hub_name(weights):
    _check_remote(os.fspath(weights))
    return weights
  if not hub.is_hub_name(weights):
    pickled.check_local(weights)
    return weights
  file = hub.parse(weights)
  pickled.check_hub(file)
  return hub.fetch(file)


def _check_remote(weights: str) -> None:
  if weights.endswith(pickled.SUFFIXES):
    raise ValueError(
      f"Expected a .safetensors file, got {weights}: pickled. Copy it to a"
      " local disk, and name it there to learn how to convert it."
    )


def _load(
  module: nn.Module,
  spec: ModelSpec,
  file: PathLike,
  shape: tuple[int, int, int, int],
  *,
  source: str,
) -> dict[str, Any]:
  """Variables of the module, with the file's classifier as `head`."""
  tensors = pretrained.read_safetensors(file)
  template = _template(module, (*shape[:3], bands.NUM_COLORS))
  if spec.adapt:
    tensors = spec.adapt(tensors)
  naming = pretrained.find_naming(tensors, template, _namings(spec))
  if naming is None and _num_bands(tensors, template) == shape[3]:
    template = _template(module, shape)
  if naming:
    tensors = pretrained.without(tensors, spec.ignorable)
  variables = pretrained.to_variables(
    tensors,
    {**template, **_head_template(tensors, naming, spec.dim)},
    torch_name=naming,
    source=source,
  )
  return jax.tree.map(jnp.asarray, variables)


def _template(module: nn.Module, shape: tuple[int, ...]) -> Variables:
  return jax.eval_shape(
    lambda: module.init(jax.random.key(0), jnp.zeros(shape))
  )


def _num_bands(tensors: pretrained.Tensors, template: Variables) -> int | None:
  """The bands of a file in our own format; None if that is not told."""
  first = tensors.get(pretrained.own_name(bands.first_convolution(template)))
  return None if first is None or first.ndim != 4 else first.shape[2]


def _namings(spec: ModelSpec) -> list[pretrained.TensorName | None]:
  """The ways in which a file may name the variables; None is our own."""
  foreign = (spec.torch_name, spec.hugging_face_name)
  return [naming for naming in foreign if naming] + [None]


def _head_template(
  tensors: pretrained.Tensors,
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


def _fingerprint(name: str, variables: Variables, dtype: str) -> str:
  # Features that were cached before there was a choice are float32's.
  kind = name if dtype == "float32" else f"{name} {dtype}"
  digest = hashlib.sha256(kind.encode())
  flat = traverse_util.flatten_dict(variables, sep=".")
  for path, array in sorted(flat.items()):
    digest.update(f"\n{path} {array.shape}\n".encode())
    digest.update(np.asarray(array).tobytes())
  return digest.hexdigest()
