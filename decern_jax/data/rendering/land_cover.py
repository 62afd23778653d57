"""Draws each cover of land seen from above."""

from collections.abc import Callable

import numpy as np

from decern_jax.data.rendering import land_shape as shape
from decern_jax.data.rendering.land_shape import SQUARE, Rng
from decern_jax.data.rendering.polygon import UNIT_CIRCLE, fill_polygon

_HULL = np.array(
  [[1.0, 0.0], [0.5, 0.3], [-1.0, 0.24], [-1.0, -0.24], [0.5, -0.3]]
)
_WAKE = np.array([[-1.0, 0.1], [-3.0, 0.5], [-3.0, -0.5], [-1.0, -0.1]])

_CROPS = ((128.0, 144.0, 70.0), (162.0, 146.0, 94.0), (108.0, 94.0, 68.0))
_ROOFS = ((164.0, 88.0, 70.0), (176.0, 172.0, 168.0), (112.0, 106.0, 110.0))
_WATERS = ((46.0, 70.0, 84.0), (66.0, 88.0, 76.0), (40.0, 60.0, 66.0))


def draw_soil(canvas: np.ndarray, rng: Rng) -> None:
  """Draws a pit or a dune: pale, with coarse grain."""
  center, radius = shape.random_point(rng), rng.uniform(24.0, 48.0)
  mask = shape.inside(shape.random_blob(rng, center, radius), softness=5)
  tone = shape.random_tone(rng, (206.0, 178.0, 130.0), 12.0)
  shape.paint(canvas, mask, tone + shape.random_grain(rng, 30, 16.0))


def draw_fields(canvas: np.ndarray, rng: Rng) -> None:
  """Draws one to three parcels with furrows."""
  angle = rng.uniform(0.0, np.pi)
  for _ in range(rng.integers(1, 4)):
    size = rng.uniform(16.0, 44.0, 2)
    corners = shape.random_point(rng) + shape.turn(SQUARE * size, angle)
    tone = shape.random_tone(rng, _CROPS[rng.integers(len(_CROPS))], 12.0)
    furrows = shape.stripes(rng, angle + rng.uniform(-0.1, 0.1), 20.0)
    shape.paint(canvas, shape.inside(corners), tone + furrows)


def draw_water(canvas: np.ndarray, rng: Rng) -> np.ndarray:
  """Draws a lake, or a river from side to side.

  Returns:
    float32 [canvas, canvas], 1 on the water and 0 elsewhere.
  """
  if rng.random() < 0.5:
    center, radius = shape.random_point(rng), rng.uniform(26.0, 50.0)
    outline = shape.random_blob(rng, center, radius)
  else:
    course, width = shape.random_course(rng, 26.0), rng.uniform(16.0, 30.0)
    outline = shape.band(course, width, rng.uniform(0.0, np.pi))
  mask = shape.inside(outline, softness=3)
  tone = shape.random_tone(rng, _WATERS[rng.integers(len(_WATERS))], 9.0)
  shape.paint(canvas, mask, tone + shape.random_grain(rng, 12, 2.5))
  return mask


def draw_ships(canvas: np.ndarray, water: np.ndarray, rng: Rng) -> None:
  """Draws one to three ships with wakes, where there is water."""
  rows, columns = np.nonzero(water > 0.99)
  for _ in range(rng.integers(1, 4)):
    at = rng.integers(len(rows))
    place = np.array([columns[at], rows[at]], float)
    angle, length = rng.uniform(0.0, 2 * np.pi), rng.uniform(9.0, 16.0)
    wake = shape.inside(place + shape.turn(length * _WAKE, angle), softness=3)
    shape.paint(canvas, 0.4 * wake * water, np.array([200.0, 210.0, 214.0]))
    tone = shape.random_tone(rng, (212.0, 206.0, 200.0), 16.0)
    hull = shape.turn(length * _HULL, angle)
    fill_polygon(canvas, place + hull, tone)
    fill_polygon(canvas, place + 0.5 * hull, 0.6 * tone)


def draw_crown(
  canvas: np.ndarray, center: np.ndarray, radius: float, rng: Rng
) -> None:
  """Draws a tree or a bush, with its shadow."""
  tone = shape.random_tone(rng, (62.0, 84.0, 48.0), 10.0)
  outline = shape.random_blob(rng, center, radius)
  fill_polygon(canvas, outline + 0.35 * radius, 0.45 * tone)
  fill_polygon(canvas, outline, tone)
  light = center - 0.3 * radius + 0.4 * radius * UNIT_CIRCLE
  fill_polygon(canvas, light, 1.25 * tone)


def draw_trees(canvas: np.ndarray, rng: Rng) -> None:
  """Draws a wood, or a row of trees."""
  count = rng.integers(8, 26)
  if rng.random() < 0.7:
    spread = rng.uniform(10.0, 22.0)
    places = shape.random_point(rng) + rng.normal(0.0, spread, (count, 2))
  else:
    line = np.stack([np.linspace(-60.0, 60.0, count), np.zeros(count)], axis=1)
    line = shape.turn(line, rng.uniform(0.0, np.pi))
    places = shape.random_point(rng, margin=0.25) + line
    places += rng.normal(0.0, 1.5, places.shape)
  for place in places:
    draw_crown(canvas, place, rng.uniform(3.0, 7.0), rng)


def draw_roads(canvas: np.ndarray, rng: Rng) -> None:
  """Draws one or two roads, some with a line in the middle."""
  for _ in range(rng.integers(1, 3)):
    course, angle = shape.random_course(rng, 10.0), rng.uniform(0.0, np.pi)
    width = rng.uniform(5.0, 10.0)
    tone = shape.random_tone(rng, (112.0, 112.0, 114.0), 10.0)
    fill_polygon(canvas, shape.band(course, width, angle), tone)
    if rng.random() < 0.5:
      tone = shape.random_tone(rng, (206.0, 206.0, 206.0), 10.0)
      fill_polygon(canvas, shape.band(course, 0.14 * width, angle), tone)


def draw_tanks(canvas: np.ndarray, rng: Rng) -> None:
  """Draws two to five round tanks side by side."""
  radius, middle = rng.uniform(5.0, 9.0), shape.random_point(rng, margin=0.25)
  side = np.array([2.4 * radius, 0.0])
  step = shape.turn(side, rng.uniform(0.0, np.pi))
  tone = shape.random_tone(rng, (204.0, 204.0, 200.0), 12.0)
  count = rng.integers(2, 6)
  for i in range(count):
    place = middle + (i - 0.5 * (count - 1)) * step
    circle = radius * UNIT_CIRCLE
    fill_polygon(canvas, place + 0.4 * radius + circle, 0.3 * tone)
    fill_polygon(canvas, place + circle, tone)
    fill_polygon(canvas, place + 0.82 * circle, 0.9 * tone)


def draw_buildings(canvas: np.ndarray, rng: Rng) -> None:
  """Draws some houses of one quarter, one half of each roof in the shade."""
  angle, middle = rng.uniform(0.0, np.pi), shape.random_point(rng, margin=0.25)
  for _ in range(rng.integers(2, 9)):
    place = middle + rng.normal(0.0, 26.0, 2)
    size = rng.uniform(4.0, 11.0, 2)
    corners = shape.turn(SQUARE * size, angle)
    shaded = shape.turn((SQUARE * [1.0, 0.5] + [0.0, 0.5]) * size, angle)
    tone = shape.random_tone(rng, _ROOFS[rng.integers(len(_ROOFS))], 14.0)
    fill_polygon(canvas, place + corners + rng.uniform(2.0, 4.0), 0.3 * tone)
    fill_polygon(canvas, place + corners, tone)
    fill_polygon(canvas, place + shaded, 0.82 * tone)


BENEATH: dict[str, Callable[[np.ndarray, Rng], None]] = {
  "bare soil": draw_soil,
  "field": draw_fields,
}
"""Covers that are drawn before the water, in this order."""

ABOVE: dict[str, Callable[[np.ndarray, Rng], None]] = {
  "trees": draw_trees,
  "road": draw_roads,
  "tank": draw_tanks,
  "building": draw_buildings,
}
"""Covers that are drawn after the water, in this order."""
