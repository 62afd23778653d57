"""Tests of decern_jax/data/augmentation.py."""

import math

import numpy as np
from PIL import Image
import pytest
import scipy

from decern_jax.data.augmentation import (
  random_box,
  random_resized_crop,
  random_resized_crop_and_flip,
)
from decern_jax.data.transforms import INTERPOLATIONS
from tests.table import each

FILTERS = {
  "bilinear": Image.Resampling.BILINEAR,
  "bicubic": Image.Resampling.BICUBIC,
}
Shape = tuple[int, int]
SCALE, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)
SHAPES = [(400, 500), (500, 375), (300, 300), (20, 1000), (1000, 20), (1, 1)]


def torchvision_box(height, width, rng, scale=SCALE, ratio=RATIO):
  """RandomResizedCrop.get_params of torchvision, written out in NumPy."""
  area = height * width
  log_ratio = np.log(ratio)
  for _ in range(10):
    target_area = area * rng.uniform(scale[0], scale[1])
    aspect_ratio = np.exp(rng.uniform(log_ratio[0], log_ratio[1]))
    w = int(round(np.sqrt(target_area * aspect_ratio)))
    h = int(round(np.sqrt(target_area / aspect_ratio)))
    if 0 < w <= width and 0 < h <= height:
      i = rng.integers(0, height - h + 1)
      j = rng.integers(0, width - w + 1)
      return i, j, h, w
  in_ratio = float(width) / float(height)
  if in_ratio < min(ratio):
    w = width
    h = int(round(w / min(ratio)))
  elif in_ratio > max(ratio):
    h = height
    w = int(round(h * max(ratio)))
  else:
    w = width
    h = height
  i = (height - h) // 2
  j = (width - w) // 2
  return i, j, h, w


def sizes(box: tuple[slice, slice]) -> tuple[int, int, int, int]:
  """Top, left, height and width of a box."""
  rows, columns = box
  return (
    rows.start,
    columns.start,
    rows.stop - rows.start,
    columns.stop - columns.start,
  )


def draw(height: int, width: int, num: int, scale=SCALE, ratio=RATIO):
  """Draws many boxes: int [num, 4], top, left, height and width."""
  rng = np.random.default_rng((height, width))
  return np.array(
    [
      sizes(random_box(height, width, rng, scale=scale, ratio=ratio))
      for _ in range(num)
    ]
  )


def noise(height: int, width: int) -> np.ndarray:
  rng = np.random.default_rng([height, width])
  return rng.integers(0, 256, (height, width, 3), np.uint8)


def natural(height: int, width: int) -> np.ndarray:
  """Noise whose spectrum falls as that of photos."""
  frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
  frequency[0, 0] = np.inf
  spectrum = np.fft.rfft2(noise(height, width).astype(float), axes=(0, 1))
  image = np.fft.irfft2(
    spectrum / frequency[..., None] ** 1.4, (height, width), axes=(0, 1)
  )
  return np.clip(128 + 50 * image / image.std(), 0, 255).astype(np.uint8)


def whole(image: np.ndarray, image_size: int, **options) -> np.ndarray:
  """Resizes without cropping: the only box of this area and ratio."""
  height, width = image.shape[:2]
  return random_resized_crop(
    image,
    np.random.default_rng(0),
    image_size=image_size,
    scale=(1.0, 1.0),
    ratio=(width / height, width / height),
    **options,
  )


def mean_error(result: np.ndarray, expected: np.ndarray | Image.Image) -> float:
  return np.abs(result.astype(float) - np.asarray(expected)).mean()


class TestRandomBox:
  @each("shape", SHAPES)
  def test_matches_torchvision_on_the_same_draws(self, shape: Shape):
    ours, theirs = np.random.default_rng(1), np.random.default_rng(1)
    for _ in range(500):
      box = sizes(random_box(*shape, ours, scale=SCALE, ratio=RATIO))
      assert box == torchvision_box(*shape, theirs)

  def test_area_is_uniform_and_ratio_log_uniform_where_all_boxes_fit(self):
    _, _, height, width = draw(4000, 4000, 3000, scale=(0.08, 0.5)).T
    area = height * width / 4000**2
    log_ratio = np.log(width / height)
    limit = math.log(4 / 3)
    uniform = scipy.stats.uniform(0.08, 0.42).cdf
    assert scipy.stats.kstest(area, uniform).pvalue > 0.01
    uniform = scipy.stats.uniform(-limit, 2 * limit).cdf
    assert scipy.stats.kstest(log_ratio, uniform).pvalue > 0.01
    correlation = scipy.stats.spearmanr(area, log_ratio)
    # SciPy has no types, and makes the class of the result by a function.
    value = correlation.statistic  # pyright: ignore[reportAttributeAccessIssue]
    assert abs(value) < 0.06

  def test_place_is_uniform(self):
    top, left, height, width = draw(4000, 4000, 3000, scale=(0.08, 0.5)).T
    for start, side in ((top, height), (left, width)):
      place = start / (4000 - side)
      assert scipy.stats.kstest(place, scipy.stats.uniform.cdf).pvalue > 0.01

  @each("shape", [(400, 500), (500, 375), (300, 300)])
  def test_boxes_lie_in_the_image_and_within_bounds(self, shape: Shape):
    top, left, height, width = draw(*shape, 2000).T
    assert (top >= 0).all()
    assert (top + height <= shape[0]).all()
    assert (left >= 0).all()
    assert (left + width <= shape[1]).all()
    area = height * width / math.prod(shape)
    assert 0.075 < area.min() < 0.1
    assert 0.9 < area.max() <= 1.0
    ratio = width / height
    assert RATIO[0] - 0.01 < ratio.min() < 0.78
    assert 1.3 < ratio.max() < RATIO[1] + 0.01

  @each(
    "shape, expected",
    [
      ((30, 1000), (0, 480, 30, 40)),
      ((1000, 30), (480, 0, 40, 30)),
      ((1, 1000), (0, 499, 1, 1)),
      ((1000, 1), (499, 0, 1, 1)),
    ],
  )
  def test_falls_back_to_the_center(self, shape: Shape, expected):
    boxes = draw(*shape, 5, scale=(1.0, 1.0))
    np.testing.assert_array_equal(boxes, [expected] * 5)

  def test_falls_back_to_the_whole_image_if_its_ratio_is_in_range(self):
    # Only a ratio within 0.01% of 10 fits, and none of these draws is.
    boxes = draw(1000, 10000, 20, scale=(1.0, 1.0), ratio=(1.0, 20.0))
    np.testing.assert_array_equal(boxes, [(0, 0, 1000, 10000)] * 20)

  def test_box_is_never_empty(self):
    box = random_box(
      1, 1, np.random.default_rng(0), scale=(1.0, 1.0), ratio=(4.0, 5.0)
    )
    assert sizes(box) == (0, 0, 1, 1)

  @each("scale", [(0.0, 1.0), (0.5, 0.2), (0.5, 1.1)])
  def test_rejects_scale_out_of_range(self, scale):
    with pytest.raises(ValueError, match=r"`scale`.*got \(0\.[05]"):
      random_box(9, 9, np.random.default_rng(0), scale=scale, ratio=RATIO)

  @each("ratio", [(0.0, 1.0), (1.5, 1.2)])
  def test_rejects_ratio_out_of_range(self, ratio):
    with pytest.raises(ValueError, match=r"`ratio`.*got \([01]\.[05]"):
      random_box(9, 9, np.random.default_rng(0), scale=SCALE, ratio=ratio)


class TestRandomResizedCrop:
  @each("interpolation", INTERPOLATIONS)
  @each(
    "shape",
    [(1, 1), (1, 1000), (1000, 1), (2, 3), (24, 24), (60, 60), (9, 200)],
  )
  @each("image_size", [1, 24])
  def test_any_image_becomes_a_square(self, shape, image_size, interpolation):
    image = noise(*shape)
    for seed in range(20):
      result = random_resized_crop(
        image,
        np.random.default_rng(seed),
        image_size=image_size,
        interpolation=interpolation,
      )
      assert result.shape == (image_size, image_size, 3)
      assert result.dtype == np.uint8
      assert not np.shares_memory(result, image)

  @each("side", [1, 10, 24, 30, 53, 54, 100])
  @each("interpolation", INTERPOLATIONS)
  def test_constant_image_stays_constant(self, side, interpolation):
    image = np.full((side, side, 3), (255, 130, 0), np.uint8)
    result = whole(image, 24, interpolation=interpolation)
    np.testing.assert_array_equal(result, np.full_like(result, (255, 130, 0)))

  def test_same_size_keeps_the_pixels(self):
    image = noise(24, 24)
    result = whole(image, 24)
    np.testing.assert_array_equal(result, image)
    assert not np.shares_memory(result, image)

  def test_cuts_the_box_that_is_drawn(self):
    image = noise(40, 50)
    result = random_resized_crop(image, np.random.default_rng(5), image_size=64)
    top, left, height, width = torchvision_box(40, 50, np.random.default_rng(5))
    box = image[top : top + height, left : left + width]
    expected = Image.fromarray(box).resize((64, 64), Image.Resampling.BILINEAR)
    assert mean_error(result, expected) < 0.5

  @each("shape", [(20, 20), (63, 17), (64, 63), (1, 5)])
  def test_enlarging_bilinearly_matches_pillow(self, shape):
    image = noise(*shape)
    expected = Image.fromarray(image).resize(
      (64, 64), Image.Resampling.BILINEAR
    )
    difference = whole(image, 64).astype(int) - np.asarray(expected)
    assert np.abs(difference).max() <= 1

  # Measured, of 255 levels: 0.2 to 1.2 up to sqrt(5) times smaller, 1.2 to 1.8
  # beyond. Interpolation alone is as far away as 4 and more.
  @each("interpolation", INTERPOLATIONS)
  @each(
    "shape", [(64, 80), (96, 96), (128, 128), (140, 32), (144, 192), (384, 320)]
  )
  def test_shrinking_is_close_to_pillow(self, shape, interpolation):
    image = natural(*shape)
    result = whole(image, 64, interpolation=interpolation)
    expected = Image.fromarray(image).resize((64, 64), FILTERS[interpolation])
    assert mean_error(result, expected) < 2.0

  @each("side", [100, 128, 143, 144, 300])
  def test_shrinking_takes_noise_away_as_pillow_does(self, side):
    image = noise(side, side)
    expected = np.asarray(
      Image.fromarray(image).resize((64, 64), Image.Resampling.BILINEAR)
    )
    ratio = whole(image, 64).std() / expected.std()
    assert 0.8 < ratio < 1.5

  def test_shrinking_does_not_move_the_image(self):
    image = natural(150, 100)
    both = (whole(image, 64), whole(image[:, ::-1].copy(), 64)[:, ::-1])
    assert mean_error(*both) < 0.6

  def test_same_seed_gives_the_same_crop(self):
    image = noise(40, 50)
    one, same, other = (
      random_resized_crop(image, np.random.default_rng(seed), image_size=24)
      for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(one, same)
    assert mean_error(one, other) > 1

  def test_leaves_the_image_alone(self):
    image = noise(40, 50)
    before = image.copy()
    random_resized_crop(image, np.random.default_rng(0), image_size=24)
    np.testing.assert_array_equal(image, before)

  def test_rejects_unknown_interpolation(self):
    with pytest.raises(ValueError, match="'nearest'.*'bicubic', 'bilinear'"):
      whole(noise(3, 3), 2, interpolation="nearest")

  def test_rejects_size_below_one(self):
    with pytest.raises(ValueError, match="`image_size` >= 1, got 0"):
      whole(noise(3, 3), 0)


class TestRandomResizedCropAndFlip:
  def test_is_the_crop_or_its_mirror_image_half_of_the_time(self):
    image = noise(40, 50)
    num_flipped = 0
    for seed in range(400):
      ours, plain = (
        function(image, np.random.default_rng(seed), image_size=24)
        for function in (random_resized_crop_and_flip, random_resized_crop)
      )
      is_flipped = (ours != plain).any()
      expected = plain[:, ::-1] if is_flipped else plain
      np.testing.assert_array_equal(ours, expected)
      num_flipped += is_flipped
    assert 160 < num_flipped < 240  # 200 +- 4 standard deviations

  def test_interpolation_is_passed_on(self):
    image = noise(10, 10)
    bilinear, bicubic = (
      random_resized_crop_and_flip(
        image,
        np.random.default_rng(0),
        image_size=24,
        interpolation=interpolation,
      )
      for interpolation in INTERPOLATIONS
    )
    assert mean_error(bilinear, bicubic) > 1

  def test_same_seed_gives_the_same_image(self):
    image = noise(40, 50)
    one, same = (
      random_resized_crop_and_flip(
        image, np.random.default_rng((0, 7)), image_size=24
      )
      for _ in range(2)
    )
    np.testing.assert_array_equal(one, same)
