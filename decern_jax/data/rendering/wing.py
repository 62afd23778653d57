"""A wing as a curved surface that markings are laid out on."""

from typing import NamedTuple

import numpy as np

# Steps along each side of an outline.
GRID = np.linspace(0.0, 1.0, 12)


class Wing(NamedTuple):
  """A wing as a surface over t (base 0, margin 1) and s (front 0, back 1).

  Lengths are in body units, with y pointing from head to tail.

  Attributes:
    front: Control points of the quadratic front edge [3, 2].
    back: Control points of the quadratic back edge [3, 2].
    bulge: How far the margin swings out between the edges.
  """

  front: np.ndarray
  back: np.ndarray
  bulge: float

  def at(self, t: np.ndarray, s: np.ndarray) -> np.ndarray:
    """Returns points of the surface, [points, 2]."""
    basis = np.stack([(1 - t) ** 2, 2 * t * (1 - t), t**2], axis=1)
    chord = self.back[2] - self.front[2]
    outward = np.array([chord[1], -chord[0]]) / np.hypot(*chord)
    swing = (self.bulge * 4 * s * (1 - s) * t**2)[:, None] * outward
    s = s[:, None]
    return (1 - s) * (basis @ self.front) + s * (basis @ self.back) + swing

  def region(
    self, t0: np.ndarray | float, t1: np.ndarray | float, s0: float, s1: float
  ) -> np.ndarray:
    """Outline of the surface between two values, or curves over s, of t."""
    s = s0 + (s1 - s0) * GRID
    t0, t1 = t0 + 0.0 * s, t1 + 0.0 * s
    down = t1[-1] + (t0[-1] - t1[-1]) * GRID
    up = t0[0] + (t1[0] - t0[0]) * GRID
    t = np.concatenate([t1, down, t0[::-1], up])
    edge = np.ones_like(s)
    s = np.concatenate([s, s1 * edge, s[::-1], s0 * edge])
    return self.at(t, s)
