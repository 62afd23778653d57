"""Places polygons in a picture, and fills them."""

from typing import NamedTuple

import cv2
import numpy as np

# Polygons take fixed-point coordinates: 4 fractional bits place their edges at
# a sixteenth of a pixel.
_FRACTION_BITS = 4

_TURNS = np.linspace(0.0, 2 * np.pi, 20, endpoint=False)
UNIT_CIRCLE = np.stack([np.cos(_TURNS), np.sin(_TURNS)], axis=1)


class Pose(NamedTuple):
  """Position, size and orientation of a butterfly in the picture.

  Attributes:
    center: Position of the thorax in pixels [2], x first.
    scale: Length in pixels of one body unit; a wing is about one unit long.
    angle: Rotation of the body in radians.
    spread: Foreshortening of the left and the right wings [2]; 1 lies flat.
    tilt: Strength of the perspective along x and y [2]; 0 is seen from above.
  """

  center: np.ndarray
  scale: float
  angle: float
  spread: np.ndarray
  tilt: np.ndarray

  def place(self, points: np.ndarray, side: int) -> np.ndarray:
    """Maps points of the right (`side=1`) or left (-1) half to pixels."""
    width = side * self.spread[(side + 1) // 2]
    cos, sin = np.cos(self.angle), np.sin(self.angle)
    points = points * np.array([width, 1.0])
    points = points @ np.array([[cos, sin], [-sin, cos]])
    depth = 1.0 + points @ self.tilt
    return self.center + self.scale * points / depth[:, None]


def fill_polygon(
  canvas: np.ndarray, points: np.ndarray, color: np.ndarray
) -> None:
  """Fills a polygon, with smooth edges, in place.

  Args:
    canvas: uint8 image [height, width] or [height, width, 3].
    points: Corners in pixels [points, 2], x first; fractions count.
    color: The value of each channel, in [0, 255].
  """
  corners = np.rint(points * 2**_FRACTION_BITS).astype(np.int32)
  cv2.fillPoly(canvas, [corners], color.tolist(), cv2.LINE_AA, _FRACTION_BITS)
