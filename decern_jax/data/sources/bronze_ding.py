"""BronzeDing: pictures of ancient vessels, and Excel tables that date them."""

from collections.abc import Mapping, Sequence
import dataclasses
import os
import pathlib
from typing import Any

from absl import logging
import numpy as np

from decern_jax.data import image_files
from decern_jax.data.dataset import Dataset, Split
from decern_jax.data.image_files import ImageFile
from decern_jax.data.registry import Options, Source, register
from decern_jax.data.table import read_excel
from decern_jax.io.validation import repeated, shorten

_FOLDER = "complete_DATASET"
_IMAGES = "delete_png"
_TABLES = {"train": "train.xlsx", "test": "test.xlsx"}

# Columns, counted from 0.
_NAME_COLUMN = 1
_AGE_COLUMN = 3


@dataclasses.dataclass(frozen=True)
class Row:
  """One image of a table.

  Attributes:
    name: Name of the image, without the extension of its file.
    age: Its age, a number from 1.
  """

  name: str
  age: int


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
  tables `train.xlsx` and `test.xlsx`, see `read_dates`. Ids are
  "train/<name>.png" and "test/<name>.png", in the order of the tables. The
  classes are the ages, named "1", "2", ..., because the tables give numbers.

  Args:
    path: The folder of the release, or `complete_DATASET` itself.
    num_workers: Threads that check the images, at least 1.
    num_classes: Number of ages.
    num_examples: Expected number of images of "train" and "test", if known.
    cache_dir: Folder that keeps the result of the check, so that it is made
      once. None checks each time.
    progress: Whether the check shows a progress bar, if there is a terminal.

  Returns:
    The data set, without `val`.

  Raises:
    ValueError: If a table or an image is missing or cannot be read, a table is
      malformed or of an unexpected size, or the pool lacks a class.

  References:
    Zhou et al., "Multi-Granularity Archaeological Dating of Chinese Bronze
    Dings Based on a Knowledge-Guided Relation Graph", CVPR 2023,
    https://github.com/zhourixin/bronze-Ding: the release is given on request.
  """
  root = _find_root(pathlib.Path(path).expanduser())
  sizes = num_examples or {}
  rows = {
    split: read_dates(
      root / table, num_ages=num_classes, num_rows=sizes.get(split)
    )
    for split, table in _TABLES.items()
  }
  _check_no_class_is_empty(root, rows["train"], num_classes)
  files = {split: _find_images(root, split, rows[split]) for split in _TABLES}
  all_files = [*files["train"], *files["test"]]
  reasons = image_files.find_unreadable(
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
    fingerprint=image_files.digest(all_files),
  )


def _find_root(path: pathlib.Path) -> pathlib.Path:
  """Returns the folder of the tables, and checks what it holds."""
  if not path.is_dir():
    raise ValueError(
      f"Expected `path` to be the folder of BronzeDing, got {path}, not a"
      " folder. The authors give it on request:"
      " https://github.com/zhourixin/bronze-Ding. Set `config.dataset.path`."
    )
  root = path / _FOLDER if (path / _FOLDER).is_dir() else path
  missing = [name for name in _TABLES.values() if not (root / name).is_file()]
  if not (root / _IMAGES).is_dir():
    missing.append(_IMAGES)
  if missing:
    raise ValueError(
      f"Expected `path` to be the folder of BronzeDing, which has {_FOLDER} "
      f"with {_IMAGES}, train.xlsx and test.xlsx; {root} lacks "
      f"[{shorten(missing)}]."
    )
  return root


def _check_no_class_is_empty(
  root: pathlib.Path, rows: Sequence[Row], num_classes: int
) -> None:
  """Checks that every age has a training image."""
  missing = set(range(1, num_classes + 1)) - {row.age for row in rows}
  if missing:
    raise ValueError(
      f"Expected an image of every age in {root / _TABLES['train']}, got none "
      f"of [{shorten(map(str, sorted(missing)))}]."
    )


def _find_images(
  root: pathlib.Path, split: str, rows: Sequence[Row]
) -> list[ImageFile]:
  """Lists the images of a table, without opening them."""
  paths = [root / _IMAGES / f"{row.name}.png" for row in rows]
  missing = [path.name for path in paths if not path.is_file()]
  if missing:
    raise ValueError(
      f"Expected every image of {_TABLES[split]} in {root / _IMAGES}, got none "
      f"for {len(missing)} of {len(paths)}: {shorten(missing)}."
    )
  return [
    _image_file(path, split, row) for path, row in zip(paths, rows, strict=True)
  ]


def _image_file(path: pathlib.Path, split: str, row: Row) -> ImageFile:
  """Returns one image of a table."""
  status = path.stat()
  image_id = f"{split}/{row.name}.png"
  return ImageFile(
    image_id, path, str(row.age), status.st_size, status.st_mtime_ns
  )


def _check_readable(
  root: pathlib.Path, files: Sequence[ImageFile], reasons: Mapping[str, str]
) -> None:
  """Checks that all images decode, as the published sizes count them."""
  if reasons:
    shown = shorten(f"{name} ({why})" for name, why in reasons.items())
    raise ValueError(
      f"Expected readable images in {root / _IMAGES}, got {len(reasons)} of "
      f"{len(files)} that are not: {shown}."
    )


def _warn_of_overlap(
  root: pathlib.Path, rows: Mapping[str, Sequence[Row]]
) -> None:
  """Warns of images that are in both tables. The release is not changed."""
  train = {row.name for row in rows["train"]}
  both = [row.name for row in rows["test"] if row.name in train]
  if both:
    logging.warning(
      "Expected no test image of %s in the pool, got %d: %s.",
      root,
      len(both),
      shorten(both),
    )


def _make_split(files: Sequence[ImageFile], rows: Sequence[Row]) -> Split:
  """Returns the examples of a split."""
  return image_files.make_split(
    files, np.array([row.age - 1 for row in rows], np.int32)
  )


def read_dates(
  table: pathlib.Path, *, num_ages: int, num_rows: int | None = None
) -> list[Row]:
  """Reads a table of BronzeDing.

  Below a row of headings, the second column has the name of an image, and the
  fourth its age. Empty rows are ignored.

  Args:
    table: The Excel file.
    num_ages: Number of ages, which are 1 to `num_ages`.
    num_rows: Expected number of images, or None.

  Returns:
    The images, in the order of the table; no two have the same name.

  Raises:
    ValueError: If the file is not an Excel file, a cell has a wrong type, an
      age is out of range, an image is listed twice, or the number of images is
      not the expected one.
  """
  rows = [
    _parse(table, number, cells)
    for number, cells in enumerate(read_excel(table), start=1)
    if number > 1 and any(cell is not None for cell in cells)
  ]
  _check_ages(table, rows, num_ages)
  names = repeated(row.name for row in rows)
  if names:
    raise ValueError(
      f"Expected every image once in {table}, got several of "
      f"[{shorten(names)}]."
    )
  if not rows or (num_rows is not None and len(rows) != num_rows):
    expected = "some" if num_rows is None else num_rows
    raise ValueError(f"Expected {expected} images in {table}, got {len(rows)}.")
  return rows


def _parse(table: pathlib.Path, number: int, cells: Sequence[Any]) -> Row:
  """Reads the name and the age; `number` is the number of the row in Excel."""
  name = _cell(cells, _NAME_COLUMN)
  age = _cell(cells, _AGE_COLUMN)
  if type(name) is int:  # a name of digits, which Excel read as a number
    name = str(name)
  if not isinstance(name, str) or not name.strip():
    raise ValueError(
      f"Expected the name of an image in cell 2 of row {number} of {table}, "
      f"got {name!r}."
    )
  if isinstance(age, float) and age.is_integer():
    age = int(age)
  if type(age) is not int:
    raise ValueError(
      f"Expected a whole number in cell 4 of row {number} of {table}, "
      f"got {age!r}."
    )
  return Row(name.strip(), age)


def _cell(cells: Sequence[Any], column: int) -> Any:
  """Returns a cell, None beyond the end of the row."""
  return cells[column] if column < len(cells) else None


def _check_ages(
  table: pathlib.Path, rows: Sequence[Row], num_ages: int
) -> None:
  """Checks the range of the ages."""
  for row in rows:
    if not 1 <= row.age <= num_ages:
      raise ValueError(
        f"Expected ages from 1 to {num_ages} in {table}, got {row.age} for "
        f"image {row.name!r}."
      )


@dataclasses.dataclass(frozen=True, kw_only=True)
class _BronzeDing(Source):
  """The release of BronzeDing."""

  num_classes: int = 11
  num_train: int | None = 1470
  preparation: str = (
    "its authors give it on request, see "
    "https://github.com/zhourixin/bronze-Ding, and `config.dataset.path` is the"
    " folder that holds its complete_DATASET"
  )

  def load(self, options: Options) -> Dataset:
    return load_bronze_ding(
      options.required_path("the folder of BronzeDing"),
      num_workers=options.num_workers,
      num_classes=self.num_classes,
      num_examples=self.sizes(),
      cache_dir=options.cache_dir,
    )


register("bronze_ding", _BronzeDing())
