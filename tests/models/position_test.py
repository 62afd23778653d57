"""Tests of resized position embeddings."""

import jax
import numpy as np
import pytest

from decern_jax.models import position
from tests.table import each


@pytest.fixture
def grid():
  return np.random.default_rng(0).normal(size=(7, 7, 3)).astype(np.float32)


class TestResizeGrid:
  @each("offset, antialias", [(0.0, False), (0.1, False), (0.0, True)])
  @each("shape", [(3, 5), (4, 4), (7, 6), (8, 8), (16, 3)])
  def test_agrees_with_pytorch(self, grid, shape, offset, antialias):
    torch = pytest.importorskip("torch")
    expected = torch.nn.functional.interpolate(
      torch.from_numpy(grid).permute(2, 0, 1)[None],
      scale_factor=[(size + offset) / 7 for size in shape],
      mode="bicubic",
      antialias=antialias,
    )
    resized = position.resize_grid(
      grid, shape, offset=offset, antialias=antialias
    )
    np.testing.assert_allclose(
      resized, expected[0].permute(1, 2, 0), rtol=1e-5, atol=2e-6
    )

  def test_same_shape_is_unchanged(self, grid):
    resized = position.resize_grid(grid, (7, 7), offset=0.1, antialias=True)
    np.testing.assert_array_equal(resized, grid)

  @each("antialias", [False, True])
  def test_constant_grid_stays_constant(self, grid, antialias):
    constant = np.broadcast_to(grid[:1, :1], grid.shape)
    resized = position.resize_grid(
      constant, (4, 9), offset=0.1, antialias=antialias
    )
    expected = np.broadcast_to(grid[:1, :1], (4, 9, 3))
    np.testing.assert_allclose(resized, expected, rtol=1e-5)

  @each("antialias", [False, True])
  def test_offset_zero_keeps_reflections(self, grid, antialias):
    resized = position.resize_grid(grid, (4, 9), antialias=antialias)
    reflected = position.resize_grid(
      grid[::-1, ::-1], (4, 9), antialias=antialias
    )
    np.testing.assert_allclose(reflected, resized[::-1, ::-1], atol=1e-5)

  def test_is_linear_and_differentiable(self, grid):
    def total(grid):
      return position.resize_grid(grid, (3, 4), offset=0.1).sum()

    gradient = jax.grad(total)(grid)
    np.testing.assert_allclose((gradient * grid).sum(), total(grid), rtol=1e-4)
