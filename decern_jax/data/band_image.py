"""Images of any number of bands: NumPy and TIFF files to uint8."""

import os
import pathlib

import cv2
import numpy as np

EXTENSIONS = (".npy", ".npz", ".tif", ".tiff")
"""What a file of bands is named, in any case."""

BandRange = tuple[float, float] | tuple[tuple[float, float], ...]
"""What becomes 0 and 255: (low, high) of all bands, or one pair per band."""

# OpenCV gives the colors of a page in this order of the file's.
_FILE_ORDER = {3: [2, 1, 0], 4: [2, 1, 0, 3]}


def read_bands(
  path: str | os.PathLike[str], *, band_range: BandRange | None = None
) -> np.ndarray:
  """Reads an image of bands.

  Args:
    path: A NumPy file, `.npy` or `.npz` with one array, that holds [height,
      width, bands]; or a TIFF file with one band per page, or up to 4 in one.
      What is stored is uint8, uint16 or another type of number.
    band_range: What becomes 0 and 255, see `scale_bands`; None: the file holds
      uint8.

  Returns:
    uint8 [height, width, bands].

  Raises:
    OSError: If the file cannot be opened.
    ValueError: If it is no such image.
  """
  path = pathlib.Path(path)
  suffix = path.suffix.lower()
  if suffix not in EXTENSIONS:
    raise ValueError(
      f"Expected a file of bands, one of {EXTENSIONS}, got {path}."
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

  A value v becomes 255 (v - low) / (high - low), rounded; values outside of the
  range become 0 and 255.

  Args:
    bands: [height, width, bands], of any type of number, finite.
    band_range: (low, high), or one such pair per band; None leaves uint8 as it
      is, and refuses other types, whose white nobody knows.

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
    num_bands: Number of bands, or None where it is not known yet.

  Returns:
    float32 [1] or [bands], twice.

  Raises:
    ValueError: If it is not rising, or of another number of bands.
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
  """Reads the one array of a file."""
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
  """Returns [height, width, bands] of a page as OpenCV gives it."""
  if page.ndim == 2:
    return page[..., None]
  return page[..., _FILE_ORDER.get(page.shape[-1], slice(None))]
