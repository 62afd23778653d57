"""Folders of images with a label file."""

from collections.abc import Callable, Sequence
import dataclasses
import functools
import hashlib
import os
import pathlib

import numpy as np

from decern_jax.data import decoding, image_files
from decern_jax.data.dataset import Dataset
from decern_jax.data.decoding import BandRange
from decern_jax.data.image_files import ImageFile
from decern_jax.data.label_table import (
  SPLITS,
  Columns,
  LabelTable,
  find_splits,
  read_label_table,
)
from decern_jax.data.registry import Options, Source, register
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
  """Opens images whose labels are in a table, see `read_label_table`.

  Ids are the paths in the table, in its order. Without a column of splits,
  `label_table.random_splits` draws train and test.

  `decoding.read_bands` reads images that end in .npy or .npz and, with a
  `band_range`, all images. They are not checked in advance. Other images are
  decoded once for a check.

  Args:
    path: The table.
    image_dir: Folder that the paths are relative to; None for that of the
      table.
    columns: What the columns hold whose names do not say it.
    is_multi_label: As for `read_label_table`.
    test_share: Share of the images that are drawn for the test split, in
      (0, 1), if no column holds the splits.
    split_seed: Seed of that draw.
    band_range: Values of the bands that become 0 and 255. None if they are
      uint8, or the images have three colors.
    num_workers: Threads that check the images, at least 1.
    cache_dir: Folder that keeps the result of the check, so that it is made
      once. None checks each time.
    progress: Whether the check shows a progress bar, if there is a terminal.

  Returns:
    The data set, named after the folder of the table. Its labels are int32
    [examples, classes], 0 or 1, or int32 [examples] for single labels.

  Raises:
    ValueError: If the table is not as expected, an image is missing or cannot
      be read, a split is empty, or a single label has no training image.
  """
  file = pathlib.Path(path).expanduser()
  table = read_label_table(file, columns=columns, is_multi_label=is_multi_label)
  root = file.parent if image_dir is None else pathlib.Path(image_dir)
  files = _list_images(file, root.expanduser(), table)
  splits = find_splits(
    file, table, test_share=test_share, split_seed=split_seed
  )
  read = _reader(files, band_range)
  if read is image_files.read_image:
    _check_readable(file, table, files, num_workers, cache_dir, progress)
  else:
    num_bands = _count_bands(file, table, files, read)
    read = functools.partial(read, num_bands=num_bands)
  made = {}
  for split in SPLITS:
    rows = np.flatnonzero(splits == split)
    chosen = [files[row] for row in rows]
    made[split] = image_files.make_split(chosen, table.labels[rows], read=read)
  return Dataset(
    name=file.resolve().parent.name,
    class_names=table.class_names,
    train=made["train"],
    test=made["test"],
    val=made["val"] if made["val"].ids else None,
    fingerprint=_fingerprint(files, splits, band_range),
  )


def _list_images(
  file: pathlib.Path, root: pathlib.Path, table: LabelTable
) -> list[ImageFile]:
  """Lists the images of a table, without opening them."""
  found, missing, seen = [], [], {}
  for path, row in zip(table.paths, table.rows, strict=True):
    place = _locate(root, path)
    try:
      status = place.stat()
    except OSError:
      missing.append(f"{path} (row {row})")
      continue
    # Links are different names of a file; these are one name on some disks.
    name = pathlib.PureWindowsPath(path).as_posix().casefold()
    key = (name, status.st_dev, status.st_ino)
    if seen.setdefault(key, path) != path:
      raise ValueError(
        f"Expected every image of {file} once, got {seen[key]!r} and {path!r}"
        f" (row {row}), which are one file."
      )
    found.append(ImageFile(path, place, "", status.st_size, status.st_mtime_ns))
  if missing:
    raise ValueError(
      f"Expected every image of {file} in {root}, got none for {len(missing)} "
      f"of {len(table.paths)}: {shorten(missing)}."
    )
  return found


def _locate(root: pathlib.Path, path: str) -> pathlib.Path:
  """Returns the file of a path, which may have been written on Windows."""
  place = root / path
  if "\\" in path and not place.exists():
    return root / pathlib.PureWindowsPath(path).as_posix()
  return place


def _reader(
  files: Sequence[ImageFile], band_range: BandRange | None
) -> Callable[..., np.ndarray]:
  """Returns the function that decodes the images."""
  are_numpy = [
    pathlib.Path(file.path).suffix.lower() in _NUMPY_EXTENSIONS
    for file in files
  ]
  if band_range is None and not any(are_numpy):
    return image_files.read_image
  if band_range is not None:
    decoding.check_band_range(band_range)
  return functools.partial(_read_bands, band_range=band_range)


def _read_bands(
  file: ImageFile, *, band_range: BandRange | None, num_bands: int | None = None
) -> np.ndarray:
  """Reads an image, and checks its number of bands if this is known."""
  image = decoding.read_bands(file.path, band_range=band_range)
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
  """Checks that all images decode."""
  reasons = image_files.find_unreadable(
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
  """Returns the number of bands of the first image, which all must have."""
  try:
    return read(files[0]).shape[-1]
  except (OSError, ValueError) as error:
    raise ValueError(
      f"Expected an image of bands in row {table.rows[0]} of {file}, got an "
      f"error: {error}"
    ) from error


def _fingerprint(
  files: Sequence[ImageFile], splits: np.ndarray, band_range: BandRange | None
) -> str:
  """Returns a digest of the images, their splits and the range of bands."""
  content = [image_files.digest(files), *splits, repr(band_range)]
  return hashlib.sha256("\n".join(content).encode()).hexdigest()


@dataclasses.dataclass(frozen=True, kw_only=True)
class _LabelFile(Source):
  """A folder of images with a label file."""

  preparation: str = "`config.dataset.path` is your file of paths and labels"

  def load(self, options: Options) -> Dataset:
    return load_label_file(
      options.required_path("the file of paths and labels"),
      columns=options.columns,
      test_share=options.test_share,
      split_seed=options.split_seed,
      band_range=options.band_range,
      num_workers=options.num_workers,
      cache_dir=options.cache_dir,
    )


register("label_file", _LabelFile())
