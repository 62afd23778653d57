"""Tests of decern_jax/data/transforms.py."""

import functools

import numpy as np
from PIL import Image
import pytest

from decern_jax.data.decoding import decode_image
from decern_jax.data.transforms import INTERPOLATIONS, resize_and_center_crop
from tests.table import each

FILTERS = {
  "bilinear": Image.Resampling.BILINEAR,
  "bicubic": Image.Resampling.BICUBIC,
}
each_interpolation = pytest.mark.parametrize("interpolation", INTERPOLATIONS)


def torchvision_steps(
  image: np.ndarray, resize_size: int, image_size: int, interpolation: str
) -> np.ndarray:
  """Resize and CenterCrop of torchvision on a Pillow image, written out."""
  picture = Image.fromarray(image)
  width, height = picture.size
  if width <= height:
    size = resize_size, int(resize_size * height / width)
  else:
    size = int(resize_size * width / height), resize_size
  picture = picture.resize(size, FILTERS[interpolation])
  left = int(round((size[0] - image_size) / 2.0))
  top = int(round((size[1] - image_size) / 2.0))
  box = left, top, left + image_size, top + image_size
  return np.asarray(picture.crop(box))


def noise(height: int, width: int) -> np.ndarray:
  rng = np.random.default_rng([height, width])
  return rng.integers(0, 256, (height, width, 3), np.uint8)


def picture(height: int, width: int) -> np.ndarray:
  """An image with edges but without jumps between neighbors."""
  small = Image.fromarray(noise(-(-height // 4), -(-width // 4)))
  return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))


# Bicubic overshoots, and noise would leave [0, 255] at every other pixel.
IMAGES = {"bilinear": noise, "bicubic": picture}
MAX_ERROR = {"bilinear": 1, "bicubic": 4}


class TestResizeAndCenterCrop:
  @each_interpolation
  @each(
    "shape",
    [(256, 256), (257, 256), (300, 401), (401, 300), (640, 480), (1000, 257)],
  )
  def test_shrinking_matches_torchvision(self, shape, interpolation):
    image = IMAGES[interpolation](*shape)
    result = resize_and_center_crop(
      image, resize_size=256, image_size=224, interpolation=interpolation
    )
    expected = torchvision_steps(image, 256, 224, interpolation)
    error = np.abs(result.astype(int) - expected)
    assert error.max() <= MAX_ERROR[interpolation]
    assert error.mean() < 0.6

  @each_interpolation
  @each(
    "shape", [(48, 48), (128, 171), (171, 128), (160, 100), (20, 200), (1, 1)]
  )
  def test_enlarging_matches_torchvision(self, shape, interpolation):
    image = IMAGES[interpolation](*shape)
    result = resize_and_center_crop(
      image, resize_size=160, image_size=150, interpolation=interpolation
    )
    expected = torchvision_steps(image, 160, 150, interpolation)
    error = np.abs(result.astype(int) - expected)
    assert error.max() <= MAX_ERROR[interpolation]
    assert error.mean() < 0.6

  def test_shared_photos_match_torchvision(self, shared_dir):
    photos = sorted((shared_dir / "data/grocery_store/val").glob("*/*.jpg"))
    for photo in photos[::20]:
      image = decode_image(photo.read_bytes())
      for size in (96, 160):
        result = resize_and_center_crop(
          image, resize_size=size, image_size=size
        )
        expected = torchvision_steps(image, size, size, "bilinear")
        assert np.abs(result.astype(int) - expected).mean() < 0.4

  @each_interpolation
  def test_image_of_the_right_size_is_returned(self, interpolation):
    image = noise(64, 64)
    result = resize_and_center_crop(
      image, resize_size=64, image_size=64, interpolation=interpolation
    )
    np.testing.assert_array_equal(result, image)

  @each("transpose", [False, True])
  def test_crop_is_centered(self, transpose):
    image = np.zeros((40, 90, 3), np.uint8)
    image[5:35, 30:60] = 255
    image = image.swapaxes(0, 1) if transpose else image
    result = resize_and_center_crop(image, resize_size=40, image_size=30)
    assert (result == 255).all()

  @each_interpolation
  def test_any_shape_gives_a_square(self, interpolation):
    crop = functools.partial(
      resize_and_center_crop,
      resize_size=17,
      image_size=17,
      interpolation=interpolation,
    )
    for height in (1, 2, 7, 17, 18, 31, 100):
      for width in range(1, 120):
        assert crop(noise(height, width)).shape == (17, 17, 3)

  def test_strip_is_not_blown_up_before_the_crop(self):
    strip = np.full((1, 2**20, 3), 7, np.uint8)
    # Resized as a whole, it would take 50 GB.
    result = resize_and_center_crop(strip, resize_size=128, image_size=128)
    assert (result == 7).all()

  def test_result_does_not_share_memory_with_the_image(self):
    image = noise(32, 32)
    result = resize_and_center_crop(image, resize_size=32, image_size=32)
    assert not np.shares_memory(result, image)
    assert result.flags.c_contiguous

  @each("image_size", [0, 33])
  def test_rejects_crop_outside_the_resized_image(self, image_size):
    with pytest.raises(ValueError, match=f"got {image_size} and 32"):
      resize_and_center_crop(
        noise(50, 50), resize_size=32, image_size=image_size
      )

  def test_rejects_unknown_interpolation(self):
    with pytest.raises(ValueError, match="'nearest'; expected one of"):
      resize_and_center_crop(
        noise(50, 50), resize_size=32, image_size=32, interpolation="nearest"
      )
