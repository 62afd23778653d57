"""Tests of `data.rendering.land_scene`."""

import numpy as np

from decern_jax.data.rendering import land_scene
from decern_jax.data.rendering.land_cover import ABOVE, BENEATH
from decern_jax.data.sources.rendered_land_cover import FREQUENCIES


def draw(covers, seed=0) -> np.ndarray:
  return land_scene.draw_land(covers, np.random.default_rng(seed)).astype(int)


class TestDrawLand:
  def test_is_a_small_rgb_image(self):
    image = land_scene.draw_land([], np.random.default_rng(0))
    assert image.shape == (land_scene.IMAGE_SIZE, land_scene.IMAGE_SIZE, 3)
    assert image.dtype == np.uint8

  def test_follows_from_the_generator(self):
    covers = ["trees", "road"]
    np.testing.assert_array_equal(draw(covers), draw(covers))
    assert not np.array_equal(draw(covers), draw(covers, seed=1))

  def test_order_of_covers_does_not_matter(self):
    first, second = draw(["road", "field"]), draw(["field", "road"])
    np.testing.assert_array_equal(first, second)

  def test_draws_what_the_data_set_has(self):
    assert {*BENEATH, *ABOVE, "water", "ship"} == set(FREQUENCIES)

  def test_ships_are_seen_on_the_water(self):
    for seed in range(40):
      bare, busy = draw(["water"], seed), draw(["water", "ship"], seed)
      assert (busy - bare).max() > 20
