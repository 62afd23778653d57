"""Random views of images, made on the host."""

import dataclasses

import cv2
import numpy as np

from decern_jax.data import augmentation

# Weights of red, green and blue in the luma of ITU-R 601.
_GRAY = np.array([0.299, 0.587, 0.114])
_GRAY_MATRIX = np.tile(_GRAY, (3, 1))
# From RGB to luma and two axes of color, around which hue is an angle.
_TO_YIQ = np.array(
  [_GRAY, [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]]
)
_FROM_YIQ = np.linalg.inv(_TO_YIQ)

# SimCLR's largest changes at a strength of 1: brightness, contrast and
# saturation as fractions, hue in turns.
_JITTER = (0.8, 0.8, 0.8)
_HUE_JITTER = 0.2

# Standard deviation of the blur, in pixels of an image of 224.
_BLUR_SIGMA = (0.1, 2.0)
_BLUR_SIZE = 224


@dataclasses.dataclass(frozen=True)
class Views:
  """How random views are made.

  Attributes:
    image_size: Side of a view.
    interpolation: How crops are resized, "bilinear" or "bicubic".
    min_area: Smallest area of a crop, as a fraction of the image's.
    horizontal_flip: Chance that a view is mirrored.
    vertical_flip: Chance that it is upside down.
    jitter_chance: Chance of a change of color.
    jitter_strength: Strength of that change, in [0, 1]; 1 as in SimCLR.
    grayscale: Chance that a view is gray.
    blur: Chance that a view is blurred.
  """

  image_size: int
  interpolation: str
  min_area: float
  horizontal_flip: float
  vertical_flip: float
  jitter_chance: float
  jitter_strength: float
  grayscale: float
  blur: float


def make_views(
  image: np.ndarray, rng: np.random.Generator, *, views: Views
) -> np.ndarray:
  """Makes two independent views of an image.

  A view is a random resized crop, flipped, with changed colors, in gray, and
  blurred, each at random. The changes of brightness, contrast, saturation and
  hue are drawn as in SimCLR. They are applied at once, as one linear map of the
  colors with the hue as an angle in YIQ, so that no intermediate value is
  clipped. Of an image that does not have three bands, only the brightness and
  the contrast change.

  Args:
    image: uint8 [height, width, channels].
    rng: Source of randomness.
    views: How they are made.

  Returns:
    uint8 [2, image_size, image_size, channels].
  """
  return np.stack([_make_view(image, rng, views) for _ in range(2)])


def _make_view(
  image: np.ndarray, rng: np.random.Generator, views: Views
) -> np.ndarray:
  view = augmentation.random_resized_crop(
    image,
    rng,
    image_size=views.image_size,
    interpolation=views.interpolation,
    scale=(views.min_area, 1.0),
  )
  # OpenCV drops the axis of a single band.
  view = view.reshape(views.image_size, views.image_size, -1)
  if rng.random() < views.horizontal_flip:
    view = view[:, ::-1]
  if rng.random() < views.vertical_flip:
    view = view[::-1]
  view = _change_colors(np.ascontiguousarray(view), rng, views)
  if rng.random() < views.blur:
    sigma = rng.uniform(*_BLUR_SIGMA) * views.image_size / _BLUR_SIZE
    view = cv2.GaussianBlur(view, (0, 0), sigma).reshape(view.shape)
  return view


def _change_colors(
  view: np.ndarray, rng: np.random.Generator, views: Views
) -> np.ndarray:
  """Draws changes of the colors, and applies them."""
  is_jittered = rng.random() < views.jitter_chance
  is_gray = rng.random() < views.grayscale
  strength = views.jitter_strength if is_jittered else 0.0
  spread = strength * np.array(_JITTER)
  brightness, contrast, saturation = rng.uniform(
    np.maximum(0.0, 1.0 - spread), 1.0 + spread
  )
  turn = rng.uniform(-1.0, 1.0) * _HUE_JITTER * strength
  if view.shape[-1] != 3:
    return _scale_bands(view, brightness, contrast) if is_jittered else view
  if not (is_jittered or is_gray):
    return view
  return _map_colors(
    view, brightness, contrast, saturation, turn, is_gray=is_gray
  )


def _map_colors(
  view: np.ndarray,
  brightness: float,
  contrast: float,
  saturation: float,
  turn: float,
  *,
  is_gray: bool,
) -> np.ndarray:
  """Maps the colors of an RGB image linearly, all at once.

  Contrast is the distance from the mean gray of the image; saturation is the
  distance of a color from its own gray.
  """
  mean_gray = float(_GRAY @ cv2.mean(view)[:3])
  angle = 2.0 * np.pi * turn
  cosine, sine = np.cos(angle), np.sin(angle)
  rotation = np.array([[1, 0, 0], [0, cosine, -sine], [0, sine, cosine]])
  matrix = saturation * (_FROM_YIQ @ rotation @ _TO_YIQ)
  matrix += (1.0 - saturation) * _GRAY_MATRIX
  if is_gray:
    matrix = _GRAY_MATRIX @ matrix
  shift = np.full((3, 1), brightness * (1.0 - contrast) * mean_gray)
  matrix = np.hstack([brightness * contrast * matrix, shift])
  return cv2.transform(view, matrix)


def _scale_bands(
  view: np.ndarray, brightness: float, contrast: float
) -> np.ndarray:
  """Scales all bands equally; contrast is relative to the mean of each."""
  values = view.astype(np.float32)
  means = values.mean(axis=(0, 1), keepdims=True)
  values = np.float32(contrast) * (values - means) + means
  values *= np.float32(brightness)
  return np.clip(np.rint(values), 0, 255).astype(np.uint8)
