"""Random crops and flips of training images, as torchvision draws them."""

import math

import cv2
import numpy as np

_ENLARGEMENTS = {"bilinear": cv2.INTER_LINEAR, "bicubic": cv2.INTER_CUBIC}

# Draws of a box before the center of the image is used.
_MAX_TRIES = 10

# Largest shrinking that three taps can smooth. Beyond it, the outer taps would
# weigh more than the center.
_MAX_SMOOTHED = math.sqrt(5.0)


def random_resized_crop_and_flip(
  image: np.ndarray,
  rng: np.random.Generator,
  *,
  image_size: int,
  interpolation: str = "bilinear",
) -> np.ndarray:
  """Crops at random, resizes, and mirrors half of the images.

  Args:
    image: uint8 [height, width, 3].
    rng: Generator of the crop and the flip.
    image_size: Side of the result, at least 1.
    interpolation: "bilinear" or "bicubic".

  Returns:
    uint8 [image_size, image_size, 3].

  Raises:
    ValueError: If an option is outside its range.
  """
  crop = random_resized_crop(
    image, rng, image_size=image_size, interpolation=interpolation
  )
  # OpenCV drops the axis of a single band.
  return cv2.flip(crop, 1).reshape(crop.shape) if rng.random() < 0.5 else crop


def random_resized_crop(
  image: np.ndarray,
  rng: np.random.Generator,
  *,
  image_size: int,
  interpolation: str = "bilinear",
  scale: tuple[float, float] = (0.08, 1.0),
  ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> np.ndarray:
  """Crops a random box of an image and resizes it to a square.

  The boxes have the distribution of torchvision's `RandomResizedCrop`. If
  bilinear interpolation enlarges, the pixels are those of torchvision up to
  rounding. When shrinking, torchvision filters exactly; here the crop is
  smoothed and then interpolated, in a quarter to three quarters of Pillow's
  time. The mean difference is at most 2 of 255 levels on noise with the
  spectrum of photos, and below 10 on white noise.

  Args:
    image: uint8 [height, width, 3].
    rng: Generator of the box, see `random_box`.
    image_size: Side of the result, at least 1.
    interpolation: "bilinear" or "bicubic".
    scale: Smallest and largest area of the box, as fractions of the image's.
    ratio: Smallest and largest ratio of the box's width to its height.

  Returns:
    uint8 [image_size, image_size, 3], which shares no memory with `image`.

  Raises:
    ValueError: If an option is outside its range.
  """
  if interpolation not in _ENLARGEMENTS:
    raise ValueError(
      f"Unknown interpolation {interpolation!r}; "
      f"expected one of {sorted(_ENLARGEMENTS)}."
    )
  if image_size < 1:
    raise ValueError(f"Expected `image_size` >= 1, got {image_size}.")
  height, width = image.shape[:2]
  box = random_box(height, width, rng, scale=scale, ratio=ratio)
  return _resize(image[box], image_size, _ENLARGEMENTS[interpolation])


def random_box(
  height: int,
  width: int,
  rng: np.random.Generator,
  *,
  scale: tuple[float, float],
  ratio: tuple[float, float],
) -> tuple[slice, slice]:
  """Draws a box inside an image.

  The area is uniform in `scale`, the ratio log-uniform in `ratio`, the position
  uniform. If ten draws do not fit into the image, the box is the largest
  centered one with a ratio in range.

  Args:
    height: Height of the image in pixels, at least 1.
    width: Width of the image in pixels, at least 1.
    rng: Generator of area and ratio of each try, then of top and left.
    scale: Smallest and largest area of the box, as fractions of the image's, in
      (0, 1].
    ratio: Smallest and largest ratio of the box's width to its height,
      positive.

  Returns:
    Rows and columns of the box, at least one of each.

  Raises:
    ValueError: If an option is outside its range.
  """
  _check_bounds(scale, ratio)
  for _ in range(_MAX_TRIES):
    area = height * width * rng.uniform(*scale)
    aspect = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
    box_width = round(math.sqrt(area * aspect))
    box_height = round(math.sqrt(area / aspect))
    if 0 < box_width <= width and 0 < box_height <= height:
      top = int(rng.integers(height - box_height + 1))
      left = int(rng.integers(width - box_width + 1))
      return slice(top, top + box_height), slice(left, left + box_width)
  return _center_box(height, width, ratio)


def _check_bounds(
  scale: tuple[float, float], ratio: tuple[float, float]
) -> None:
  """Checks that the ranges are not empty, and their boxes possible."""
  if not 0 < scale[0] <= scale[1] <= 1:
    raise ValueError(f"Expected `scale` increasing in (0, 1], got {scale}.")
  if not 0 < ratio[0] <= ratio[1]:
    raise ValueError(f"Expected `ratio` increasing and > 0, got {ratio}.")


def _center_box(
  height: int, width: int, ratio: tuple[float, float]
) -> tuple[slice, slice]:
  """Returns the largest centered box whose ratio is in range."""
  box_height, box_width = height, width
  if width < ratio[0] * height:
    box_height = max(1, round(width / ratio[0]))
  elif width > ratio[1] * height:
    box_width = max(1, round(height * ratio[1]))
  top = (height - box_height) // 2
  left = (width - box_width) // 2
  return slice(top, top + box_height), slice(left, left + box_width)


def _resize(crop: np.ndarray, size: int, enlargement: int) -> np.ndarray:
  """Resizes to a square without aliasing.

  OpenCV's exact filter (INTER_AREA) is much slower than its interpolation, and
  so is used only for axes that shrink a lot. The others are smoothed by three
  taps and then interpolated.
  """
  height, width = crop.shape[:2]
  shape = (
    size if width > _MAX_SMOOTHED * size else width,
    size if height > _MAX_SMOOTHED * size else height,
  )
  if shape != (width, height):
    crop = _average(crop, shape)
  if max(shape) > size:
    rows, columns = (_smoothing_taps(side / size) for side in shape)
    crop = cv2.sepFilter2D(
      crop, -1, rows, columns, borderType=cv2.BORDER_REPLICATE
    )
  # Copies if the size is the same. OpenCV drops the axis of a single band.
  resized = cv2.resize(crop, (size, size), interpolation=enlargement)
  return resized.reshape(size, size, -1)


def _average(crop: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
  """Resizes by the mean over areas; OpenCV does so for up to 4 bands."""
  width, height = shape
  groups = [
    cv2.resize(
      crop[..., first : first + 4], shape, interpolation=cv2.INTER_AREA
    )
    for first in range(0, crop.shape[-1], 4)
  ]
  return np.concatenate(
    [group.reshape(height, width, -1) for group in groups], axis=-1
  )


def _smoothing_taps(shrinking: float) -> np.ndarray:
  """Returns a filter with the spread of antialiasing, float32 [3].

  Interpolation weighs neighbors by a triangle of variance 1/6. If the image
  shrinks by a factor s, the antialiased triangle is s times as wide, of
  variance s^2/6. The variances of successive filters add up, so these taps have
  the difference as their variance.
  """
  outer = max(shrinking**2 - 1.0, 0.0) / 12.0
  return np.array([outer, 1.0 - 2.0 * outer, outer], np.float32)
