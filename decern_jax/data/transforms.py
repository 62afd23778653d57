"""Resizing and cropping of images to the square that a model reads."""

import cv2
import numpy as np
from PIL import Image

_PILLOW_FILTERS = {
  "bilinear": Image.Resampling.BILINEAR,
  "bicubic": Image.Resampling.BICUBIC,
}
INTERPOLATIONS = tuple(_PILLOW_FILTERS)

# OpenCV resizes the whole image before the crop. Pillow computes only the crop,
# and so is used for longer images than this.
_MAX_OPENCV_ASPECT = 4


def resize_and_center_crop(
  image: np.ndarray,
  *,
  resize_size: int,
  image_size: int,
  interpolation: str = "bilinear",
) -> np.ndarray:
  """Resizes the short side, keeping the aspect, and crops the center.

  The result is that of torchvision's `Resize(resize_size)` and
  `CenterCrop(image_size)` on a Pillow image, antialiased when shrinking, up to
  rounding: one of the 256 levels, or a few at hard edges under "bicubic", where
  the order of rows and columns changes what is clipped.

  Args:
    image: uint8 [height, width, 3].
    resize_size: Length of the short side after resizing, at least 1.
    image_size: Side of the crop, in [1, resize_size].
    interpolation: One of `INTERPOLATIONS`.

  Returns:
    uint8 [image_size, image_size, 3].

  Raises:
    ValueError: If an argument is outside its range.
  """
  _check_options(resize_size, image_size, interpolation)
  if interpolation == "bilinear" and _is_plain_enlargement(image, resize_size):
    return _crop_of_opencv_resize(image, resize_size, image_size)
  return _pillow_resize_of_crop(
    image, resize_size, image_size, _PILLOW_FILTERS[interpolation]
  )


def _check_options(
  resize_size: int, image_size: int, interpolation: str
) -> None:
  """Checks the ranges of the options."""
  if interpolation not in INTERPOLATIONS:
    raise ValueError(
      f"Unknown interpolation {interpolation!r}; "
      f"expected one of {sorted(INTERPOLATIONS)}."
    )
  if not 1 <= image_size <= resize_size:
    raise ValueError(
      f"Expected 1 <= `image_size` <= `resize_size`, got {image_size} and "
      f"{resize_size}."
    )


def _is_plain_enlargement(image: np.ndarray, resize_size: int) -> bool:
  """Returns whether OpenCV, which does not antialias, is exact here."""
  short, long = sorted(image.shape[:2])
  return short <= resize_size and long <= _MAX_OPENCV_ASPECT * short


def _crop_of_opencv_resize(
  image: np.ndarray, resize_size: int, image_size: int
) -> np.ndarray:
  """Resizes with OpenCV, five times faster than Pillow, then crops."""
  height, width = _resized_shape(image, resize_size)
  resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
  resized = resized.reshape(height, width, -1)  # OpenCV drops one band's axis
  top, left = (_crop_start(side, image_size) for side in (height, width))
  return resized[top : top + image_size, left : left + image_size].copy()


def _pillow_resize_of_crop(
  image: np.ndarray,
  resize_size: int,
  image_size: int,
  resampling: Image.Resampling,
) -> np.ndarray:
  """Resizes with Pillow, which computes only the pixels of the crop."""
  spans = [
    _crop_span(side, resized, image_size)
    for side, resized in zip(
      image.shape[:2], _resized_shape(image, resize_size), strict=True
    )
  ]
  (top, bottom), (left, right) = spans

  def resize(pixels: np.ndarray) -> np.ndarray:
    resized = Image.fromarray(pixels).resize(
      (image_size, image_size), resampling, box=(left, top, right, bottom)
    )
    return np.array(resized)

  if image.shape[-1] == 3:
    return resize(image)
  # Pillow has no images of so many bands, and resizes each one separately.
  bands = np.ascontiguousarray(np.moveaxis(image, -1, 0))
  return np.stack([resize(band) for band in bands], axis=-1)


def _resized_shape(image: np.ndarray, resize_size: int) -> tuple[int, int]:
  """Returns height and width once the short side is `resize_size`."""
  height, width = image.shape[:2]
  short = min(height, width)
  return resize_size * height // short, resize_size * width // short


def _crop_span(
  side: int, resized_side: int, image_size: int
) -> tuple[float, float]:
  """Returns where the crop starts and ends, in pixels of the source."""
  scale = side / resized_side
  start = _crop_start(resized_side, image_size)
  # Pillow refuses a box that rounding puts outside of the image.
  return start * scale, min((start + image_size) * scale, side)


def _crop_start(side: int, image_size: int) -> int:
  """Returns where the centered crop starts, rounded as torchvision does."""
  return round((side - image_size) / 2)
