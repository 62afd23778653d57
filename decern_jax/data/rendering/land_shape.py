"""Shapes and textures of land seen from above, on a canvas."""

import cv2
import numpy as np

from decern_jax.data.rendering.polygon import UNIT_CIRCLE, fill_polygon

CANVAS_SIZE = 128
"""Side of the canvas in pixels: twice the picture's, so that edges come out
smooth."""

SQUARE = np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
"""Corners of a square of half side 1."""

Rng = np.random.Generator


def turn(points: np.ndarray, angle: float) -> np.ndarray:
  """Turns points [points, 2] around the origin, by radians."""
  cos, sin = np.cos(angle), np.sin(angle)
  return points @ np.array([[cos, sin], [-sin, cos]])


def random_point(rng: Rng, *, margin: float = 0.1) -> np.ndarray:
  """Draws a place on the canvas, a share of its side away from the edge."""
  return rng.uniform(margin, 1.0 - margin, 2) * CANVAS_SIZE


def random_tone(
  rng: Rng, color: tuple[float, float, float], spread: float
) -> np.ndarray:
  """Draws a color [3] that is a little lighter or darker, and a little off."""
  shift = rng.normal(0.0, spread) + rng.normal(0.0, 0.4 * spread, 3)
  return np.clip(np.array(color) + shift, 0.0, 255.0)


def random_grain(rng: Rng, num_cells: int, strength: float) -> np.ndarray:
  """Draws noise, float32 [canvas, canvas, 1], of so many cells to a side."""
  shape = (num_cells, num_cells)
  noise = rng.normal(0.0, strength, shape).astype(np.float32)
  canvas = (CANVAS_SIZE, CANVAS_SIZE)
  noise = cv2.resize(noise, canvas, interpolation=cv2.INTER_LINEAR)
  return noise[..., None]


def stripes(rng: Rng, angle: float, strength: float) -> np.ndarray:
  """Draws stripes across a direction, float32 [canvas, canvas, 1]."""
  axis = np.arange(CANVAS_SIZE, dtype=np.float32)
  along = np.cos(angle) * axis + np.sin(angle) * axis[:, None]
  phase = 2 * np.pi * along / rng.uniform(5.0, 10.0)
  return np.float32(strength) * np.sin(phase).astype(np.float32)[..., None]


def random_blob(rng: Rng, center: np.ndarray, radius: float) -> np.ndarray:
  """Draws an irregular round outline, [points, 2]."""
  size = len(UNIT_CIRCLE)
  waves = rng.normal(0.0, [[0.22], [0.14], [0.07]], (3, 2))
  turns = np.arange(size)[:, None] * 2 * np.pi / size * np.arange(1, 4)
  bumps = np.sin(turns) @ waves[:, 0] + np.cos(turns) @ waves[:, 1]
  stretch = np.array([1.0, rng.uniform(0.5, 1.0)])
  outline = UNIT_CIRCLE * np.maximum(1.0 + bumps, 0.3)[:, None] * stretch
  return center + radius * turn(outline, rng.uniform(0.0, np.pi))


def random_course(rng: Rng, bend: float) -> np.ndarray:
  """Draws a curve across the canvas, around the origin, [points, 2]."""
  along = np.linspace(-0.8, 0.8, 9)
  heights = np.clip(rng.normal(0.0, bend, 3), -1.5 * bend, 1.5 * bend)
  across = heights[0] + heights[1] * along + heights[2] * (along**2 - 0.2)
  return np.stack([along * CANVAS_SIZE, across], axis=1)


def band(course: np.ndarray, width: float, angle: float) -> np.ndarray:
  """Returns the outline of a band along a course, turned, [points, 2]."""
  half = np.array([0.0, 0.5 * width])
  outline = np.concatenate([course + half, (course - half)[::-1]])
  return 0.5 * CANVAS_SIZE + turn(outline, angle)


def inside(outline: np.ndarray, *, softness: int = 1) -> np.ndarray:
  """Returns what share of each pixel is inside, float32 [canvas, canvas].

  Args:
    outline: Corners, [points, 2].
    softness: Odd width in pixels over which the edge is blurred.
  """
  mask = np.zeros((CANVAS_SIZE, CANVAS_SIZE), np.uint8)
  fill_polygon(mask, outline, np.array([255.0]))
  if softness > 1:
    mask = cv2.GaussianBlur(mask, (softness, softness), 0.0)
  return mask.astype(np.float32) / 255.0


def paint(canvas: np.ndarray, mask: np.ndarray, tones: np.ndarray) -> None:
  """Lays tones over a canvas, in place.

  Args:
    canvas: uint8 [canvas, canvas, 3].
    mask: Float [canvas, canvas], how much of the tones shows.
    tones: [3] or [canvas, canvas, 3], in any range; cut off at 0 and 255.
  """
  share = mask[..., None]
  mixed = canvas * (1.0 - share) + np.asarray(tones, np.float32) * share
  canvas[:] = to_pixels(mixed)


def to_pixels(tones: np.ndarray) -> np.ndarray:
  """Rounds tones to uint8, cut off at 0 and 255."""
  return np.clip(np.rint(tones), 0.0, 255.0).astype(np.uint8)
