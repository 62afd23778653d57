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

# Start of a JPEG file, of a frame that OpenCV decodes as Pillow does (baseline,
# extended, progressive), and the segments that may stand before it.
_JPEG_START = b"\xff\xd8\xff"
_JPEG_FRAMES = frozenset((0xC0, 0xC1, 0xC2))
_JPEG_SEGMENTS = frozenset((0xC4, 0xDB, 0xDD, 0xFE, *range(0xE0, 0xF0)))

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
    shape = _plain_jpeg_shape(data)
    if shape is not None:
      _check_num_pixels(*shape)
      pixels = _imdecode(data)
      if pixels is not None:
        return pixels
    with Image.open(io.BytesIO(data)) as image:  # reads the header only
      _check_num_pixels(image.width, image.height)
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


def _plain_jpeg_shape(data: bytes) -> tuple[int, int] | None:
  """Returns width and height of a whole gray or color JPEG, None for others.

  As Pillow's header does, in a tenth of its time.
  """
  if not (data.startswith(_JPEG_START) and data.endswith(_LAST_BYTES["JPEG"])):
    return None
  at = 2
  while at + 10 <= len(data) and data[at] == 0xFF:
    if data[at + 1] in _JPEG_FRAMES:
      is_plain = data[at + 4] == 8 and data[at + 9] in (1, 3)
      height = int.from_bytes(data[at + 5 : at + 7])
      width = int.from_bytes(data[at + 7 : at + 9])
      return (width, height) if is_plain and height else None
    if data[at + 1] not in _JPEG_SEGMENTS:
      return None
    at += 2 + int.from_bytes(data[at + 2 : at + 4])
  return None


def _check_num_pixels(width: int, height: int) -> None:
  """Refuses an image whose pixels would fill the memory."""
  if width * height > MAX_PIXELS:
    raise ValueError(
      f"Expected at most {MAX_PIXELS} pixels, got {width} x {height}."
    )


def _imdecode(data: bytes) -> np.ndarray | None:
  return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)


def _decode_with_opencv(data: bytes, image: Image.Image) -> np.ndarray | None:
  """Returns the pixels, or None where OpenCV cannot or might get it wrong."""
  last_bytes = _LAST_BYTES.get(image.format)
  if last_bytes is None or not data.endswith(last_bytes):
    return None
  # Before 4.12 OpenCV ignores the orientation of a WebP.
  if image.format == "WEBP" and "exif" in image.info:
    return None
  return _imdecode(data)


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
