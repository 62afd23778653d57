"""Data sets that are a folder of images and a table of their labels."""

from collections.abc import Callable, Sequence
import functools
import hashlib
import os
import pathlib

import numpy as np

from decern_jax.data import band_image, image_check
from decern_jax.data.band_image import BandRange
from decern_jax.data.dataset import Dataset, Split
from decern_jax.data.image_check import ImageFile
from decern_jax.data.label_columns import Columns
from decern_jax.data.label_parts import PARTS, find_parts
from decern_jax.data.label_table import LabelTable, read_label_table
from decern_jax.io.validation import shorten

_NUMPY_EXTENSIONS = (".npy", ".npz")


def load_label_file(
  path: str | os.PathLike[str],
  *,
  image_dir: str | os.PathLike[str] | None = None,
  columns: Columns | None = None,
  is_multi_label: bool | None = None,
  test_share: float = 0.2,
  split_seed: int = 0,
  band_range: BandRange | None = None,
  num_workers: int,
  cache_dir: str | os.PathLike[str] | None = None,
  progress: bool = True,
) -> Dataset:
  """Opens images whose labels are in a table, `read_label_table`'s.

  Ids are the paths as they are written in the table, whose order is kept.
  Without a column of parts, `label_parts.random_parts` draws train and test.

  Images of more than three bands are files of `band_image.read_bands`: those
  that end in .npy or .npz, and with a `band_range` all. They are opened when
  they are read; other images are decoded once before.

  Args:
    path: The table.
    image_dir: The folder that the paths start from; None: the table's.
    columns: Which column of the table holds what, as far as the names do not
      tell.
    is_multi_label: For a column of names of labels, whether an image may have
      several or none; None: as the column looks.
    test_share: Share of the images that are drawn for the test part, in (0, 1),
      where no column tells the parts.
    split_seed: Seed of that draw.
    band_range: What becomes 0 and 255 of the bands; None: they are uint8, or
      the images have none but colors.
    num_workers: Threads that check the images, at least 1.
    cache_dir: Where the outcome of the check is kept, so that it is made once;
      None checks each time.
    progress: Whether the check shows a progress bar, where there is a terminal.

  Returns:
    The data set, named after the folder of the table. Its labels are int32
    [examples, classes], 0 or 1, or int32 [examples] for single labels.

  Raises:
    ValueError: If the table is not as expected, an image is missing or cannot
      be read, a part is empty, or a single label has no training image.
  """
  file = pathlib.Path(path).expanduser()
  table = read_label_table(file, columns=columns, is_multi_label=is_multi_label)
  root = file.parent if image_dir is None else pathlib.Path(image_dir)
  files = _list_images(file, root.expanduser(), table)
  parts = find_parts(file, table, test_share=test_share, split_seed=split_seed)
  read = _reader(files, band_range)
  if read is image_check.read_image:
    _check_readable(file, table, files, num_workers, cache_dir, progress)
  else:
    num_bands = _count_bands(file, table, files, read)
    read = functools.partial(read, num_bands=num_bands)
  splits = {
    part: _make_split(table, files, np.flatnonzero(parts == part), read)
    for part in PARTS
  }
  return Dataset(
    name=file.resolve().parent.name,
    class_names=table.class_names,
    train=splits["train"],
    test=splits["test"],
    val=splits["val"] if len(splits["val"].ids) else None,
    fingerprint=_fingerprint(files, parts, band_range),
  )


def _list_images(
  file: pathlib.Path, root: pathlib.Path, table: LabelTable
) -> list[ImageFile]:
  """Describes the images of a table without opening them."""
  found, missing = [], []
  for path, row in zip(table.paths, table.rows, strict=True):
    try:
      status = (root / path).stat()
    except OSError:
      missing.append(f"{path} (row {row})")
      continue
    found.append(
      ImageFile(path, root / path, "", status.st_size, status.st_mtime_ns)
    )
  if missing:
    raise ValueError(
      f"Expected every image of {file} in {root}, got none for {len(missing)} "
      f"of {len(table.paths)}: {shorten(missing)}."
    )
  return found


def _reader(
  files: Sequence[ImageFile], band_range: BandRange | None
) -> Callable[[ImageFile], np.ndarray]:
  """Returns what decodes the images."""
  are_numpy = [file.path.suffix.lower() in _NUMPY_EXTENSIONS for file in files]
  if band_range is None and not any(are_numpy):
    return image_check.read_image
  if band_range is not None:
    band_image.check_band_range(band_range)
  return functools.partial(_read_bands, band_range=band_range)


def _read_bands(
  file: ImageFile, *, band_range: BandRange | None, num_bands: int | None = None
) -> np.ndarray:
  """Reads an image, of as many bands as the others if that is known."""
  image = band_image.read_bands(file.path, band_range=band_range)
  if num_bands not in (None, image.shape[-1]):
    raise ValueError(
      f"Expected {num_bands} bands in {file.path}, as in the first image, got "
      f"{image.shape[-1]}."
    )
  return image


def _check_readable(
  file: pathlib.Path,
  table: LabelTable,
  files: Sequence[ImageFile],
  num_workers: int,
  cache_dir: str | os.PathLike[str] | None,
  progress: bool,
) -> None:
  """Refuses images that do not decode: the table promised them."""
  reasons = image_check.find_unreadable(
    files, num_workers=num_workers, cache_dir=cache_dir, progress=progress
  )
  if reasons:
    row_of = dict(zip(table.paths, table.rows, strict=True))
    shown = shorten(
      f"{path} (row {row_of[path]}: {why})" for path, why in reasons.items()
    )
    raise ValueError(
      f"Expected readable images in {file}, got {len(reasons)} of {len(files)} "
      f"that are not: {shown}."
    )


def _count_bands(
  file: pathlib.Path,
  table: LabelTable,
  files: Sequence[ImageFile],
  read: Callable[[ImageFile], np.ndarray],
) -> int:
  """Reads one image of bands: what is wrong with all is wrong with it."""
  try:
    return read(files[0]).shape[-1]
  except (OSError, ValueError) as error:
    raise ValueError(
      f"Expected an image of bands in row {table.rows[0]} of {file}, got an "
      f"error: {error}"
    ) from error


def _make_split(
  table: LabelTable,
  files: Sequence[ImageFile],
  rows: np.ndarray,
  read: Callable[[ImageFile], np.ndarray],
) -> Split:
  """Returns the examples at some rows of the table."""
  return Split(
    ids=tuple(table.paths[row] for row in rows),
    labels=table.labels[rows],
    read=lambda position: read(files[rows[position]]),
  )


def _fingerprint(
  files: Sequence[ImageFile], parts: np.ndarray, band_range: BandRange | None
) -> str:
  """Returns what changes with the images, their parts and their values."""
  content = [image_check.digest(files), *parts, repr(band_range)]
  return hashlib.sha256("\n".join(content).encode()).hexdigest()
