"""The tables of BronzeDing: Excel files that date images."""

from collections.abc import Sequence
import contextlib
import pathlib
from typing import Any, NamedTuple
import zipfile
import zlib

import openpyxl

from decern_jax.io import validation

# Columns, counted from 0.
_NAME_COLUMN = 1
_AGE_COLUMN = 3

# Excel files are archives of XML, and openpyxl has no error of its own for the
# ways in which one can be damaged.
_UNREADABLE = (
  LookupError,
  OSError,
  RuntimeError,
  SyntaxError,
  TypeError,
  ValueError,
  zipfile.BadZipFile,
  zlib.error,
)


class Row(NamedTuple):
  """One image of a table.

  Attributes:
    name: Name of the image, without the ending of its file.
    age: Its age, a number from 1.
  """

  name: str
  age: int


def read_table(
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
    ValueError: If the file is no Excel file, a cell is of another kind, an age
      is outside the range, an image is there twice, or the number of images is
      not the one that is expected.
  """
  rows = [
    _parse(table, number, cells)
    for number, cells in enumerate(_read_cells(table), start=1)
    if number > 1 and any(cell is not None for cell in cells)
  ]
  _check_ages(table, rows, num_ages)
  names = validation.repeated(row.name for row in rows)
  if names:
    raise ValueError(
      f"Expected every image once in {table}, got several of "
      f"[{validation.shorten(names)}]."
    )
  if not rows or (num_rows is not None and len(rows) != num_rows):
    expected = "some" if num_rows is None else num_rows
    raise ValueError(f"Expected {expected} images in {table}, got {len(rows)}.")
  return rows


def _read_cells(table: pathlib.Path) -> list[tuple[Any, ...]]:
  """Returns the cells of the first sheet, row by row."""
  try:
    book = openpyxl.load_workbook(table, read_only=True, data_only=True)
    with contextlib.closing(book):
      sheet = book.worksheets[0]
      sheet.reset_dimensions()  # some programs record wrong ones
      return list(sheet.iter_rows(values_only=True))
  except _UNREADABLE as error:
    raise ValueError(
      f"Expected an Excel file in {table}, got an error: {error}."
    ) from error


def _parse(table: pathlib.Path, number: int, cells: Sequence[Any]) -> Row:
  """Reads the two cells that count; `number` is the row's in Excel."""
  name = _cell(cells, _NAME_COLUMN)
  age = _cell(cells, _AGE_COLUMN)
  if type(name) is int:  # a name of digits that Excel took for a number
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
  """Returns a cell; rows end with the last that is not empty."""
  return cells[column] if column < len(cells) else None


def _check_ages(
  table: pathlib.Path, rows: Sequence[Row], num_ages: int
) -> None:
  """Refuses an age that is no class."""
  for row in rows:
    if not 1 <= row.age <= num_ages:
      raise ValueError(
        f"Expected ages from 1 to {num_ages} in {table}, got {row.age} for "
        f"image {row.name!r}."
      )
