"""Tests of decern_jax/pretraining/views.py."""

import colorsys
from dataclasses import replace

import numpy as np

from decern_jax.pretraining import views
from decern_jax.pretraining.views import Views, make_views
from tests.table import each

PLAIN = Views(
  image_size=40,
  interpolation="bilinear",
  min_area=1.0,
  horizontal_flip=0.0,
  vertical_flip=0.0,
  jitter_chance=0.0,
  jitter_strength=1.0,
  grayscale=0.0,
  blur=0.0,
)
ALL = replace(
  PLAIN,
  image_size=32,
  min_area=0.2,
  horizontal_flip=0.5,
  vertical_flip=0.5,
  jitter_chance=0.8,
  grayscale=0.2,
  blur=0.5,
)


def draw(*shape, seed=0) -> np.ndarray:
  rng = np.random.default_rng(seed)
  return rng.integers(0, 256, shape or (40, 40, 3)).astype(np.uint8)


def make(image, seed=0, **changes) -> np.ndarray:
  rng = np.random.default_rng(seed)
  return make_views(image, rng, views=replace(PLAIN, **changes))


class TestMakeViews:
  @each("channels", [1, 2, 3, 4, 12])
  @each("sides", [(20, 30), (70, 50), (32, 32)])
  def test_has_two_squares_of_the_bands(self, channels, sides):
    image = draw(*sides, channels)
    found = make_views(image, np.random.default_rng(0), views=ALL)
    assert found.shape == (2, 32, 32, channels)
    assert found.dtype == np.uint8
    assert (found[0] != found[1]).any()

  def test_nothing_random_leaves_the_image(self):
    image = draw()
    for view in make(image):
      np.testing.assert_array_equal(view, image)

  def test_follows_from_the_seed(self):
    image = draw()
    first, again, other = (
      make_views(image, np.random.default_rng(seed), views=ALL)
      for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()

  @each("channels", [3, 12])
  def test_flips(self, channels):
    image = draw(40, 40, channels)
    mirrored = make(image, horizontal_flip=1.0)[0]
    np.testing.assert_array_equal(mirrored, image[:, ::-1])
    turned = make(image, vertical_flip=1.0)[0]
    np.testing.assert_array_equal(turned, image[::-1])

  def test_crops_have_at_least_the_area(self):
    """A ramp tells how much of it a view has."""
    ramp = np.repeat(np.arange(0, 240, 6, dtype=np.uint8)[None, :, None], 40, 0)
    image = np.concatenate([ramp, ramp.transpose(1, 0, 2), ramp], axis=-1)
    for seed in range(50):
      for view in make(image, seed, min_area=0.5).astype(int):
        spans = [np.ptp(view[..., band]) / 234 for band in (0, 1)]
        assert np.prod(spans) > 0.4

  def test_gray_has_equal_bands_of_the_luma(self):
    image = draw()
    view = make(image, grayscale=1.0)[0]
    luma = image @ np.array([0.299, 0.587, 0.114])
    for band in range(3):
      np.testing.assert_allclose(view[..., band], luma, atol=0.6)

  @each("channels", [1, 2, 12])
  def test_other_bands_are_never_gray(self, channels):
    image = draw(40, 40, channels)
    for view in make(image, grayscale=1.0):
      np.testing.assert_array_equal(view, image)

  def test_blur_keeps_the_mean_and_smooths(self):
    image = draw(100, 100, 3)
    view = make(image, seed=3, blur=1.0, image_size=100)[0]
    assert abs(view.mean() - image.mean()) < 1
    assert view.std() < image.std()

  @each("channels", [3, 12])
  def test_jitter_has_the_chance_that_is_set(self, channels):
    image = draw(40, 40, channels)
    changed = [
      (view != image).any()
      for seed in range(100)
      for view in make(image, seed, jitter_chance=0.7)
    ]
    assert 0.6 < np.mean(changed) < 0.8

  def test_jitter_of_bands_keeps_their_correlation(self):
    """One scale for all, around the mean of each."""
    image = (draw(40, 40, 5) // 4 + 90).astype(np.uint8)
    view = make(image, jitter_chance=1.0, jitter_strength=0.3)[0]
    flat, original = (
      array.reshape(-1, 5).astype(float) for array in (view, image)
    )
    slopes = [np.polyfit(original[:, i], flat[:, i], 1)[0] for i in range(5)]
    np.testing.assert_allclose(slopes, slopes[0], rtol=0.02)


class TestMapColors:
  """Of the linear map, one change at a time."""

  def map(
    self, image, *, brightness=1.0, contrast=1.0, saturation=1.0, turn=0.0
  ):
    return views._map_colors(
      image, brightness, contrast, saturation, turn, is_gray=False
    )

  def test_no_change_is_the_identity(self):
    image = draw()
    np.testing.assert_array_equal(self.map(image), image)

  def test_brightness_scales(self):
    image = draw()
    found = self.map(image, brightness=0.5)
    np.testing.assert_allclose(found, image * 0.5, atol=0.51)

  def test_contrast_scales_around_the_mean_gray(self):
    image = draw()
    mean = (image @ np.array([0.299, 0.587, 0.114])).mean()
    found = self.map(image, contrast=0.5)
    np.testing.assert_allclose(found, mean + (image - mean) * 0.5, atol=0.51)

  def test_no_saturation_is_gray(self):
    found = self.map(draw(), saturation=0.0)
    assert np.ptp(found, axis=-1).max() == 0

  @each("turn", [-0.1, 0.05, 0.2])
  def test_hue_turns_and_luma_stays(self, turn):
    rng = np.random.default_rng(0)
    image = rng.integers(100, 150, (30, 30, 3)).astype(np.uint8)
    found = self.map(image, turn=turn)
    weights = np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(found @ weights, image @ weights, atol=1.0)
    before, after = (
      np.array([colorsys.rgb_to_hsv(*p)[0] for p in a.reshape(-1, 3) / 255.0])
      for a in (image, found)
    )
    turned = (after - before + 0.5) % 1.0 - 0.5
    # YIQ turns the other way round, and hues are angles of another shape.
    assert abs(abs(np.median(turned)) - abs(turn)) < 0.05
    assert (np.median(turned) < 0) == (turn > 0) or turn == 0
