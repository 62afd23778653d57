"""Image files to pixels: OpenCV where it is right and fast, Pillow elsewhere.

OpenCV decodes without Python's global lock, so that several threads can decode
side by side. Its own pool of threads takes no part in decoding, and its size,
which is global state, is left alone.
"""

import io

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

MAX_PIXELS = 2**26
"""Largest image that is decoded: 192 MiB as RGB."""

# The formats that OpenCV decodes as Pillow does, each with the bytes that end a
# complete file. A file that ends otherwise is left to Pillow, which tells
# trailing bytes (accepted) from missing ones (refused); OpenCV may paint what
# is missing gray. OpenCV notices a short WebP itself.
_LAST_BYTES = {
  "JPEG": b"\xff\xd9",
  "MPO": b"\xff\xd9",  # several JPEGs in one file, of which the first counts
  "PNG": b"IEND\xaeB`\x82",
  "WEBP": b"",
}

# 32 bits per sample: the range that stands for white is not in the file.
_RANGELESS_MODES = ("I", "F")


def decode_image(data: bytes) -> np.ndarray:
  """Decodes an encoded image to upright RGB pixels.

  Gray becomes RGB, a palette its colors, 16 bits the high 8, CMYK is converted;
  alpha is dropped, as torchvision's loader drops it; an animation gives its
  first frame; the EXIF orientation is applied.

  Args:
    data: Content of a JPEG, PNG, WebP, BMP, GIF or TIFF file, or of any other
      format that Pillow reads. Bytes after the end of the image are ignored.

  Returns:
    uint8 [height, width, 3], RGB.

  Raises:
    ValueError: If the data are truncated, are no image, have 32 bits per
      sample, or announce more than `MAX_PIXELS` pixels.
  """
  try:
    with Image.open(io.BytesIO(data)) as image:  # reads the header only
      _check_num_pixels(image)
      pixels = _decode_with_opencv(data, image)
      return _decode_with_pillow(image) if pixels is None else pixels
  except UnidentifiedImageError:
    raise ValueError(
      f"Expected an image, got {len(data)} bytes of no known format."
    ) from None
  # Broken bytes make Pillow's readers raise anything: OSError, SyntaxError,
  # struct.error, IndexError, DecompressionBombError, ...
  except Exception as error:
    raise ValueError(f"Image does not decode: {error}") from error


def _check_num_pixels(image: Image.Image) -> None:
  """Refuses an image whose pixels would fill the memory."""
  if image.width * image.height > MAX_PIXELS:
    raise ValueError(
      f"Expected at most {MAX_PIXELS} pixels, "
      f"got {image.width} x {image.height}."
    )


def _decode_with_opencv(data: bytes, image: Image.Image) -> np.ndarray | None:
  """Returns the pixels, or None where OpenCV cannot or might get it wrong."""
  last_bytes = _LAST_BYTES.get(image.format)
  if last_bytes is None or not data.endswith(last_bytes):
    return None
  # Before 4.12 OpenCV ignores the orientation of a WebP.
  if image.format == "WEBP" and "exif" in image.info:
    return None
  buffer = np.frombuffer(data, np.uint8)
  return cv2.imdecode(buffer, cv2.IMREAD_COLOR_RGB)


def _decode_with_pillow(image: Image.Image) -> np.ndarray:
  """Decodes what Pillow has opened."""
  if image.mode in _RANGELESS_MODES:
    raise ValueError(
      f"Expected 8 or 16 bits per sample, got mode {image.mode!r}."
    )
  image = ImageOps.exif_transpose(image)
  if image.mode.startswith("I;16"):  # which Pillow would clip, not scale
    gray = (np.asarray(image) >> 8).astype(np.uint8)
    return np.repeat(gray[..., None], 3, axis=-1)
  return np.array(image.convert("RGB"))
