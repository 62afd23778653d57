"""Files of weights: strict reading, conversion to Flax's layouts, writing."""

from collections.abc import Callable, Mapping, Sequence
import fnmatch
from typing import Any, NamedTuple

from etils import epath
from flax import traverse_util
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy

from decern_jax.io import storage
from decern_jax.io.validation import shorten

# Maps the path of a variable (collection, layers, leaf) to its name in a file,
# or to the names of tensors that are joined along their first axis.
TensorName = Callable[[tuple[str, ...]], str | tuple[str, ...]]

Tensors = Mapping[str, np.ndarray]

# Axes of a linear and of a convolution kernel, in PyTorch's order.
_TORCH_KERNEL_AXES = {2: (1, 0), 4: (3, 2, 0, 1)}

# From the outermost on.
_PREFIXES = ("module.", "backbone.", "model.", "vit.", "dinov2.", "resnet.")


class _Entry(NamedTuple):
  """Tensors of a variable in a file; `axes` are its axes in their order."""

  names: tuple[str, ...]
  axes: tuple[int, ...]
  shape: tuple[int, ...]


class OtherTensorsError(ValueError):
  """A file has other tensors than those of the model."""


def read_safetensors(path: epath.PathLike) -> dict[str, np.ndarray]:
  """Reads every tensor of a safetensors file.

  Args:
    path: A local file, or one on gs://; `~` is the home folder.

  Returns:
    The tensors by name, of the types in the file.

  Raises:
    ValueError: If the file is missing, or not a complete safetensors file.
  """
  file = storage.as_path(path).expanduser()
  if not file.is_file():
    found = "a folder" if file.is_dir() else "no such file"
    raise ValueError(f"Expected a .safetensors file, got {file}: {found}.")
  with storage.local_input(file) as local:
    try:
      with safetensors.safe_open(local, framework="np") as tensors:
        names = tensors.keys()
        return {name: tensors.get_tensor(name) for name in names}
    except safetensors.SafetensorError as error:
      raise ValueError(
        f"Expected a whole .safetensors file, got {file}:"
        f" {_what_it_is(local) or error}."
      ) from error


def _what_it_is(file: str) -> str | None:
  """Says what a file is that has the wrong format; None if unknown."""
  with open(file, "rb") as opened:
    start = opened.read(64)
  if start.startswith(b"version https://git-lfs"):
    return "a pointer of Git LFS; `git lfs pull` downloads the weights"
  if start.startswith((b"PK\x03\x04", b"\x80")):
    return (
      "a pickled file of PyTorch; give it the ending .pth to learn how to"
      " convert it"
    )
  if start.lstrip()[:1] == b"<":
    return "a web page; download the file itself"
  return None


def save_safetensors(
  path: epath.PathLike, variables: Mapping[str, Any]
) -> None:
  """Writes variables in this project's own format.

  The name of a tensor is its path joined by dots, such as `params.stem.kernel`.
  Layout and type are those of Flax. The file is written atomically.

  Args:
    path: The file to write; an existing file is replaced.
    variables: Collections of arrays, as `module.init` returns them.
  """
  # safetensors would write a transposed view in the order of its memory.
  tensors = {
    name: np.asarray(array, order="C")
    for name, array in traverse_util.flatten_dict(variables, sep=".").items()
  }
  file = storage.as_path(path).expanduser()
  storage.write_atomically(file, safetensors.numpy.save(tensors))


def own_name(path: tuple[str, ...]) -> str:
  """Returns the name that `save_safetensors` gives a variable."""
  return ".".join(path)


def find_naming(
  tensors: Tensors,
  template: Mapping[str, Any],
  namings: Sequence[TensorName | None],
) -> TensorName | None:
  """Returns the rule that names the most variables of a module in a file.

  Args:
    tensors: The tensors of the file by name.
    template: As in `to_variables`.
    namings: The rules, None for this project's own names. The first one wins a
      tie.

  Returns:
    The rule; tensors may still be missing or left over.
  """
  paths = traverse_util.flatten_dict(template)

  def count(naming: TensorName | None) -> int:
    names = [name for path in paths for name in _names(path, naming)]
    return sum(name in tensors for name in names)

  return max(namings, key=count)


def without(tensors: Tensors, patterns: Sequence[str]) -> dict[str, np.ndarray]:
  """Removes the tensors whose whole names match a pattern such as `*.count`."""
  return {
    name: tensor
    for name, tensor in tensors.items()
    if not any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
  }


def to_variables(
  tensors: Tensors,
  template: Mapping[str, Any],
  *,
  torch_name: TensorName | None = None,
  source: str,
) -> dict[str, Any]:
  """Converts the tensors of a file to the variables of a module.

  With `torch_name` the tensors have PyTorch's layouts: kernels of convolutions,
  also grouped and depthwise ones, are transposed from OIHW to HWIO, those of
  linear layers from [out, in] to [in, out]. Without it they have this project's
  own names and layouts.

  Args:
    tensors: The tensors by name. The module must use all of them.
    template: Collections of shapes: `jax.eval_shape` of `module.init`.
    torch_name: Maps a path of the template, such as `("params", "stem",
      "kernel")`, to the name of its tensor, or to the names of its equal parts.
    source: The model and the file, for error messages.

  Returns:
    Float32 variables of the template's structure.

  Raises:
    OtherTensorsError: If tensors are missing, left over, or of another shape or
      type.
    ValueError: If a value is not finite, or a variance negative.
  """
  flat: dict[tuple[str, ...], Any] = traverse_util.flatten_dict(template)
  entries = {
    path: _entry(path, leaf.shape, torch_name) for path, leaf in flat.items()
  }
  shapes = {
    name: entry.shape for entry in entries.values() for name in entry.names
  }
  _check_tensors(tensors, shapes, source)
  variables = {}
  for path, entry in entries.items():
    joined = _join([tensors[name] for name in entry.names])
    # What exceeds float32 becomes infinite, and is refused.
    with np.errstate(over="ignore"):
      value = joined.transpose(np.argsort(entry.axes)).astype(
        np.float32, order="C"
      )
    _check_values(path, entry.names, value, source)
    variables[path] = value
  return traverse_util.unflatten_dict(variables)


def strip_prefixes(tensors: Tensors) -> dict[str, np.ndarray]:
  """Removes what wrappers of a model put before the names of its tensors.

  Args:
    tensors: The tensors of a file by name.

  Returns:
    The tensors. `module.` of parallel training and the name of the backbone in
    a classifier, such as `vit.`, are removed if most names start with it.
  """
  tensors = dict(tensors)
  for prefix in _PREFIXES:
    wrapped = sum(name.startswith(prefix) for name in tensors)
    if 2 * wrapped > len(tensors):
      tensors = {
        name.removeprefix(prefix): tensor for name, tensor in tensors.items()
      }
  return tensors


def _check_values(
  path: tuple[str, ...],
  names: tuple[str, ...],
  value: np.ndarray,
  source: str,
) -> None:
  """Refuses values that no trained model has."""
  if not np.isfinite(value).all():
    raise ValueError(
      f"Expected finite weights of {source}, got NaN or infinity in"
      f" {' and '.join(names)}."
    )
  if path[-1] == "var" and (value < 0.0).any():
    raise ValueError(
      f"Expected variances of at least 0 of {source}, got {value.min()} in"
      f" {' and '.join(names)}."
    )


def _names(path: tuple[str, ...], naming: TensorName | None) -> tuple[str, ...]:
  name = (naming or own_name)(path)
  return (name,) if isinstance(name, str) else name


def _join(parts: list[np.ndarray]) -> np.ndarray:
  return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _entry(
  path: tuple[str, ...], shape: tuple[int, ...], torch_name: TensorName | None
) -> _Entry:
  axes = tuple(range(len(shape)))
  if torch_name and path[-1] == "kernel":
    axes = _TORCH_KERNEL_AXES[len(shape)]
  names = _names(path, torch_name)
  stored = tuple(shape[axis] for axis in axes)
  if len(names) > 1:
    stored = (stored[0] // len(names), *stored[1:])
  return _Entry(names, axes, stored)


def _check_tensors(
  tensors: Tensors, shapes: Mapping[str, tuple[int, ...]], source: str
) -> None:
  misshaped = [
    f"{name} (expected float{list(shape)}, "
    f"got {tensors[name].dtype}{list(tensors[name].shape)})"
    for name, shape in shapes.items()
    if name in tensors and not _fits(tensors[name], shape)
  ]
  problems = {
    "missing": [name for name in shapes if name not in tensors],
    "left over": [name for name in tensors if name not in shapes],
    "of another shape or type": misshaped,
  }
  found = [
    f"{len(names)} {problem}: {shorten(names)}"
    for problem, names in problems.items()
    if names
  ]
  if found:
    raise OtherTensorsError(
      f"Expected exactly the tensors of {source}, which may hold the weights "
      f"of another model; got {'; '.join(found)}."
    )


def _fits(tensor: np.ndarray, shape: tuple[int, ...]) -> bool:
  return tensor.shape == shape and jnp.issubdtype(tensor.dtype, jnp.floating)
