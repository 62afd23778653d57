"""Networks of three colors, for images of any number of bands."""

from collections.abc import Mapping
from typing import Any

from flax import traverse_util
import jax.numpy as jnp

NUM_COLORS = 3
"""The input channels of the networks of the table."""


def first_convolution(variables: Mapping[str, Any]) -> tuple[str, ...]:
  """Returns the path of the kernel that sees the image.

  Args:
    variables: Of a network whose one convolution with three input channels is
      the first, or their shapes.
  """
  (first,) = (
    path
    for path, leaf in traverse_util.flatten_dict(variables).items()
    if len(leaf.shape) == 4 and leaf.shape[2] == NUM_COLORS
  )
  return first


def widen_input(variables: Mapping[str, Any], num_bands: int) -> dict[str, Any]:
  """Gives the first convolution so many input channels.

  Each new channel has the mean over the colors of the old kernel, scaled by 3 /
  bands: an image whose bands all hold one gray gives the features that the gray
  picture gave. This start is the project's choice; fine-tuning moves it.

  Args:
    variables: Of a network whose one convolution with three input channels is
      the first, or of one that has so many already.
    num_bands: Number of bands, at least 1; 3 changes nothing.

  Returns:
    The variables.
  """
  flat = traverse_util.flatten_dict(variables)
  inputs = {leaf.shape[2] for leaf in flat.values() if leaf.ndim == 4}
  if num_bands == NUM_COLORS or NUM_COLORS not in inputs:
    return dict(variables)
  first = first_convolution(variables)
  mean = jnp.mean(flat[first], axis=2, keepdims=True)
  flat[first] = jnp.repeat(mean, num_bands, axis=2) * (NUM_COLORS / num_bands)
  return traverse_util.unflatten_dict(flat)


def widen_moments(
  values: tuple[float, float, float], num_bands: int
) -> tuple[float, ...]:
  """Returns the mean or deviation of each band: of colors their average."""
  if num_bands == NUM_COLORS:
    return values
  return (sum(values) / NUM_COLORS,) * num_bands
