"""Draws a butterfly in a garden: background, pose, occlusion, camera."""

import colorsys

import cv2
import numpy as np

from decern_jax.data.rendering.butterfly import Kind, draw_butterfly
from decern_jax.data.rendering.polygon import UNIT_CIRCLE, Pose, fill_polygon

IMAGE_SIZE = 96

# Drawn at twice the size and averaged, for smooth edges.
_CANVAS_SIZE = 2 * IMAGE_SIZE

# Position along a side of the picture.
_AXIS = np.linspace(-1.0, 1.0, IMAGE_SIZE, dtype=np.float32)

_LEAF = np.array(
  [
    [0.0, 0.0],
    [0.2, 0.16],
    [0.45, 0.22],
    [0.75, 0.14],
    [1.0, 0.0],
    [0.75, -0.14],
    [0.45, -0.22],
    [0.2, -0.16],
  ]
)
_MIDRIB = np.array([[0.0, 0.02], [0.95, 0.0], [0.0, -0.02]])

# Ground tones, and the tones of petals, which repeat those of the wing tips.
_GROUND_HUES = (0.09, 0.2, 0.28, 0.36, 0.55)
_PETALS = (
  (250.0, 248.0, 244.0),
  (244.0, 116.0, 20.0),
  (40.0, 104.0, 232.0),
  (38.0, 28.0, 30.0),
  (226.0, 90.0, 150.0),
  (244.0, 210.0, 60.0),
)


def _random_tone(rng: np.random.Generator) -> np.ndarray:
  hue = _GROUND_HUES[rng.integers(len(_GROUND_HUES))] + rng.normal(0.0, 0.02)
  saturation, value = rng.uniform(0.15, 0.5), rng.uniform(0.25, 0.75)
  return 255.0 * np.array(colorsys.hsv_to_rgb(hue % 1.0, saturation, value))


def _turn(points: np.ndarray, angle: float) -> np.ndarray:
  cos, sin = np.cos(angle), np.sin(angle)
  return points @ np.array([[cos, sin], [-sin, cos]])


def _stretch(image: np.ndarray, size: int) -> np.ndarray:
  return cv2.resize(image, (size, size), interpolation=cv2.INTER_LINEAR)


def _ground(rng: np.random.Generator) -> np.ndarray:
  """Returns a ground of two tones with coarse and fine texture."""
  mix = rng.random((5, 5, 1), np.float32)
  tones = mix * _random_tone(rng) + (1.0 - mix) * _random_tone(rng)
  ground = _stretch(np.clip(tones, 0.0, 255.0).astype(np.uint8), IMAGE_SIZE)
  grain = rng.normal(0.0, rng.uniform(2.0, 14.0), (24, 24))
  grain = _stretch(grain.astype(np.float32), IMAGE_SIZE)
  ground = cv2.add(ground, cv2.merge([grain] * 3), dtype=cv2.CV_8U)
  return _stretch(ground, _CANVAS_SIZE)


def _draw_leaf(
  canvas: np.ndarray, root: np.ndarray, length: float, rng: np.random.Generator
) -> None:
  """Draws a leaf that starts at a point and grows in a random direction."""
  tone, angle = _random_tone(rng), rng.uniform(0.0, 2 * np.pi)
  shape = np.array([length, length * rng.uniform(0.5, 1.4)])
  fill_polygon(canvas, root + _turn(_LEAF * shape, angle), tone)
  fill_polygon(canvas, root + _turn(_MIDRIB * shape, angle), 0.75 * tone)


def _draw_flower(
  canvas: np.ndarray, center: np.ndarray, rng: np.random.Generator
) -> None:
  """Draws a dot, sometimes with a heart of another color."""
  radius = rng.uniform(3.0, 15.0)
  for share in (1.0, 0.5)[: rng.integers(1, 3)]:
    color = np.array(_PETALS[rng.integers(len(_PETALS))])
    axes = share * radius * rng.uniform(0.7, 1.0, 2)
    fill_polygon(canvas, center + axes * UNIT_CIRCLE, color)


def _background(rng: np.random.Generator) -> np.ndarray:
  canvas = _ground(rng)
  for _ in range(rng.integers(3, 9)):
    root = rng.uniform(-0.1, 1.1, 2) * _CANVAS_SIZE
    _draw_leaf(canvas, root, rng.uniform(40.0, 110.0), rng)
  for _ in range(rng.integers(2, 9)):
    _draw_flower(canvas, rng.uniform(0.0, 1.0, 2) * _CANVAS_SIZE, rng)
  blur = 2 * int(rng.integers(1, 6)) + 1
  return cv2.GaussianBlur(canvas, (blur, blur), 0.0)


def _random_pose(rng: np.random.Generator) -> Pose:
  middle = 0.5 * _CANVAS_SIZE
  spread = rng.uniform(0.72, 1.0)
  return Pose(
    center=middle + rng.uniform(-12.0, 12.0, 2),
    scale=rng.uniform(64.0, 82.0),
    angle=rng.uniform(-np.pi, np.pi),
    spread=spread * rng.uniform(0.88, 1.0, 2),
    tilt=rng.uniform(-0.12, 0.12, 2),
  )


def _occlude(canvas: np.ndarray, pose: Pose, rng: np.random.Generator) -> None:
  """Draws a leaf over one side; the other side still shows every part."""
  side = int(rng.choice([-1, 1]))
  spot = rng.uniform([0.55, -0.8], [1.0, 0.7])
  root = pose.place(spot[None], side)[0]
  _draw_leaf(canvas, root, rng.uniform(25.0, 55.0), rng)


def _photograph(canvas: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  """Adds tinted light from one side, a little blur, and noise."""
  if rng.random() < 0.5:
    canvas = cv2.GaussianBlur(canvas, (5, 5), rng.uniform(0.5, 1.8))
  image = cv2.resize(
    canvas, (IMAGE_SIZE, IMAGE_SIZE), interpolation=cv2.INTER_AREA
  )
  slope = rng.uniform(-0.18, 0.18, 2).astype(np.float32)
  light = slope[0] * _AXIS[:, None] + slope[1] * _AXIS
  light += np.float32(rng.uniform(0.78, 1.12))
  tint = rng.uniform(0.94, 1.06, 3).astype(np.float32)
  light = light[..., None] * tint
  image = cv2.multiply(image, light, dtype=cv2.CV_32F)
  noise = rng.standard_normal(light.shape[:2], np.float32)
  noise *= np.float32(rng.uniform(1.0, 8.0))
  return cv2.add(image, cv2.merge([noise] * 3), dtype=cv2.CV_8U)


def draw_scene(kind: Kind, rng: np.random.Generator) -> np.ndarray:
  """Draws a photo-like picture of one butterfly.

  Args:
    kind: The parts that make the butterfly's class.
    rng: Source of everything else: animal, pose, background and light.

  Returns:
    uint8 [IMAGE_SIZE, IMAGE_SIZE, 3], RGB.
  """
  canvas = _background(rng)
  pose = _random_pose(rng)
  draw_butterfly(canvas, kind, pose, rng)
  if rng.random() < 0.4:
    _occlude(canvas, pose, rng)
  return _photograph(canvas, rng)
