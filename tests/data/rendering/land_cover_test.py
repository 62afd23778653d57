"""Tests of `data.rendering.land_cover`."""

import numpy as np

from decern_jax.data.rendering.land_cover import (
  ABOVE,
  BENEATH,
  draw_crown,
  draw_ships,
  draw_water,
)
from decern_jax.data.rendering.land_shape import CANVAS_SIZE
from tests.table import each

DRAWS = {**BENEATH, **ABOVE, "water": draw_water}


def gray() -> np.ndarray:
  return np.full((CANVAS_SIZE, CANVAS_SIZE, 3), 128, np.uint8)


class TestCovers:
  @each("cover", DRAWS)
  def test_are_in_the_picture_wherever_they_fall(self, cover):
    shares = []
    for seed in range(200):
      canvas = gray()
      DRAWS[cover](canvas, np.random.default_rng(seed))
      shares.append(np.mean((canvas != 128).any(axis=2)))
    assert np.mean(np.array(shares) > 0.01) >= 0.99
    assert min(shares) > 0.0
    assert np.mean(shares) < 0.6


class TestDrawWater:
  def test_returns_where_the_water_is(self):
    for seed in range(20):
      canvas = gray()
      mask = draw_water(canvas, np.random.default_rng(seed))
      assert (canvas[mask == 0.0] == 128).all()
      assert (canvas[mask > 0.99] < 128).any()


class TestDrawShips:
  def test_are_bright_on_the_water(self):
    for seed in range(100):
      rng = np.random.default_rng(seed)
      canvas = gray()
      mask = draw_water(canvas, rng)
      bare = canvas.copy()
      draw_ships(canvas, mask, rng)
      brightened = (canvas.astype(int) - bare).min(axis=2) > 60
      assert brightened[mask > 0.5].sum() > 20


class TestDrawCrown:
  def test_stays_near_its_center(self):
    canvas = gray()
    draw_crown(canvas, np.array([40.0, 60.0]), 5.0, np.random.default_rng(0))
    rows, columns = np.nonzero((canvas != 128).any(axis=2))
    assert abs(rows.mean() - 60.0) < 4.0
    assert abs(columns.mean() - 40.0) < 4.0
    assert np.ptp(rows) < 24
