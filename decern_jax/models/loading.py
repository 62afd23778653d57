"""Models by name, with weights from a file or drawn from a seed."""

import hashlib
import os
import pathlib
from typing import Any

from flax import linen as nn
from flax import traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from decern_jax.io import storage
from decern_jax.models import hub, pretrained
from decern_jax.models.backbone import (
  DTYPES,
  NUM_COLORS,
  Backbone,
  Variables,
  assemble,
  check_options,
  first_convolution,
  widen_input,
)
from decern_jax.models.registry import MODELS, ModelSpec, find_spec
from decern_jax.ops import keys
from decern_jax.ops.head import LinearHead

PathLike = str | os.PathLike[str]

RANDOM = "random"
"""Value of `config.model.weights` for weights that are drawn at random."""

_WEIGHTS_DIR = pathlib.Path(__file__).parent / "weights"


def create(
  name: str,
  *,
  weights: PathLike | None = None,
  seed: int = 0,
  image_size: int,
  num_bands: int = 3,
  dtype: str = "float32",
) -> Backbone:
  """Makes a model by name, with weights from a file or random ones.

  Args:
    name: Name of the model.
    weights: A .safetensors file, local or on gs://, or on the Hugging Face Hub
      as `hf://owner/repo[@revision][/path/file.safetensors]`. None for the file
      that ships with the package, for models that have one. `"random"` for
      weights that are drawn.
    seed: Seed of random weights.
    image_size: Height and width of the images, at least 32.
    num_bands: Number of channels of the images. If the weights are for three
      colors, the first convolution is widened by `backbone.widen_input`. Other
      numbers of bands are normalized by the averages of the table's values.
    dtype: Type that the model computes in, `"float32"` or `"bfloat16"`.
      Parameters, statistics and features are float32 in both cases.

  Returns:
    The model with its weights, and with the classifier if the file has one.

  Raises:
    ValueError: If a name is unknown, the images are too small, the file is
      missing, or its tensors are not exactly those of the model.
  """
  spec = find_spec(name)
  check_options(image_size, dtype)
  if weights == RANDOM:
    return _draw(name, spec, seed, image_size, num_bands, dtype)
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
  variables = widen_input(variables, num_bands)
  return assemble(
    name,
    module,
    variables,
    num_bands=num_bands,
    head=LinearHead(**head) if head else None,
    fingerprint=_fingerprint(name, variables, dtype),
  )


def _draw(
  name: str,
  spec: ModelSpec,
  seed: int,
  image_size: int,
  num_bands: int,
  dtype: str,
) -> Backbone:
  """Makes a model with random weights."""
  image = jnp.zeros((1, image_size, image_size, num_bands))
  init = jax.jit(spec.module().init)
  variables = init(keys.seed_key(seed, "backbone"), image)
  source = f"{name} {dtype} {image_size} {num_bands} {seed}"
  return assemble(
    name,
    spec.module(dtype=DTYPES[dtype]),
    variables,
    num_bands=num_bands,
    head=None,
    fingerprint=hashlib.sha256(source.encode()).hexdigest(),
  )


def _find_weights(
  name: str, spec: ModelSpec, weights: PathLike | None
) -> PathLike:
  if weights is not None:
    found = _locate(weights)
    if not storage.is_remote(found):
      _check_there(pathlib.Path(found).expanduser(), spec)
    return found
  if spec.packaged is None:
    raise ValueError(
      "Expected `config.model.weights` to name a local .safetensors file, or "
      f"one on the Hugging Face Hub as {hub.FORM}, for {name!r}, which has "
      "none in the package, got None."
    )
  return _WEIGHTS_DIR / spec.packaged


def _locate(weights: PathLike) -> PathLike:
  """Returns the file, after a download if it is on the Hub."""
  text = os.fspath(weights)
  if text.startswith(("https://", "http://")) or _is_hub_id(text):
    raise ValueError(
      "Expected a local .safetensors file, or one on the Hugging Face Hub as"
      f" {hub.FORM}, got {text}."
    )
  if storage.is_remote(weights) and not hub.is_hub_name(weights):
    _check_remote(os.fspath(weights))
    return weights
  if not hub.is_hub_name(weights):
    hub.check_not_pickled_file(weights)
    return weights
  file = hub.parse(os.fspath(weights))
  hub.check_not_pickled(file)
  return hub.fetch(file)


def _is_hub_id(text: str) -> bool:
  """Returns whether a text is "owner/repo", and not the path of a file."""
  suffixes = (".safetensors", *hub.PICKLED_SUFFIXES)
  is_id = text.count("/") == 1 and not text.startswith((".", "/", "~"))
  return is_id and not text.endswith(suffixes) and not os.path.exists(text)


def _check_there(file: pathlib.Path, spec: ModelSpec) -> None:
  """Refuses a file that has yet to be downloaded or converted."""
  if file.exists():
    return
  for suffix in hub.PICKLED_SUFFIXES:
    if file.with_suffix(suffix).exists():
      hub.check_not_pickled_file(file.with_suffix(suffix))
  if spec.origin:
    raise ValueError(
      f"Expected a .safetensors file, got {file}: no such file. Download"
      f" {spec.origin} to its folder; the same command then prints the line"
      " that converts it."
    )


def _check_remote(weights: str) -> None:
  if weights.endswith(hub.PICKLED_SUFFIXES):
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
  """Returns the variables of a file, with its classifier as `head`."""
  tensors = pretrained.strip_prefixes(pretrained.read_safetensors(file))
  try:
    variables = _convert(module, spec, tensors, shape, source=source)
  except pretrained.OtherTensorsError as error:
    names = _models_of(tensors, shape)
    if not names:
      raise
    raise ValueError(
      f"Expected the weights of {source}, got those of another model: set"
      f" `config.model.name` to {' or '.join(names)}."
    ) from error
  return jax.tree.map(jnp.asarray, variables)


def _convert(
  module: nn.Module,
  spec: ModelSpec,
  tensors: pretrained.Tensors,
  shape: tuple[int, int, int, int],
  *,
  source: str,
) -> dict[str, Any]:
  """Returns the variables of a model, with the classifier as `head`."""
  template = _template(module, (*shape[:3], NUM_COLORS))
  if spec.adapt:
    tensors = spec.adapt(tensors)
  naming = pretrained.find_naming(tensors, template, _namings(spec))
  if naming is None and _num_bands(tensors, template) == shape[3]:
    template = _template(module, shape)
  if naming:
    tensors = pretrained.without(tensors, spec.ignorable)
  return pretrained.to_variables(
    tensors,
    {**template, **_head_template(tensors, naming, spec.dim)},
    torch_name=naming,
    source=source,
  )


def _models_of(
  tensors: pretrained.Tensors, shape: tuple[int, int, int, int]
) -> list[str]:
  """Returns the models whose tensors these are."""
  names = []
  for name, spec in MODELS.items():
    try:
      _convert(spec.module(), spec, tensors, shape, source=name)
    except ValueError:
      continue
    names.append(name)
  return names


def _template(module: nn.Module, shape: tuple[int, ...]) -> Variables:
  return jax.eval_shape(
    lambda: module.init(jax.random.key(0), jnp.zeros(shape))
  )


def _num_bands(tensors: pretrained.Tensors, template: Variables) -> int | None:
  """Returns the bands of a file in our own format, None if unknown."""
  first = tensors.get(pretrained.own_name(first_convolution(template)))
  return None if first is None or first.ndim != 4 else first.shape[2]


def _namings(spec: ModelSpec) -> list[pretrained.TensorName | None]:
  """Returns the naming rules that a file may follow; None is our own."""
  foreign = (spec.torch_name, spec.hugging_face_name)
  return [naming for naming in foreign if naming] + [None]


def _head_template(
  tensors: pretrained.Tensors, naming: pretrained.TensorName | None, dim: int
) -> dict[str, Any]:
  """Returns the shapes of the classifier in a file, {} without one."""
  name_of = naming or pretrained.own_name
  bias = tensors.get(str(name_of(("head", "bias"))))
  kernel = tensors.get(str(name_of(("head", "kernel"))))
  if bias is not None:
    num_classes = bias.size
  elif kernel is not None:
    num_classes = kernel.size // dim
  else:
    return {}
  return {
    "head": {
      "kernel": jax.ShapeDtypeStruct((dim, num_classes), jnp.float32),
      "bias": jax.ShapeDtypeStruct((num_classes,), jnp.float32),
    }
  }


def _fingerprint(name: str, variables: Variables, dtype: str) -> str:
  # The type is left out for float32, so that existing fingerprints stay valid.
  kind = name if dtype == "float32" else f"{name} {dtype}"
  digest = hashlib.sha256(kind.encode())
  flat = traverse_util.flatten_dict(variables, sep=".")
  for path, array in sorted(flat.items()):
    digest.update(f"\n{path} {array.shape}\n".encode())
    digest.update(np.asarray(array).tobytes())
  return digest.hexdigest()
