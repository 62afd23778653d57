"""BronzeDing: pictures of ancient vessels, and tables that date them."""

from collections.abc import Mapping, Sequence
import os
import pathlib

from absl import logging
import numpy as np

from decern_jax.data import image_check
from decern_jax.data.bronze_table import Row, read_table
from decern_jax.data.dataset import Dataset, Split
from decern_jax.data.image_check import ImageFile
from decern_jax.io import validation

_FOLDER = "complete_DATASET"
_IMAGES = "delete_png"
_TABLES = {"train": "train.xlsx", "test": "test.xlsx"}


def load_bronze_ding(
  path: str | os.PathLike[str],
  *,
  num_workers: int,
  num_classes: int,
  num_examples: Mapping[str, int] | None = None,
  cache_dir: str | os.PathLike[str] | None = None,
  progress: bool = True,
) -> Dataset:
  """Opens the release of BronzeDing: a folder of images and two tables.

  It holds `complete_DATASET` with the images `delete_png/<name>.png` and the
  tables `train.xlsx` and `test.xlsx`, see `read_table`. Ids are
  "train/<name>.png" and "test/<name>.png", in the order of the tables. Classes
  are the ages, whose names are "1", "2", … as the tables have numbers only.

  Args:
    path: The folder of the release, or `complete_DATASET` itself.
    num_workers: Threads that check the images, at least 1.
    num_classes: Number of ages.
    num_examples: Expected number of images of "train" and "test", if known.
    cache_dir: Where the outcome of the check is kept, so that it is made once;
      None checks each time.
    progress: Whether the check shows a progress bar, where there is a terminal.

  Returns:
    The data set, without a part `val`.

  Raises:
    ValueError: If a table or an image is missing or cannot be read, a table is
      malformed or of another size than is expected, or the pool lacks a class.

  References:
    Zhou et al., "Multi-Granularity Archaeological Dating of Chinese Bronze
    Dings Based on a Knowledge-Guided Relation Graph", CVPR 2023,
    https://github.com/zhourixin/bronze-Ding: the release is given on request.
  """
  root = _find_root(pathlib.Path(path).expanduser())
  sizes = num_examples or {}
  rows = {
    split: read_table(
      root / table, num_ages=num_classes, num_rows=sizes.get(split)
    )
    for split, table in _TABLES.items()
  }
  _check_no_class_is_empty(root, rows["train"], num_classes)
  files = {split: _find_images(root, split, rows[split]) for split in _TABLES}
  all_files = [*files["train"], *files["test"]]
  reasons = image_check.find_unreadable(
    all_files, num_workers=num_workers, cache_dir=cache_dir, progress=progress
  )
  _check_readable(root, all_files, reasons)
  _warn_of_overlap(root, rows)
  return Dataset(
    name="bronze_ding",
    class_names=tuple(str(age) for age in range(1, num_classes + 1)),
    train=_make_split(files["train"], rows["train"]),
    test=_make_split(files["test"], rows["test"]),
    val=None,
    fingerprint=image_check.digest(all_files),
  )


def _find_root(path: pathlib.Path) -> pathlib.Path:
  """Returns the folder of the tables, after a look for all that it holds."""
  if not path.is_dir():
    raise ValueError(
      f"Expected `path` to be the folder of BronzeDing, {path} is no folder."
    )
  root = path / _FOLDER if (path / _FOLDER).is_dir() else path
  missing = [name for name in _TABLES.values() if not (root / name).is_file()]
  if not (root / _IMAGES).is_dir():
    missing.append(_IMAGES)
  if missing:
    raise ValueError(
      f"Expected `path` to be the folder of BronzeDing, which has {_FOLDER} "
      f"with {_IMAGES}, train.xlsx and test.xlsx; {root} lacks "
      f"[{validation.shorten(missing)}]."
    )
  return root


def _check_no_class_is_empty(
  root: pathlib.Path, rows: Sequence[Row], num_classes: int
) -> None:
  """Refuses a pool without an image of a class."""
  missing = set(range(1, num_classes + 1)) - {row.age for row in rows}
  if missing:
    raise ValueError(
      f"Expected an image of every age in {root / _TABLES['train']}, got none "
      f"of [{validation.shorten(map(str, sorted(missing)))}]."
    )


def _find_images(
  root: pathlib.Path, split: str, rows: Sequence[Row]
) -> list[ImageFile]:
  """Describes the images of a table without opening them."""
  paths = [root / _IMAGES / f"{row.name}.png" for row in rows]
  missing = [path.name for path in paths if not path.is_file()]
  if missing:
    raise ValueError(
      f"Expected every image of {_TABLES[split]} in {root / _IMAGES}, got none "
      f"for {len(missing)} of {len(paths)}: {validation.shorten(missing)}."
    )
  return [
    _image_file(path, split, row) for path, row in zip(paths, rows, strict=True)
  ]


def _image_file(path: pathlib.Path, split: str, row: Row) -> ImageFile:
  """Describes one image."""
  status = path.stat()
  image_id = f"{split}/{row.name}.png"
  return ImageFile(
    image_id, path, str(row.age), status.st_size, status.st_mtime_ns
  )


def _check_readable(
  root: pathlib.Path, files: Sequence[ImageFile], reasons: Mapping[str, str]
) -> None:
  """Refuses unreadable images: without them the sizes are not published."""
  if reasons:
    shown = validation.shorten(
      f"{name} ({why})" for name, why in reasons.items()
    )
    raise ValueError(
      f"Expected readable images in {root / _IMAGES}, got {len(reasons)} of "
      f"{len(files)} that are not: {shown}."
    )


def _warn_of_overlap(
  root: pathlib.Path, rows: Mapping[str, Sequence[Row]]
) -> None:
  """Names images of both tables; the release is taken as it is."""
  train = {row.name for row in rows["train"]}
  both = [row.name for row in rows["test"] if row.name in train]
  if both:
    logging.warning(
      "Expected no test image of %s in the pool, got %d: %s.",
      root,
      len(both),
      validation.shorten(both),
    )


def _make_split(files: Sequence[ImageFile], rows: Sequence[Row]) -> Split:
  """Turns the listing of a split into the interface of data sources."""
  return Split(
    ids=tuple(file.id for file in files),
    labels=np.array([row.age - 1 for row in rows], np.int32),
    read=lambda position: image_check.read_image(files[position]),
  )
