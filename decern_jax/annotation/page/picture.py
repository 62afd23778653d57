"""Renders images for the page: decoded as for training, and reduced."""

import os
import stat
import threading

import cv2
from etils import epath
import numpy as np

from decern_jax.data.decoding import decode_image
from decern_jax.io import storage

MAX_SIDE = 1600
"""Longest side of a shown image, in pixels; larger images are reduced."""

MAX_BYTES = 2**28
"""Largest file that is read, in bytes."""

# Images up to this side are sent lossless: JPEG artifacts would be visible.
_MAX_LOSSLESS_SIDE = 256
_JPEG_QUALITY = 92

# Decoding the largest images takes some hundred MiB each.
_num_decoding = threading.BoundedSemaphore(2)


def render(path: str) -> tuple[str, bytes]:
  """Reads an image in any format of training, and encodes it upright in RGB.

  The bytes of the file are never sent, so other files cannot leak.

  Args:
    path: A local file, or one on gs://.

  Returns:
    The media type, "image/png" or "image/jpeg", and the encoded image.

  Raises:
    ValueError: If the file is missing, unreadable, too large or not an image.
  """
  try:
    _check_size(path)
    with _num_decoding:
      return _encode(_reduce(decode_image(storage.read_bytes(path))))
  except OSError as error:
    raise ValueError(
      f"{path!r} cannot be read: {error.strerror or error}."
    ) from None
  except ValueError as error:
    raise ValueError(f"{path!r}: {error}") from None


def _check_size(path: epath.PathLike) -> None:
  """Refuses very large files, and devices, which may have no end."""
  if storage.is_remote(path):
    return
  status = os.stat(path)
  if not stat.S_ISREG(status.st_mode):
    raise ValueError("Expected a file, got a folder or device.")
  if status.st_size > MAX_BYTES:
    raise ValueError(
      f"Expected at most {MAX_BYTES} bytes, got {status.st_size}."
    )


def _reduce(pixels: np.ndarray) -> np.ndarray:
  """Shrinks an image so that its longest side is at most `MAX_SIDE`."""
  height, width = pixels.shape[:2]
  ratio = MAX_SIDE / max(height, width)
  if ratio >= 1:
    return pixels
  size = max(1, round(width * ratio)), max(1, round(height * ratio))
  return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)


def _encode(pixels: np.ndarray) -> tuple[str, bytes]:
  is_small = max(pixels.shape[:2]) <= _MAX_LOSSLESS_SIDE
  bgr = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
  if is_small:
    return "image/png", cv2.imencode(".png", bgr)[1].tobytes()
  options = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
  return "image/jpeg", cv2.imencode(".jpg", bgr, options)[1].tobytes()
