"""Position embeddings resized as PyTorch's bicubic interpolation does."""

import jax
import jax.numpy as jnp
import numpy as np

# The cubic kernel's free coefficient in PyTorch, and with its antialiasing.
_COEFFICIENT = -0.75
_ANTIALIAS_COEFFICIENT = -0.5
_SUPPORT = 2


def resize_grid(
  grid: jax.Array,
  shape: tuple[int, int],
  *,
  offset: float = 0.0,
  antialias: bool = False,
) -> jax.Array:
  """Resizes a grid of position embeddings bicubically.

  Computes what `torch.nn.functional.interpolate` does as DINO and DINOv2 call
  it: `mode="bicubic"`, `align_corners=False` and the scale factor
  (new rows + offset) / old rows, likewise for columns. A grid that has the
  shape already is returned as it is.

  Args:
    grid: Float [rows, columns, dim].
    shape: Rows and columns of the result.
    offset: What the scale factor counts in excess, 0 or more.
    antialias: Whether the kernel widens where the grid shrinks.

  Returns:
    Float [*shape, dim].
  """
  if grid.shape[:2] == shape:
    return grid
  rows, columns = (
    _resize_matrix(old, new, offset, antialias)
    for old, new in zip(grid.shape[:2], shape, strict=True)
  )
  return jnp.einsum(
    "ri,ijd,cj->rcd", rows, grid, columns, precision=jax.lax.Precision.HIGHEST
  )


def _resize_matrix(
  old: int, new: int, offset: float, antialias: bool
) -> np.ndarray:
  """The weights [new, old] by which a resized axis sums the old one."""
  step = old / (new + offset)
  centers = (np.arange(new) + 0.5) * step - 0.5
  if antialias:
    width = max(step, 1.0)
    distances = (np.arange(old) - centers[:, None]) / width
    weights = _cubic(distances, _ANTIALIAS_COEFFICIENT)
    return np.float32(weights / weights.sum(axis=1, keepdims=True))
  taps = np.floor(centers)[:, None] + np.arange(1 - _SUPPORT, 1 + _SUPPORT)
  weights = _cubic(taps - centers[:, None], _COEFFICIENT)
  matrix = np.zeros((new, old))
  # A tap outside the grid meets its border.
  inside = np.clip(taps, 0, old - 1).astype(int)
  np.add.at(matrix, (np.arange(new)[:, None], inside), weights)
  return np.float32(matrix)


def _cubic(distances: np.ndarray, a: float) -> np.ndarray:
  """Keys' cubic convolution kernel with the free coefficient a."""
  x = np.abs(distances)
  near = ((a + 2) * x - (a + 3)) * x**2 + 1
  far = a * (((x - 5) * x + 8) * x - 4)
  return np.where(x <= 1, near, np.where(x < _SUPPORT, far, 0.0))
