"""Tables with a heading: CSV, Excel, and JSON lines."""

from collections.abc import Callable, Iterable, Iterator
import contextlib
import csv
import dataclasses
import json
import os
import pathlib
from typing import Any
import zipfile
import zlib

from decern_jax.io import extras
from decern_jax.io.validation import repeated, shorten

# The first of these in the heading of a text file separates its cells.
_DELIMITERS = (",", "\t", ";")

# The errors that openpyxl raises for damaged files, which are archives of XML.
_UNREADABLE_EXCEL = (
  LookupError,
  OSError,
  RuntimeError,
  SyntaxError,
  TypeError,
  ValueError,
  zipfile.BadZipFile,
  zlib.error,
)


@dataclasses.dataclass(frozen=True)
class Row:
  """One row of a table.

  Attributes:
    number: Line or row in the file, from 1, for messages.
    values: Cell of each column: text; in JSON and Excel any value, None for an
      empty cell.
  """

  number: int
  values: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Table:
  """The content of a table.

  Attributes:
    file: The file.
    columns: Names of the columns, in order; no two are equal.
    rows: The rows below the heading, in order, each with all columns.
  """

  file: pathlib.Path
  columns: tuple[str, ...]
  rows: tuple[Row, ...]


def read_table(path: str | os.PathLike[str]) -> Table:
  """Reads a table with a heading.

  Args:
    path: A text file whose cells are separated by commas, tabs or semicolons
      (`.csv`, `.tsv`, `.txt`; the first of these in the heading), an Excel file
      (`.xlsx`, its first sheet), or a JSON object per line (`.jsonl`). Empty
      rows are skipped.

  Returns:
    Its content, at least one row.

  Raises:
    ValueError: If the file is missing or has another format, a column occurs
      twice, or the cells of a row do not match the heading.
  """
  file = pathlib.Path(path).expanduser()
  read = _READERS.get(file.suffix.lower())
  if read is None:
    raise ValueError(
      f"Expected a table, one of {sorted(_READERS)}, got {str(file)!r}."
    )
  if not file.is_file():
    raise ValueError(f"Expected a table in {file}, got no such file.")
  found = read(file)
  columns = tuple(next(found, Row(1, {})).values)
  rows = tuple(found)
  if not rows:
    raise ValueError(f"Expected rows below a heading in {file}, got none.")
  return Table(file, columns, rows)


def read_excel(file: pathlib.Path) -> list[list[Any]]:
  """Reads the cells of the first sheet of an Excel file.

  Returns:
    The rows, all of one length; None for an empty cell.

  Raises:
    ValueError: If it is not an Excel file, or damaged, or openpyxl is missing.
  """
  with extras.needed("excel", f"Reading {file}"):
    import openpyxl

  try:
    book = openpyxl.load_workbook(file, read_only=True, data_only=True)
    with contextlib.closing(book):
      sheet = book.worksheets[0]
      sheet.reset_dimensions()  # some programs record wrong ones
      rows = [list(row) for row in sheet.iter_rows(values_only=True)]
  except _UNREADABLE_EXCEL as error:
    raise ValueError(
      f"Expected an Excel file in {file}, got an error: {error}."
    ) from error
  width = max(map(len, rows), default=0)
  return [row + [None] * (width - len(row)) for row in rows]


def _read_text(file: pathlib.Path) -> Iterator[Row]:
  """Yields the heading as a row, then the rows."""
  with file.open(newline="", encoding="utf-8-sig") as stream:
    heading = stream.readline()
    stream.seek(0)
    found = [mark for mark in _DELIMITERS if mark in heading]
    reader = csv.reader(stream, delimiter=found[0] if found else ",")
    yield from _by_heading(file, ((reader.line_num, row) for row in reader))


def _read_excel(file: pathlib.Path) -> Iterator[Row]:
  """Yields the heading as a row, then the rows."""
  yield from _by_heading(file, enumerate(read_excel(file), start=1))


def _by_heading(
  file: pathlib.Path, rows: Iterable[tuple[int, list[Any]]]
) -> Iterator[Row]:
  """Names the cells of each row by those of the first row."""
  columns = None
  for number, cells in rows:
    if all(cell in (None, "") for cell in cells):
      continue
    if columns is None:
      columns = _heading(file, cells)
    elif len(cells) != len(columns):
      raise ValueError(
        f"Expected {len(columns)} cells in row {number} of {file}, as in the "
        f"heading, got {len(cells)}."
      )
    yield Row(number, dict(zip(columns, cells, strict=True)))


def _heading(file: pathlib.Path, cells: list[Any]) -> list[str]:
  """Returns the names of the columns."""
  columns = [str("" if cell is None else cell).strip() for cell in cells]
  twice = repeated(columns)
  if twice:
    raise ValueError(
      f"Expected every column once in {file}, got several of "
      f"[{shorten(map(repr, twice))}]."
    )
  return columns


def _read_json(file: pathlib.Path) -> Iterator[Row]:
  """Yields the heading as a row, then the rows."""
  columns = None
  for number, line in enumerate(
    file.read_text(encoding="utf-8").splitlines(), start=1
  ):
    if not line.strip():
      continue
    values = _parse_object(file, number, line)
    if columns is None:
      columns = set(values)
      yield Row(number, values)
    if set(values) != columns:
      raise ValueError(
        f"Expected the keys {sorted(columns)} in row {number} of {file}, as in "
        f"the first, got {sorted(values)}."
      )
    yield Row(number, values)


def _parse_object(file: pathlib.Path, number: int, line: str) -> dict[str, Any]:
  """Reads one line of JSON."""
  try:
    values = json.loads(line)
  except (ValueError, RecursionError) as error:
    raise ValueError(
      f"Expected JSON in row {number} of {file}, got: {error}."
    ) from error
  if not isinstance(values, dict) or not values:
    raise ValueError(
      f"Expected an object in row {number} of {file}, got {values!r}."
    )
  return values


_READERS: dict[str, Callable[[pathlib.Path], Iterator[Row]]] = {
  ".csv": _read_text,
  ".jsonl": _read_json,
  ".tsv": _read_text,
  ".txt": _read_text,
  ".xlsx": _read_excel,
}
