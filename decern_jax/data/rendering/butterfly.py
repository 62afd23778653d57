"""Draws a butterfly whose class shows in four small parts of its wings."""

import colorsys
from typing import NamedTuple

import cv2
import numpy as np

from decern_jax.data.rendering.polygon import UNIT_CIRCLE, Pose, fill_polygon
from decern_jax.data.rendering.wing import GRID, Wing

_DARK = np.array([38.0, 28.0, 30.0])
_PALE = np.array([244.0, 232.0, 196.0])
_TIP_COLORS = {
  "dark-tip": _DARK,
  "white-tip": np.array([250.0, 248.0, 244.0]),
  "orange-tip": np.array([244.0, 116.0, 20.0]),
  "blue-tip": np.array([40.0, 104.0, 232.0]),
}
_NUM_BARS = {"no-bar": 0, "one-bar": 1, "two-bars": 2, "three-bars": 3}

# The values of each part; a kind has one of each.
PARTS = {
  "bars": tuple(_NUM_BARS),
  "eye": ("no-eye", "spot", "ring", "twin-spots"),
  "tip": tuple(_TIP_COLORS),
  "hem": ("plain-hem", "pale-hem", "tailed"),
}

# Polygons and their colors, in the order of painting.
_Layers = list[tuple[np.ndarray, np.ndarray]]


class Kind(NamedTuple):
  """The differences between the classes of butterflies.

  Attributes:
    bars: Dark bars across each forewing, one of `PARTS["bars"]`.
    eye: Marking on each hindwing, one of `PARTS["eye"]`.
    tip: Tint of the forewing's apex, one of `PARTS["tip"]`.
    hem: Outer edge of the hindwing, one of `PARTS["hem"]`.
  """

  bars: str
  eye: str
  tip: str
  hem: str


def _plain_outlines(wing: Wing) -> list[np.ndarray]:
  """Returns margin, ground, flush near the base, and four veins of a wing."""
  veins = [
    wing.region(0.15, 0.955, s - 0.008, s + 0.008) for s in (0.2, 0.4, 0.6, 0.8)
  ]
  return [
    wing.region(0.0, 1.0, 0.0, 1.0),
    wing.region(0.0, 0.955, 0.03, 0.96),
    wing.region(0.0, 0.3, 0.1, 0.9),
    *veins,
  ]


_FOREWING = Wing(
  np.array([[0.03, -0.16], [0.42, -0.66], [0.98, -0.74]]),
  np.array([[0.03, 0.03], [0.40, 0.02], [0.86, 0.08]]),
  bulge=0.03,
)
_HINDWING = Wing(
  np.array([[0.02, -0.06], [0.45, -0.10], [0.80, 0.10]]),
  np.array([[0.02, 0.16], [0.06, 0.48], [0.26, 0.72]]),
  bulge=0.20,
)
_PLAIN_FOREWING = _plain_outlines(_FOREWING)
_PLAIN_HINDWING = _plain_outlines(_HINDWING)


class _Look(NamedTuple):
  """The differences between butterflies of one kind."""

  base: np.ndarray
  flush: tuple[np.ndarray, np.ndarray]  # near the base of fore- and hindwing
  vein: np.ndarray
  margin: np.ndarray
  size: float  # of the markings, 1 on average
  shift: np.ndarray  # of the markings' places, [3], 0 on average
  speckles: np.ndarray  # t, s and radius of small dots on a wing, [dots, 3]


def _tone(hue: float, saturation: float, value: float) -> np.ndarray:
  return 255.0 * np.array(colorsys.hsv_to_rgb(hue % 1.0, saturation, value))


def _random_look(rng: np.random.Generator) -> _Look:
  # Hues near the orange and the blue tip, and very light or dark wings, are
  # left out, so that a tip stands out from every wing.
  hue = rng.choice([rng.uniform(0.14, 0.46), rng.uniform(0.76, 0.95)])
  base = _tone(hue, rng.uniform(0.2, 0.5), rng.uniform(0.55, 0.82))
  return _Look(
    base=base,
    flush=(_random_flush(base, rng), _random_flush(base, rng)),
    vein=base * rng.uniform(0.7, 0.85),
    margin=base * rng.uniform(0.35, 0.55),
    size=rng.uniform(0.8, 1.2),
    shift=rng.uniform(-1.0, 1.0, 3),
    speckles=rng.uniform(
      [0.2, 0.15, 0.015], [0.9, 0.85, 0.03], (rng.integers(0, 6), 3)
    ),
  )


def _random_flush(base: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  """Draws a tone of the wing's base, often a tint that tips may have."""
  tints = list(_TIP_COLORS.values())
  tint = tints[rng.integers(len(tints))]
  return base + rng.choice([0.15, 0.75]) * (tint - base)


def _plain_wing(
  outlines: list[np.ndarray], flush_color: np.ndarray, look: _Look
) -> _Layers:
  margin, ground, flush, *veins = outlines
  return [
    (margin, look.margin),
    (ground, look.base),
    (flush, flush_color),
    *((vein, look.vein) for vein in veins),
  ]


def _speckles(wing: Wing, look: _Look) -> _Layers:
  t, s, radii = look.speckles.T
  return [
    (center + radius * UNIT_CIRCLE, _DARK)
    for center, radius in zip(wing.at(t, s), radii, strict=True)
  ]


def _bars(kind: Kind, look: _Look) -> _Layers:
  num_bars = _NUM_BARS[kind.bars]
  width = 0.034 * look.size
  start = 0.48 - 0.07 * (num_bars - 1) + 0.05 * look.shift[0]
  bow = 0.04 * (GRID - 0.5)
  layers = []
  for t in start + 0.14 * np.arange(num_bars):
    layers.append(
      (_FOREWING.region(t - width + bow, t + width + bow, 0.05, 0.93), _DARK)
    )
  return layers


def _forewing(kind: Kind, look: _Look) -> _Layers:
  start = 0.73 + 0.04 * look.shift[1]
  inner = start + (0.985 - start) * GRID**2
  tip = _FOREWING.region(inner, 0.985, 0.0, 0.9)
  return [
    *_plain_wing(_PLAIN_FOREWING, look.flush[0], look),
    *_speckles(_FOREWING, look),
    *_bars(kind, look),
    (tip, _TIP_COLORS[kind.tip]),
  ]


def _eye(kind: Kind, look: _Look) -> _Layers:
  t = 0.6 + 0.06 * look.shift[2]
  front, middle, back = _HINDWING.at(np.full(3, t), np.array([0.27, 0.5, 0.73]))
  disc = 0.125 * look.size * UNIT_CIRCLE
  if kind.eye == "spot":
    return [(middle + disc, _DARK)]
  if kind.eye == "ring":
    return [(middle + 1.15 * disc, _DARK), (middle + 0.65 * disc, _PALE)]
  if kind.eye == "twin-spots":
    return [(front + 0.68 * disc, _DARK), (back + 0.68 * disc, _DARK)]
  return []


def _tail(look: _Look) -> np.ndarray:
  front, back = _HINDWING.at(np.full(2, 0.96), np.array([0.64, 0.9]))
  end = 0.5 * (front + back) + look.size * np.array([0.12, 0.28])
  drop = end + UNIT_CIRCLE[:11] @ np.array([[0.05, -0.02], [0.02, 0.05]])
  return np.concatenate([front[None], drop, back[None]])


def _hindwing(kind: Kind, look: _Look) -> _Layers:
  layers = _plain_wing(_PLAIN_HINDWING, look.flush[1], look)
  layers += _speckles(_HINDWING, look)
  if kind.hem == "tailed":
    layers = [(_tail(look), _DARK), *layers]
  if kind.hem == "pale-hem":
    inner = 0.83 - 0.03 * look.size
    layers.append((_HINDWING.region(inner, 0.95, 0.05, 0.95), _PALE))
  return layers + _eye(kind, look)


def _body(look: _Look) -> _Layers:
  shade = 0.35 * look.base + 0.65 * _DARK
  abdomen = np.array([0.0, 0.2]) + UNIT_CIRCLE * np.array([0.055, 0.26])
  thorax = np.array([0.0, -0.08]) + UNIT_CIRCLE * np.array([0.075, 0.14])
  head = np.array([0.0, -0.25]) + 0.055 * UNIT_CIRCLE
  return [(abdomen, shade), (thorax, 0.8 * shade), (head, 0.6 * shade)]


_ANTENNA = np.array(
  [
    [0.02, -0.27],
    [0.09, -0.42],
    [0.18, -0.55],
    [0.21, -0.57],
    [0.19, -0.54],
    [0.10, -0.41],
    [0.04, -0.27],
  ]
)


def _paint(canvas: np.ndarray, layers: _Layers, pose: Pose, side: int) -> None:
  # One transform for all layers: NumPy's cost is by the call at this size.
  points = pose.place(np.concatenate([outline for outline, _ in layers]), side)
  ends = np.cumsum([len(outline) for outline, _ in layers])[:-1]
  for outline, (_, color) in zip(np.split(points, ends), layers, strict=True):
    fill_polygon(canvas, outline, color)


def _cast_shadow(canvas: np.ndarray, pose: Pose) -> None:
  light = np.full(canvas.shape[:2], 255, np.uint8)
  lower = pose._replace(center=pose.center + 0.12 * pose.scale)
  shade = np.array([145.0])
  layers = [(_PLAIN_HINDWING[0], shade), (_PLAIN_FOREWING[0], shade)]
  for side in (-1, 1):
    _paint(light, layers, lower, side)
  light = cv2.blur(light, (9, 9))
  cv2.multiply(canvas, cv2.merge([light] * 3), canvas, 1 / 255)


def draw_butterfly(
  canvas: np.ndarray, kind: Kind, pose: Pose, rng: np.random.Generator
) -> None:
  """Draws a butterfly and its shadow over an image, in place.

  All kinds share one body plan.  Wing color and the exact place and size of
  the markings vary from one animal to the next, equally on both sides.

  Args:
    canvas: uint8 image [height, width, 3], RGB.
    kind: The parts to draw.
    pose: Where, how large and how turned.
    rng: Source of the differences between butterflies of one kind.
  """
  look = _random_look(rng)
  _cast_shadow(canvas, pose)
  wings = _hindwing(kind, look) + _forewing(kind, look) + [(_ANTENNA, _DARK)]
  for side in (-1, 1):
    _paint(canvas, wings, pose, side)
  _paint(canvas, _body(look), pose, 1)
