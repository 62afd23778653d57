"""Draws land from above: ground, covers, things that look like them, camera."""

from collections.abc import Collection

import cv2
import numpy as np

from decern_jax.data.rendering import land_shape as shape
from decern_jax.data.rendering.land_cover import (
  ABOVE,
  BENEATH,
  draw_crown,
  draw_ships,
  draw_water,
)
from decern_jax.data.rendering.land_shape import CANVAS_SIZE, SQUARE, Rng
from decern_jax.data.rendering.polygon import fill_polygon

IMAGE_SIZE = CANVAS_SIZE // 2

# Position along a side of the picture.
_AXIS = np.linspace(-1.0, 1.0, IMAGE_SIZE, dtype=np.float32)

_BLACK = np.zeros(3)


def draw_land(covers: Collection[str], rng: Rng) -> np.ndarray:
  """Draws a picture of land from above.

  Shadows of clouds look like water, tracks like roads, single bushes like
  trees, mown strips like fields and rocks like buildings or ships. They appear
  independently of the covers.

  Args:
    covers: What the scene shows: names in `BENEATH` and `ABOVE`, "water", and
      "ship" where there is water.
    rng: Source of everything else: places, sizes, tones, light.

  Returns:
    uint8 [IMAGE_SIZE, IMAGE_SIZE, 3], RGB.
  """
  canvas = _ground(rng)
  _draw(BENEATH, canvas, covers, rng)
  water = draw_water(canvas, rng) if "water" in covers else None
  _draw_lookalikes(canvas, rng)
  _draw(ABOVE, canvas, covers, rng)
  if "ship" in covers and water is not None:
    draw_ships(canvas, water, rng)
  return _photograph(canvas, rng)


def _draw(
  table: dict, canvas: np.ndarray, covers: Collection[str], rng: Rng
) -> None:
  """Draws the covers of a table, in its order."""
  for cover, draw in table.items():
    if cover in covers:
      draw(canvas, rng)


def _ground(rng: Rng) -> np.ndarray:
  """Returns grass and earth, mixed at random."""
  mix = np.clip(0.5 + shape.random_grain(rng, 5, 0.45), 0.0, 1.0)
  grass = shape.random_tone(rng, (112.0, 122.0, 78.0), 14.0)
  earth = shape.random_tone(rng, (142.0, 126.0, 100.0), 14.0)
  grain = shape.random_grain(rng, 40, rng.uniform(2.0, 9.0))
  return shape.to_pixels(mix * grass + (1.0 - mix) * earth + grain)


def _draw_lookalikes(canvas: np.ndarray, rng: Rng) -> None:
  """Draws things that look like covers."""
  if rng.random() < 0.4:
    _draw_cloud_shadow(canvas, rng)
  if rng.random() < 0.4:
    _draw_track(canvas, rng)
  if rng.random() < 0.35:
    _draw_mown_strip(canvas, rng)
  for _ in range(rng.integers(0, 4)):  # bushes
    place = shape.random_point(rng, margin=0.0)
    draw_crown(canvas, place, rng.uniform(2.0, 4.0), rng)
  for _ in range(rng.integers(0, 4)):  # rocks
    place, radius = shape.random_point(rng, margin=0.0), rng.uniform(1.5, 5.0)
    tone = shape.random_tone(rng, (176.0, 172.0, 164.0), 18.0)
    fill_polygon(canvas, shape.random_blob(rng, place, radius), tone)


def _draw_cloud_shadow(canvas: np.ndarray, rng: Rng) -> None:
  center, radius = shape.random_point(rng), rng.uniform(20.0, 46.0)
  mask = shape.inside(shape.random_blob(rng, center, radius), softness=13)
  shape.paint(canvas, rng.uniform(0.35, 0.6) * mask, _BLACK)


def _draw_track(canvas: np.ndarray, rng: Rng) -> None:
  course, width = shape.random_course(rng, 18.0), rng.uniform(2.0, 5.0)
  outline = shape.band(course, width, rng.uniform(0.0, np.pi))
  tone = shape.random_tone(rng, (168.0, 148.0, 116.0), 12.0)
  fill_polygon(canvas, outline, tone)


def _draw_mown_strip(canvas: np.ndarray, rng: Rng) -> None:
  corners = SQUARE * rng.uniform(10.0, 30.0, 2)
  corners = shape.turn(corners, rng.uniform(0.0, np.pi))
  mask = shape.inside(shape.random_point(rng) + corners)
  tone = shape.random_tone(rng, (134.0, 140.0, 88.0), 12.0)
  shape.paint(canvas, 0.8 * mask, tone)


def _photograph(canvas: np.ndarray, rng: Rng) -> np.ndarray:
  """Adds tinted light from one side, a little blur, and noise."""
  if rng.random() < 0.5:
    canvas = cv2.GaussianBlur(canvas, (5, 5), rng.uniform(0.5, 1.6))
  image = cv2.resize(
    canvas, (IMAGE_SIZE, IMAGE_SIZE), interpolation=cv2.INTER_AREA
  )
  slope = rng.uniform(-0.12, 0.12, 2).astype(np.float32)
  light = slope[0] * _AXIS[:, None] + slope[1] * _AXIS
  light += np.float32(rng.uniform(0.8, 1.15))
  tint = rng.uniform(0.94, 1.06, 3).astype(np.float32)
  image = cv2.multiply(image, light[..., None] * tint, dtype=cv2.CV_32F)
  noise = rng.standard_normal(light.shape, np.float32)
  noise *= np.float32(rng.uniform(1.0, 6.0))
  return cv2.add(image, cv2.merge([noise] * 3), dtype=cv2.CV_8U)
