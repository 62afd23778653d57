"""Image files to pixels: colors, and bands of NumPy and TIFF files.

Color images are decoded by OpenCV if its result is right, else by Pillow.
OpenCV decodes without Python's global lock, so that several threads decode in
parallel. It does not use its own thread pool for decoding; the size of that
pool, which is global state, is not changed.
"""

import io
import os
import pathlib

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

MAX_PIXELS = 2**26
"""Largest image that is decoded: 192 MiB as RGB."""

BAND_EXTENSIONS = (".npy", ".npz", ".tif", ".tiff")
"""Endings of the names of files of bands, in any case."""

BandRange = tuple[float, float] | tuple[tuple[float, float], ...]
"""Values that become 0 and 255: (low, high), or one such pair per band."""

# Indices that bring OpenCV's colors into the order of the file.
_FILE_ORDER = {3: [2, 1, 0], 4: [2, 1, 0, 3]}

# Formats that OpenCV decodes like Pillow, with the end of a complete file.
# Other files are decoded by Pillow, which accepts trailing bytes and refuses
# truncated ones. OpenCV may fill the missing pixels with gray; it refuses a
# truncated WebP itself.
_LAST_BYTES = {
  "JPEG": b"\xff\xd9",
  "MPO": b"\xff\xd9",  # several JPEGs in one file; the first is decoded
  "PNG": b"IEND\xaeB`\x82",
  "WEBP": b"",
}

# Start of a JPEG file, markers of the frames that OpenCV decodes like Pillow
# (baseline, extended, progressive), and of the segments that may precede them.
_JPEG_START = b"\xff\xd8\xff"
_JPEG_FRAMES = frozenset((0xC0, 0xC1, 0xC2))
_JPEG_SEGMENTS = frozenset((0xC4, 0xDB, 0xDD, 0xFE, *range(0xE0, 0xF0)))

# 32 bits per sample: the file does not show which value is white.
_RANGELESS_MODES = ("I", "F")


def decode_image(data: bytes) -> np.ndarray:
  """Decodes an encoded image to upright RGB pixels.

  Gray, palette and CMYK images are converted to RGB. Samples of 16 bits keep
  their high 8 bits, and an animation its first frame. Alpha is dropped, as in
  torchvision's loader. The EXIF orientation is applied.

  Args:
    data: Content of a JPEG, PNG, WebP, BMP, GIF or TIFF file, or of any other
      format that Pillow reads. Bytes after the end of the image are ignored.

  Returns:
    uint8 [height, width, 3], RGB.

  Raises:
    ValueError: If the data are truncated or not an image, have 32 bits per
      sample, or declare more than `MAX_PIXELS` pixels.
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
  """Returns width and height of a complete gray or color JPEG, else None.

  Takes a tenth of the time of Pillow.
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
  """Checks that the pixels of an image fit into the memory."""
  if width * height > MAX_PIXELS:
    raise ValueError(
      f"Expected at most {MAX_PIXELS} pixels, got {width} x {height}."
    )


def _imdecode(data: bytes) -> np.ndarray | None:
  return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)


def _decode_with_opencv(data: bytes, image: Image.Image) -> np.ndarray | None:
  """Returns the pixels, or None if OpenCV could get them wrong."""
  last_bytes = _LAST_BYTES.get(image.format or "")
  if last_bytes is None or not data.endswith(last_bytes):
    return None
  # Before 4.12 OpenCV ignores the orientation of a WebP.
  if image.format == "WEBP" and "exif" in image.info:
    return None
  return _imdecode(data)


def _decode_with_pillow(image: Image.Image) -> np.ndarray:
  """Decodes an image that Pillow has opened."""
  if image.mode in _RANGELESS_MODES:
    raise ValueError(
      f"Expected 8 or 16 bits per sample, got mode {image.mode!r}."
    )
  image = ImageOps.exif_transpose(image)
  if image.mode.startswith("I;16"):  # Pillow would clip, not scale
    gray = (np.asarray(image) >> 8).astype(np.uint8)
    return np.repeat(gray[..., None], 3, axis=-1)
  return np.array(image.convert("RGB"))


def read_bands(
  path: str | os.PathLike[str], *, band_range: BandRange | None = None
) -> np.ndarray:
  """Reads an image of bands.

  Args:
    path: A NumPy file, `.npy` or `.npz` with one array [height, width, bands];
      or a TIFF file with one band per page, or with up to 4 bands in one page.
      The values are uint8, uint16 or another type of number.
    band_range: Values that become 0 and 255, see `scale_bands`. None if the
      file holds uint8.

  Returns:
    uint8 [height, width, bands].

  Raises:
    OSError: If the file cannot be opened.
    ValueError: If it is not such an image.
  """
  path = pathlib.Path(path)
  suffix = path.suffix.lower()
  if suffix not in BAND_EXTENSIONS:
    raise ValueError(
      f"Expected a file of bands, one of {BAND_EXTENSIONS}, got {path}."
    )
  is_tiff = suffix in (".tif", ".tiff")
  bands = _read_tiff(path) if is_tiff else _read_numpy(path)
  if bands.ndim == 2:
    bands = bands[..., None]
  if bands.ndim != 3 or 0 in bands.shape:
    raise ValueError(
      f"Expected an array [height, width, bands] in {path}, got {bands.shape}."
    )
  return scale_bands(bands, band_range=band_range)


def scale_bands(
  bands: np.ndarray, *, band_range: BandRange | None = None
) -> np.ndarray:
  """Maps the values of bands to 0 to 255.

  A value v becomes 255 (v - low) / (high - low), rounded. Values outside of the
  range become 0 or 255.

  Args:
    bands: [height, width, bands], of any type of number, finite.
    band_range: (low, high), or one such pair per band. None returns uint8
      unchanged and refuses other types, whose range is unknown.

  Returns:
    uint8 [height, width, bands].

  Raises:
    ValueError: If the range is missing or does not fit, or a value is not
      finite.
  """
  if band_range is None:
    if bands.dtype != np.uint8:
      raise ValueError(
        f"Expected `band_range`, what becomes 0 and 255 of {bands.dtype}, got "
        "None. Set `config.dataset.band_range`."
      )
    return bands
  low, high = check_band_range(band_range, num_bands=bands.shape[-1])
  values = bands.astype(np.float32)
  if not np.isfinite(values).all():
    raise ValueError("Expected finite values in all bands, got others.")
  values = (values - low) / (high - low)
  return np.rint(255.0 * np.clip(values, 0.0, 1.0)).astype(np.uint8)


def check_band_range(
  band_range: BandRange, *, num_bands: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
  """Returns the lows and the highs of a range.

  Args:
    band_range: (low, high), or one such pair per band.
    num_bands: Number of bands, or None if it is not known yet.

  Returns:
    float32 [1] or [bands], twice.

  Raises:
    ValueError: If low is not less than high, or the number of bands differs.
  """
  pairs = np.atleast_2d(np.asarray(band_range, np.float32))
  is_pairs = pairs.ndim == 2 and pairs.shape[1] == 2
  if not is_pairs or not (pairs[:, 0] < pairs[:, 1]).all():
    raise ValueError(
      "Expected `band_range` as (low, high) or one such pair per band, low < "
      f"high, got {band_range}."
    )
  if num_bands is not None and len(pairs) not in (1, num_bands):
    raise ValueError(
      f"Expected `band_range` of 1 or {num_bands} bands, got {len(pairs)}."
    )
  return pairs[:, 0], pairs[:, 1]


def _read_numpy(path: pathlib.Path) -> np.ndarray:
  """Reads the only array of a file."""
  try:
    with path.open("rb") as stream:
      content = np.load(stream, allow_pickle=False)
      if isinstance(content, np.ndarray):
        return content
      if len(content.files) != 1:
        raise ValueError(f"one array expected, got {content.files}")
      return content[content.files[0]]
  except OSError:
    raise
  except Exception as error:  # broken archives raise anything
    raise ValueError(f"Expected an array in {path}, got: {error}.") from error


def _read_tiff(path: pathlib.Path) -> np.ndarray:
  """Reads the pages of a file as bands."""
  is_read, pages = False, ()
  data = np.frombuffer(path.read_bytes(), np.uint8)
  if len(data):
    is_read, pages = cv2.imdecodemulti(data, cv2.IMREAD_UNCHANGED)
  if not is_read or not pages:
    raise ValueError(
      f"Expected a TIFF file with a band per page, or up to 4 in one, in "
      f"{path}, got another. Save it as .npy of [height, width, bands]."
    )
  if len({page.shape[:2] for page in pages}) > 1:
    shapes = [page.shape[:2] for page in pages]
    raise ValueError(f"Expected pages of one size in {path}, got {shapes}.")
  return np.concatenate([_in_file_order(page) for page in pages], axis=-1)


def _in_file_order(page: np.ndarray) -> np.ndarray:
  """Returns a page of OpenCV as [height, width, bands]."""
  if page.ndim == 2:
    return page[..., None]
  return page[..., _FILE_ORDER.get(page.shape[-1], slice(None))]
