"""Argument checks that run before tracing, and helpers for messages."""

import collections
from collections.abc import Iterable, Sequence
import math
import operator
from typing import Any, overload

import jax
import jax.numpy as jnp

from decern_jax.distributed.rows import HostRows

_NUM_NAMES_SHOWN = 10


def check_integer(
  name: str, value: object, *, low: int, high: int | None = None
) -> int:
  """Returns an option as an int.

  Args:
    name: Name of the option.
    value: A Python, NumPy or JAX integer.
    low: Smallest value allowed.
    high: Largest value allowed; None for no bound.

  Raises:
    ValueError: If it is not an integer in the range.
  """
  bounds = f"{low} <= `{name}`" + ("" if high is None else f" <= {high}")
  try:
    number = operator.index(value)  # pyright: ignore[reportArgumentType]
  except TypeError:
    raise ValueError(f"Expected an integer {bounds}, got {value!r}.") from None
  in_range = low <= number and (high is None or number <= high)
  if isinstance(value, bool) or not in_range:
    raise ValueError(f"Expected {bounds}, got {value}.")
  return number


def check_number(
  name: str, value: object, *, low: float, high: float = float("inf")
) -> float:
  """Returns an option as a float.

  Raises:
    ValueError: If it is not a finite number in the range.
  """
  try:
    if isinstance(value, bool | str):
      raise TypeError
    number = float(value)  # pyright: ignore[reportArgumentType]
  except (TypeError, ValueError):
    raise ValueError(f"Expected `{name}` a number, got {value!r}.") from None
  if not math.isfinite(number):
    raise ValueError(f"Expected finite `{name}`, got {value}.")
  if not low <= number <= high:
    raise ValueError(f"Expected {low} <= `{name}` <= {high}, got {value}.")
  return number


def check_shapes(
  sizes: dict[str, int],
  **arrays: tuple[jax.typing.ArrayLike | HostRows, Sequence[str]],
) -> dict[str, int]:
  """Checks that arrays agree on the length of their named axes.

  Returns:
    The length of every axis, `sizes` included.

  Raises:
    ValueError: If a rank or length differs, or an axis is empty.
  """
  sizes = dict(sizes)
  for name, (array, axes) in arrays.items():
    shape = array.shape if isinstance(array, HostRows) else jnp.shape(array)
    expected = [sizes.get(axis, axis) for axis in axes]
    text = f"[{', '.join(map(str, expected))}]"
    if len(shape) != len(axes) or 0 in shape:
      raise ValueError(f"Expected `{name}` of shape {text}, got {shape}.")
    for axis, length in zip(axes, shape, strict=True):
      if sizes.setdefault(axis, length) != length:
        raise ValueError(f"Expected `{name}` of shape {text}, got {shape}.")
  return sizes


def check_pool(
  features, probs, head, *, anchors=None, valid=None
) -> dict[str, int]:
  """Checks that the arrays of a pool fit together.

  Args:
    features: [pool, dim].
    probs: [pool, classes].
    head: A `LinearHead`.
    anchors: `Anchors`, or None.
    valid: [pool], or None.

  Returns:
    The lengths of the axes `pool`, `dim` and `classes`.

  Raises:
    ValueError: If a shape does not fit, or there is only one class.
  """
  arrays = {
    "features": (features, ("pool", "dim")),
    "probs": (probs, ("pool", "classes")),
    "head.kernel": (head.kernel, ("dim", "classes")),
    "head.bias": (head.bias, ("classes",)),
  }
  if anchors is not None:
    arrays["anchors.features"] = (anchors.features, ("classes", "dim"))
    arrays["anchors.probs"] = (anchors.probs, ("classes", "classes"))
  if valid is not None:
    arrays["valid"] = (valid, ("pool",))
  sizes = check_shapes({}, **arrays)
  check_integer("number of classes", sizes["classes"], low=2)
  return sizes


@overload
def as_float32(array: HostRows) -> HostRows: ...


@overload
def as_float32(array: jax.typing.ArrayLike) -> jax.Array: ...


def as_float32(array: Any) -> Any:
  """Returns an array of numbers as float32, on the same devices."""
  return _as_type(array, jnp.float32)


def as_int32(array: jax.typing.ArrayLike) -> jax.Array:
  """Returns an array of numbers as int32, on the same devices."""
  return _as_type(array, jnp.int32)


def _as_type(array: Any, dtype: Any) -> Any:
  # Rows on the host and shapes already have their final type.
  if isinstance(array, HostRows | jax.ShapeDtypeStruct):
    return array
  return jnp.asarray(array).astype(dtype)


def float32_tree(tree: Any) -> Any:
  """Returns a pytree of arrays with every array as float32."""
  return jax.tree.map(as_float32, tree)


def repeated(names: Iterable[str]) -> list[str]:
  """Returns the names that occur more than once, sorted."""
  counts = collections.Counter(names)
  return sorted(name for name, count in counts.items() if count > 1)


def shorten(names: Iterable[str]) -> str:
  """Joins the first ten names with commas, and counts the others."""
  names = list(names)
  shown = ", ".join(names[:_NUM_NAMES_SHOWN])
  num_more = len(names) - _NUM_NAMES_SHOWN
  return f"{shown} and {num_more} more" if num_more > 0 else shown
