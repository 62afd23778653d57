"""Tables that spreadsheets open and save: CSV, also with ; or tabs.

The cell `label` holds the one class of an image. Where an image may have
several, the cell `labels` holds their names with ; between them, or `-` if it
has none of them. `?` says that the image was skipped; an image with an empty
cell is not answered.

Cells are written as they are. A spreadsheet may take a name that begins with
=, +, - or @ for a formula, and one such as 001 for a number: mark the columns
as text when opening the file. An id that was changed so is refused by name
later.
"""

import codecs
from collections.abc import Iterator
import csv
import io
import re
from typing import Any, NamedTuple

from etils import epath

from decern_jax.annotation import answer
from decern_jax.annotation.formats import writing
from decern_jax.annotation.formats.reading import NONE, Gathering, show
from decern_jax.annotation.query import Item, Query

_DELIMITERS = (",", ";", "\t")
_SEPARATOR = ";"
_NAMES = ("id", "path")
_LABELS = ("label", "labels")

# Of the CSV that Label Studio exports, whose ids are those of its tasks.
_FOREIGN = "annotation_id"

# A cell with more lines is taken for one whose quote was never closed, which
# would take all that follows with it.
_MAX_LINES = 100

# Of the texts that spreadsheets save, those that are not UTF-8.
_ENCODINGS = {
  codecs.BOM_UTF16_LE: "utf-16",
  codecs.BOM_UTF16_BE: "utf-16",
}


class _Header(NamedTuple):
  """Where the cells of a table are.

  Attributes:
    delimiter: What is between two cells.
    columns: Place of each column, by name in lower case.
    label: Name of the column of labels.
    width: Number of columns.
    num_lines: Lines up to the first row.
  """

  delimiter: str
  columns: dict[str, int]
  label: str
  width: int
  num_lines: int


def matches(content: bytes, value: Any) -> bool:
  """Says whether a file begins with the columns of such a table.

  Args:
    content: The file.
    value: What it holds as JSON; None if it is not valid.
  """
  try:
    return value is None and bool(_header(_lines(content)))
  except ValueError:
    return False


def read(content: bytes) -> answer.Found:
  """Reads answers; a row that is none costs that row alone.

  Args:
    content: The file: UTF-8, or UTF-16 with its mark; columns `id` (or `path`)
      and `label` or `labels`, and optionally `annotator` and `time`.

  Returns:
    The answers, and what was wrong with the other rows.

  Raises:
    ValueError: If it has no such columns.
  """
  gathering = Gathering(has_reserved=True)
  lines = _lines(content)
  header = _header(lines)
  for number, row in _rows(lines, header, gathering):
    _read_row(f"line {number}", row, header, gathering)
  return gathering.found()


def write(query: Query, folder: epath.PathLike) -> tuple[epath.Path, ...]:
  """Writes a query as a table whose column of labels is to be filled.

  Args:
    query: The query.
    folder: Where the file is to be.

  Returns:
    The file.

  Raises:
    OSError: If it cannot be written.
    ValueError: If the name of a class cannot be told from other entries.
  """
  writing.check_class_names(query)
  _check_separator(query)
  text = io.StringIO(newline="")
  writer = csv.writer(text)
  label = _LABELS[query.is_multi_label]
  writer.writerow(
    ["id", "path", "score", "predicted", "probability", label, "annotator"]
  )
  writer.writerows(_cells(query, item) for item in query.items)
  # With the mark, without which spreadsheets do not take it for UTF-8. The name
  # of a file may be no valid text, and is written as it is on the disk.
  content = text.getvalue().encode("utf-8-sig", "surrogateescape")
  return writing.save(folder, {writing.name_of(query, "csv"): content})


def _cells(query: Query, item: Item) -> list[Any]:
  shown = writing.predicted(query, item.predictions)
  names = _SEPARATOR.join(name for name, _ in shown)
  probability = item.predictions[0][1] if item.predictions else None
  return [item.id, item.path, item.score, names, probability, None, None]


def _check_separator(query: Query) -> None:
  found = [name for name in query.class_names if _SEPARATOR in name]
  if query.is_multi_label and found:
    raise ValueError(
      f"Expected no {_SEPARATOR!r} in names of classes, which is between the"
      f" labels of a table, got {found}."
    )


def _lines(content: bytes) -> list[str]:
  """Returns the lines of a file with their ends."""
  encoding = _ENCODINGS.get(content[:2], "utf-8-sig")
  errors = "surrogateescape" if encoding == "utf-8-sig" else "replace"
  return list(io.StringIO(content.decode(encoding, errors), newline=""))


def _header(lines: list[str]) -> _Header:
  start = next((n for n, line in enumerate(lines) if line.strip()), 0)
  delimiters = _DELIMITERS
  # How a spreadsheet is told the delimiter.
  if told := re.fullmatch(
    r"sep=(\t|[^\w\s\"])\s*", "".join(lines[start : start + 1])
  ):
    delimiters, start = (told[1],), start + 1
  row = lines[start] if start < len(lines) else ""
  for delimiter in delimiters:
    columns = _columns(row, delimiter)
    if set(columns) & {*_NAMES} and set(columns) & {*_LABELS}:
      return _checked(_Header(delimiter, columns, "", 0, start + 1), row)
  raise ValueError(
    "Expected the columns id (or path) and label (or labels) in the first line,"
    f" got {show(row.strip())}."
  )


def _columns(row: str, delimiter: str) -> dict[str, int]:
  try:
    cells = next(csv.reader([row], delimiter=delimiter, strict=True), [])
  except csv.Error:
    return {}
  return {cell.strip().lower(): n for n, cell in reversed([*enumerate(cells)])}


def _checked(header: _Header, row: str) -> _Header:
  """Returns a header with its column of labels, of which there is one."""
  cells = next(csv.reader([row], delimiter=header.delimiter))
  if _FOREIGN in header.columns:
    raise ValueError(
      f"Expected no column {_FOREIGN!r}: of Label Studio, export JSON instead."
    )
  found = [c.strip() for c in cells if c.strip().lower() in _LABELS]
  if len(found) != 1:
    raise ValueError(f"Expected one column of labels, got {found}.")
  return header._replace(label=found[0].lower(), width=len(cells))


def _rows(
  lines: list[str], header: _Header, gathering: Gathering
) -> Iterator[tuple[int, list[str]]]:
  """Yields the rows with the number of their first line."""
  start = header.num_lines
  while start < len(lines):
    end = min(start + _MAX_LINES, len(lines))
    window = (lines[n] for n in range(start, end))
    reader = csv.reader(window, delimiter=header.delimiter, strict=True)
    try:
      row, num_lines, problem = next(reader), reader.line_num, ""
    except csv.Error as error:
      row, num_lines, problem = [], 1, str(error)
    # A quote that was closed on another line takes the cells between with it.
    if num_lines > 1 and len(row) < header.width:
      row, num_lines, problem = [], 1, "a quote that is not closed"
    if problem:
      gathering.refuse(
        f"line {start + 1}",
        f"Expected cells of a table, got {show(lines[start])}: {problem}.",
      )
    yield start + 1, row
    start += num_lines


def _read_row(
  where: str, row: list[str], header: _Header, gathering: Gathering
) -> None:
  def cell(name: str) -> str:
    place = header.columns.get(name, len(row))
    return row[place] if place < len(row) else ""

  label = cell(header.label).strip()
  if any(extra.strip() for extra in row[header.width :]):
    gathering.refuse(
      where, f"Expected at most {header.width} cells, got {show(row)}."
    )
  elif label:
    try:
      names = _names(label, header.label)
    except ValueError as error:
      gathering.refuse(where, error)
      return
    gathering.add(
      where,
      names,
      id=cell("id") or cell("path"),
      annotator=cell("annotator").strip(),
      time=cell("time").strip(),
    )


def _names(label: str, column: str) -> list[str]:
  if column == _LABELS[0]:
    if label == NONE:
      raise ValueError(
        f"Expected a label, got {NONE!r}, which says 'none of the labels' in a"
        " column `labels`."
      )
    return [label]
  names = [name for name in label.split(_SEPARATOR) if name.strip()]
  if not names:
    raise ValueError(f"Expected names or {NONE!r}, got {label!r}.")
  return [name.strip() for name in names]
