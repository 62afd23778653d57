"""Which labels each image has, as a table says."""

from collections.abc import Sequence
import json
import os
import re
from typing import Any, NamedTuple

import numpy as np

from decern_jax.data.label_columns import (
  PLURAL_COLUMNS,
  Columns,
  find_columns,
)
from decern_jax.data.label_rows import Record, Table, read_table
from decern_jax.io.validation import repeated, shorten

# What the parts are called; each is a part of a `Dataset`.
_SPLITS = {
  "train": "train",
  "training": "train",
  "val": "val",
  "validation": "val",
  "test": "test",
}

_BINARY = {"0": 0, "0.0": 0, "false": 0, "1": 1, "1.0": 1, "true": 1}


class LabelTable(NamedTuple):
  """What a table says of images, row by row.

  Attributes:
    paths: The images, as they are written; no two are equal.
    rows: Where each is in the file, for messages.
    splits: "train", "val" or "test" of each, or None without such a column.
    class_names: Name of each label: columns in their order, names sorted.
    labels: int32 [images, classes], 0 or 1; for a single label per image int32
      [images], a position in `class_names`.
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
  """Reads the labels of images from a table of `label_rows.read_table`.

  There is a row per image. Its labels are in one column of 0 or 1 per label, or
  in one column that names them: parted by ";" or "|", or as a list of JSON.

  Args:
    path: The table.
    columns: Which column holds what, as far as the names do not tell; None:
      nothing is known.
    is_multi_label: For a column of names, whether an image may have several or
      none. None: where a cell is empty or lists them, or the column has a name
      of `PLURAL_COLUMNS`. Columns of 0 or 1 are of several labels always.

  Returns:
    What the table says.

  Raises:
    ValueError: If the table cannot be read, its columns are not told apart, an
      image is there twice, or a cell is not what its column holds; the row and
      the cell are shown.
  """
  table = read_table(path)
  columns = find_columns(table, columns or Columns())
  paths = [_parse_path(table, record, columns.path) for record in table.records]
  twice = repeated(paths)
  if twice:
    places = [r.number for r, p in _rows(table, paths) if p == twice[0]]
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
    rows=tuple(record.number for record in table.records),
    splits=_parse_splits(table, columns.split),
    class_names=tuple(names),
    labels=labels,
  )


def _rows(table: Table, values: Sequence[Any]):
  """Pairs the records with something of each."""
  return zip(table.records, values, strict=True)


def _cell(table: Table, record: Record, column: str, expected: str):
  """Returns what to raise for a cell that is not what its column holds."""
  return ValueError(
    f"Expected {expected} in column {column!r}, row {record.number} of "
    f"{table.file}, got {record.values[column]!r}."
  )


def _text(cell: Any) -> str:
  """Returns a cell as text; an empty one is an empty text."""
  return "" if cell is None else str(cell).strip()


def _parse_path(table: Table, record: Record, column: str) -> str:
  cell = record.values[column]
  if not isinstance(cell, str) or not cell.strip():
    raise _cell(table, record, column, "an image's path")
  return cell.strip()


def _parse_splits(table: Table, column: str | None) -> tuple[str, ...] | None:
  if column is None:
    return None
  splits = [_text(record.values[column]).lower() for record in table.records]
  for record, split in _rows(table, splits):
    if split not in _SPLITS:
      raise _cell(table, record, column, f"one of {sorted(_SPLITS)}")
  return tuple(_SPLITS[split] for split in splits)


def _parse_binary(table: Table, columns: Sequence[str]) -> np.ndarray:
  """Returns the labels of columns of 0 or 1."""
  labels = np.zeros((len(table.records), len(columns)), np.int32)
  wrong = {}
  for row, record in enumerate(table.records):
    for label, column in enumerate(columns):
      value = _BINARY.get(_text(record.values[column]).lower())
      if value is None:
        wrong.setdefault(
          column, f"{record.values[column]!r} in row {record.number}"
        )
      else:
        labels[row, label] = value
  if wrong:
    shown = shorten(f"{name!r}: {cell}" for name, cell in wrong.items())
    raise ValueError(
      f"Expected 0 or 1 in every column of labels of {table.file}, got others "
      f"in {{{shown}}}. Name what is no label in `ignored_columns`, or the "
      "labels in `binary_columns`."
    )
  return labels


def _parse_names(
  table: Table, column: str, is_multi_label: bool | None
) -> tuple[list[str], np.ndarray]:
  """Returns the names and the labels of a column of names."""
  lists = [_parse_list(table, record, column) for record in table.records]
  is_single = [len(names) == 1 for names in lists]
  if is_multi_label is None:
    is_plural = column.lower() in PLURAL_COLUMNS
    is_multi_label = is_plural or not all(is_single)
  class_names = sorted({name for names in lists for name in names}, key=_order)
  position = {name: label for label, name in enumerate(class_names)}
  if is_multi_label:
    labels = np.zeros((len(lists), len(class_names)), np.int32)
    for row, names in enumerate(lists):
      labels[row, [position[name] for name in names]] = 1
    return class_names, labels
  if not all(is_single):
    record = table.records[is_single.index(False)]
    raise _cell(table, record, column, "one label")
  return class_names, np.array([position[name] for (name,) in lists], np.int32)


def _order(name: str) -> tuple[int, str]:
  """Sorts numbers by their size, before all other names."""
  return (int(name), "") if re.fullmatch("[0-9]+", name) else (2**62, name)


def _parse_list(table: Table, record: Record, column: str) -> list[str]:
  """Returns the distinct names of a cell."""
  cell = record.values[column]
  if isinstance(cell, str) and cell.strip().startswith("["):
    try:
      cell = json.loads(cell)
    except ValueError:
      raise _cell(table, record, column, "a list of JSON") from None
  if not isinstance(cell, list):
    cell = re.split(r"[;|]", _text(cell))
  if any(isinstance(name, bool | dict | float | list) for name in cell):
    raise _cell(table, record, column, "names of labels")
  return list(dict.fromkeys(filter(None, map(_text, cell))))
