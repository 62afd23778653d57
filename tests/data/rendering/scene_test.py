"""Tests of `data.rendering.scene`."""

import itertools

import numpy as np

from decern_jax.data.rendering import scene
from decern_jax.data.rendering.butterfly import PARTS, Kind
from tests.table import each

KIND = Kind("two-bars", "spot", "orange-tip", "plain-hem")
KINDS = [Kind(*values) for values in itertools.product(*PARTS.values())]
TWINS = [
  KIND._replace(**{part: value})
  for part, values in PARTS.items()
  for value in values
  if value != getattr(KIND, part)
]


def draw(kind, seed=0):
  return scene.draw_scene(kind, np.random.default_rng(seed)).astype(int)


class TestDrawScene:
  def test_is_a_small_rgb_image(self):
    image = scene.draw_scene(KIND, np.random.default_rng(0))
    assert image.shape == (scene.IMAGE_SIZE, scene.IMAGE_SIZE, 3)
    assert image.dtype == np.uint8

  def test_follows_from_the_generator(self):
    np.testing.assert_array_equal(draw(KIND), draw(KIND))
    assert not np.array_equal(draw(KIND), draw(KIND, seed=1))

  def test_all_kinds_look_different(self):
    images = {draw(kind).tobytes() for kind in KINDS}
    assert len(images) == len(KINDS)

  @each("twin", TWINS)
  def test_part_changes_a_small_region_clearly(self, twin):
    for seed in range(5):
      change = np.abs(draw(twin, seed) - draw(KIND, seed)).max(axis=2)
      assert (change > 20).sum() >= 15
      assert (change > 0).mean() < 0.12
