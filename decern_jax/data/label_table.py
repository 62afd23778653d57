"""Label files: which labels and which split each image of a table has."""

from collections.abc import Iterator, Sequence
import dataclasses
import hashlib
import json
import os
import re
from typing import Any

from absl import logging
from jaxtyping import Int
import numpy as np

from decern_jax.data.table import Row, Table, read_table
from decern_jax.io.validation import repeated, shorten

PATH_COLUMNS = (
  "path",
  "image",
  "image_path",
  "file",
  "filename",
  "file_name",
  "image\\label",
)
"""Names of a column of images, in any case."""

SPLIT_COLUMNS = ("split", "subset")
"""Names of a column of splits, in any case."""

SINGULAR_COLUMNS = ("class", "label")
PLURAL_COLUMNS = ("classes", "labels", "tags")
"""Names of a column of label names, in any case."""

SPLITS = ("train", "test", "val")

# What a table may call the splits.
_SPLIT_NAMES = {
  "train": "train",
  "training": "train",
  "val": "val",
  "validation": "val",
  "test": "test",
}

_BINARY = {"0": 0, "0.0": 0, "false": 0, "1": 1, "1.0": 1, "true": 1}


@dataclasses.dataclass(frozen=True)
class Columns:
  """What each column of a table holds; None if its name says it.

  Attributes:
    path: Column of the images.
    split: Column of the splits: "train", "val" or "test".
    names: Column of label names.
    binary: Columns of 0 or 1, one per label. If it is empty and there is no
      column of label names, all columns without another meaning.
    ignored: Columns without a meaning.
  """

  path: str | None = None
  split: str | None = None
  names: str | None = None
  binary: tuple[str, ...] = ()
  ignored: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class LabelTable:
  """The labels of images, row by row.

  Attributes:
    paths: The images, as the table names them; no two are equal.
    rows: Row of each image in the file, for messages.
    splits: "train", "val" or "test" of each image, or None without such a
      column.
    class_names: Name of each label: columns in their order, names sorted.
    labels: int32 [images, classes], 0 or 1; with a single label per image int32
      [images], an index into `class_names`.
  """

  paths: tuple[str, ...]
  rows: tuple[int, ...]
  splits: tuple[str, ...] | None
  class_names: tuple[str, ...]
  labels: np.ndarray


def read_label_table(
  path: str | os.PathLike[str],
  *,
  columns: Columns | None = None,
  is_multi_label: bool | None = None,
) -> LabelTable:
  """Reads the labels of images from a table of `table.read_table`.

  The table has a row per image. Its labels are in one column of 0 or 1 per
  label, or in one column of names: separated by ";" or "|", or a JSON list.

  Args:
    path: The table.
    columns: What the columns hold whose names do not say it.
    is_multi_label: Whether an image may have several labels or none, if a
      column names them. None means that it may if a cell is empty or lists
      several labels, or the column has a name of `PLURAL_COLUMNS`. Columns of 0
      or 1 always allow several labels.

  Raises:
    ValueError: If the table cannot be read, the meaning of its columns is not
      clear, an image is listed twice, or a cell does not fit its column. The
      message shows the row and the cell.
  """
  table = read_table(path)
  columns = find_columns(table, columns or Columns())
  paths = [_parse_path(table, row, columns.path) for row in table.rows]
  twice = repeated(paths)
  if twice:
    places = [row.number for row, p in _rows(table, paths) if p == twice[0]]
    raise ValueError(
      f"Expected every image once in {table.file}, got several of "
      f"[{shorten(twice)}], the first in rows {shorten(map(str, places))}."
    )
  if columns.names is None:
    names, labels = columns.binary, _parse_binary(table, columns.binary)
  else:
    names, labels = _parse_names(table, columns.names, is_multi_label)
  if len(names) < 2:
    raise ValueError(
      f"Expected at least 2 labels in {table.file}, got {list(names)}."
    )
  return LabelTable(
    paths=tuple(paths),
    rows=tuple(row.number for row in table.rows),
    splits=_parse_splits(table, columns.split),
    class_names=tuple(names),
    labels=labels,
  )


def find_columns(table: Table, given: Columns) -> Columns:
  """Finds out what the columns of a table hold.

  Args:
    table: The table. Its cells are not checked.
    given: What the user has said; None or empty if the names say it.

  Returns:
    The columns, with `path`, and with `names` or `binary`.

  Raises:
    ValueError: If a given column is missing, several columns have names of one
      meaning, or there is no column of images.
  """
  wanted = [given.path, given.split, given.names, *given.binary, *given.ignored]
  missing = [
    name for name in wanted if name is not None and name not in table.columns
  ]
  if missing:
    raise ValueError(
      f"Expected the columns {missing} in {table.file}, got "
      f"{list(table.columns)}."
    )
  path = given.path or _find_column(table, given, PATH_COLUMNS, "path_column")
  if path is None:
    raise ValueError(
      f"Expected a column of images named one of {PATH_COLUMNS} in "
      f"{table.file}, got {list(table.columns)}. Name it in `path_column`."
    )
  split = given.split
  split = split or _find_column(table, given, SPLIT_COLUMNS, "split_column")
  names, binary = given.names, given.binary
  if names is None and not binary:
    known = SINGULAR_COLUMNS + PLURAL_COLUMNS
    names = _find_column(table, given, known, "label_column")
  if names is None and not binary:
    others = {path, split, *given.ignored}
    binary = tuple(name for name in table.columns if name not in others)
  return Columns(path, split, names, binary, given.ignored)


def _find_column(
  table: Table, given: Columns, known: Sequence[str], option: str
) -> str | None:
  """Returns the only column with a known name, or None."""
  found = [
    name
    for name in table.columns
    if name.lower() in known and name not in given.ignored
  ]
  if len(found) > 1:
    raise ValueError(
      f"Expected one column among {found} of {table.file} to be meant, got "
      f"{len(found)}. Name it in `{option}`."
    )
  return found[0] if found else None


def random_splits(
  ids: Sequence[str], *, test_share: float, seed: int
) -> np.ndarray:
  """Divides examples at random into train and test.

  The split of an example depends only on its id and the seed, so that it stays
  the same when other examples come or go. The share is met on average.

  Args:
    ids: Name of each example.
    test_share: Expected share of the test split, in (0, 1).
    seed: Seed of the draw.

  Returns:
    [examples], "train" or "test".

  Raises:
    ValueError: If the share is outside its range.
  """
  if not 0.0 < test_share < 1.0:
    raise ValueError(f"Expected 0 < `test_share` < 1, got {test_share}.")

  def draw(name: str) -> float:
    hashed = hashlib.sha256(f"{seed}\0{name}".encode()).digest()
    return int.from_bytes(hashed[:8]) / 2**64

  return np.array(
    ["test" if draw(name) < test_share else "train" for name in ids]
  )


def find_splits(
  file: str | os.PathLike[str],
  table: LabelTable,
  *,
  test_share: float,
  split_seed: int,
) -> np.ndarray:
  """Returns the split of each image of a table.

  Logs a warning for labels that no training image has.

  Args:
    file: The file of the table, for messages.
    table: Its content.
    test_share: As for `random_splits`, if no column holds the splits.
    split_seed: Seed of that draw.

  Returns:
    [images], "train", "test" or "val".

  Raises:
    ValueError: If train or test has no image, or, with a single label per
      image, a label has no training image.
  """
  if table.splits is not None:
    splits, origin = np.array(table.splits), "its column of splits"
  else:
    splits = random_splits(table.paths, test_share=test_share, seed=split_seed)
    origin = f"a random test share of {test_share}"
  sizes = {split: int(np.sum(splits == split)) for split in SPLITS}
  if not sizes["train"] or not sizes["test"]:
    raise ValueError(
      f"Expected images for train and for test in {file}, got {sizes} by "
      f"{origin}."
    )
  _check_labels(file, table, splits)
  return splits


def _check_labels(
  file: str | os.PathLike[str], table: LabelTable, splits: np.ndarray
) -> None:
  """Checks that every label has a training image."""
  labels = table.labels[splits == "train"]
  is_single = labels.ndim == 1
  if is_single:
    counts = np.bincount(labels, minlength=len(table.class_names))
  else:
    counts = labels.sum(axis=0)
  empty = [table.class_names[label] for label in np.flatnonzero(counts == 0)]
  if empty and is_single:
    raise ValueError(
      f"Expected a training image of every label of {file}, got none of "
      f"[{shorten(empty)}]."
    )
  if empty:
    logging.warning(
      "Expected a positive training image of every label of %s, got none of "
      "[%s]: they are never learned.",
      file,
      shorten(empty),
    )


def _rows(table: Table, values: Sequence[Any]) -> Iterator[tuple[Row, Any]]:
  """Pairs the rows with one value each."""
  return zip(table.rows, values, strict=True)


def _cell_error(
  table: Table, row: Row, column: str, expected: str
) -> ValueError:
  """Returns the error of a cell that does not fit its column."""
  return ValueError(
    f"Expected {expected} in column {column!r}, row {row.number} of "
    f"{table.file}, got {row.values[column]!r}."
  )


def _text(cell: Any) -> str:
  """Returns a cell as text; an empty cell as an empty text."""
  return "" if cell is None else str(cell).strip()


def _parse_path(table: Table, row: Row, column: str | None) -> str:
  assert column is not None  # `find_columns` returns one
  cell = row.values[column]
  if not isinstance(cell, str) or not cell.strip():
    raise _cell_error(table, row, column, "an image's path")
  return cell.strip()


def _parse_splits(table: Table, column: str | None) -> tuple[str, ...] | None:
  if column is None:
    return None
  splits = [_text(row.values[column]).lower() for row in table.rows]
  for row, split in _rows(table, splits):
    if split not in _SPLIT_NAMES:
      raise _cell_error(table, row, column, f"one of {sorted(_SPLIT_NAMES)}")
  return tuple(_SPLIT_NAMES[split] for split in splits)


def _parse_binary(
  table: Table, columns: Sequence[str]
) -> Int[np.ndarray, "images classes"]:
  """Returns the labels of columns of 0 or 1."""
  labels = np.zeros((len(table.rows), len(columns)), np.int32)
  wrong = {}
  for index, row in enumerate(table.rows):
    for label, column in enumerate(columns):
      value = _BINARY.get(_text(row.values[column]).lower())
      if value is None:
        wrong.setdefault(column, f"{row.values[column]!r} in row {row.number}")
      else:
        labels[index, label] = value
  if wrong:
    shown = shorten(f"{name!r}: {cell}" for name, cell in wrong.items())
    raise ValueError(
      f"Expected 0 or 1 in every column of labels of {table.file}, got others "
      f"in {{{shown}}}. Name columns that are not labels in `ignored_columns`, "
      "or the labels in `binary_columns`."
    )
  return labels


def _parse_names(
  table: Table, column: str, is_multi_label: bool | None
) -> tuple[list[str], np.ndarray]:
  """Returns the names and the labels of a column of label names."""
  lists = [_parse_list(table, row, column) for row in table.rows]
  is_single = [len(names) == 1 for names in lists]
  if is_multi_label is None:
    is_plural = column.lower() in PLURAL_COLUMNS
    is_multi_label = is_plural or not all(is_single)
  class_names = sorted(
    {name for names in lists for name in names}, key=_sort_key
  )
  label_of = {name: label for label, name in enumerate(class_names)}
  if is_multi_label:
    labels = np.zeros((len(lists), len(class_names)), np.int32)
    for index, names in enumerate(lists):
      labels[index, [label_of[name] for name in names]] = 1
    return class_names, labels
  if not all(is_single):
    row = table.rows[is_single.index(False)]
    raise _cell_error(table, row, column, "one label")
  return class_names, np.array([label_of[name] for (name,) in lists], np.int32)


def _sort_key(name: str) -> tuple[bool, int, str]:
  """Sorts numbers by their size, before all other names."""
  is_number = re.fullmatch("[0-9]+", name) is not None
  return (not is_number, int(name) if is_number else 0, name)


def _parse_list(table: Table, row: Row, column: str) -> list[str]:
  """Returns the distinct names of a cell."""
  cell = row.values[column]
  if isinstance(cell, str) and cell.strip().startswith("["):
    try:
      cell = json.loads(cell)
    except ValueError:
      raise _cell_error(table, row, column, "a list of JSON") from None
  if not isinstance(cell, list):
    cell = re.split(r"[;|]", _text(cell))
  if any(isinstance(name, bool | dict | float | list) for name in cell):
    raise _cell_error(table, row, column, "names of labels")
  return list(dict.fromkeys(filter(None, map(_text, cell))))
