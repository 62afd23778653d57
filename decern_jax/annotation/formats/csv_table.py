"""Tables that spreadsheets open and save: CSV with commas, semicolons or tabs.

The column `label` holds the one class of an image. Where images may have
several labels, the column `labels` holds class names separated by `;`, or `-`
for an image with none of them. `?` means that the image was skipped, and an
empty cell that it is not answered yet.

Cells are written as they are. A spreadsheet may take a name that begins with
=, +, - or @ for a formula, and a name such as 001 for a number, so the columns
should be opened as text. An id that was changed in this way fits no image, and
is refused by name later.
"""

import codecs
from collections.abc import Iterator
import csv
import io
import re
from typing import Any, NamedTuple

from etils import epath

from decern_jax.annotation.answers import ParsedAnswers
from decern_jax.annotation.formats import format as shared
from decern_jax.annotation.formats.format import (
  NONE,
  AnswerCollector,
  Format,
  show,
)
from decern_jax.annotation.query import Item, Query

_DELIMITERS = (",", ";", "\t")
_LABEL_SEPARATOR = ";"
_ID_COLUMNS = ("id", "path")
_LABEL_COLUMNS = ("label", "labels")

# A column of the CSV export of Label Studio, whose ids are task numbers.
_LABEL_STUDIO_COLUMN = "annotation_id"

# A cell with more lines is taken for a quote that was never closed, which would
# swallow all the rows after it.
_MAX_CELL_LINES = 100

# Spreadsheets save UTF-8 or, marked by these bytes, UTF-16.
_ENCODINGS = {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


class _Header(NamedTuple):
  """The layout of a table.

  Attributes:
    delimiter: The character between two cells.
    columns: Index of each column, by name in lower case.
    label: Name of the column with the labels.
    width: Number of columns.
    num_lines: Number of lines before the first row.
  """

  delimiter: str
  columns: dict[str, int]
  label: str
  width: int
  num_lines: int


def matches(content: bytes, value: Any) -> bool:
  """Returns whether a file begins with the columns of such a table."""
  try:
    return value is None and bool(_parse_header(_lines(content)))
  except ValueError:
    return False


def read(content: bytes) -> ParsedAnswers:
  """Reads answers. An invalid row does not affect the others.

  Args:
    content: The file, in UTF-8 or in UTF-16 with a byte order mark, with the
      columns `id` (or `path`) and `label` (or `labels`), and optionally
      `annotator` and `time`.

  Raises:
    ValueError: If it does not have these columns.
  """
  collector = AnswerCollector(has_reserved=True)
  lines = _lines(content)
  header = _parse_header(lines)
  for number, row in _rows(lines, header, collector):
    with collector.item(f"line {number}"):
      _read_row(row, header, collector)
  return collector.result()


def write(query: Query, folder: epath.PathLike) -> tuple[epath.Path, ...]:
  """Writes a query as a table with an empty column of labels to fill in.

  Raises:
    OSError: If the file cannot be written.
    ValueError: If a class name has a special meaning in the table.
  """
  shared.check_class_names(query)
  ambiguous = [name for name in query.class_names if _LABEL_SEPARATOR in name]
  if query.is_multi_label and ambiguous:
    raise ValueError(
      f"Expected no {_LABEL_SEPARATOR!r} in class names, which separates the"
      f" labels of a table, got {ambiguous}."
    )
  text = io.StringIO(newline="")
  writer = csv.writer(text)
  label = _LABEL_COLUMNS[query.is_multi_label]
  writer.writerow(
    ["id", "path", "score", "predicted", "probability", label, "annotator"]
  )
  writer.writerows(_cells(query, item) for item in query.items)
  # Spreadsheets recognise UTF-8 by the byte order mark. File names that are not
  # valid Unicode are written with their bytes on the disk.
  content = text.getvalue().encode("utf-8-sig", "surrogateescape")
  return shared.save(folder, {shared.file_name(query, "csv"): content})


FORMAT = Format(
  name="csv",
  title="a table with the columns id (or path) and label (or labels)",
  endings=(".csv", ".tsv"),
  matches=matches,
  read=read,
  write=write,
)


def _cells(query: Query, item: Item) -> list[Any]:
  shown = shared.predicted(query, item.predictions)
  names = _LABEL_SEPARATOR.join(name for name, _ in shown)
  probability = item.predictions[0][1] if item.predictions else None
  return [item.id, item.path, item.score, names, probability, None, None]


def _lines(content: bytes) -> list[str]:
  """Decodes the lines of a file, with their line ends."""
  encoding = _ENCODINGS.get(content[:2], "utf-8-sig")
  errors = "surrogateescape" if encoding == "utf-8-sig" else "replace"
  return list(io.StringIO(content.decode(encoding, errors), newline=""))


def _parse_header(lines: list[str]) -> _Header:
  start = next((n for n, line in enumerate(lines) if line.strip()), 0)
  delimiters = _DELIMITERS
  # A first line such as `sep=;` tells spreadsheets the delimiter.
  if declared := re.fullmatch(
    r"sep=(\t|[^\w\s\"])\s*", "".join(lines[start : start + 1])
  ):
    delimiters, start = (declared[1],), start + 1
  row = lines[start] if start < len(lines) else ""
  for delimiter in delimiters:
    cells = _split_header(row, delimiter)
    names = {cell.lower() for cell in cells}
    if names & {*_ID_COLUMNS} and names & {*_LABEL_COLUMNS}:
      return _make_header(cells, delimiter, start + 1)
  raise ValueError(
    "Expected the columns id (or path) and label (or labels) in the first line,"
    f" got {show(row.strip())}."
  )


def _split_header(row: str, delimiter: str) -> list[str]:
  try:
    cells = next(csv.reader([row], delimiter=delimiter, strict=True), [])
  except csv.Error:
    return []
  return [cell.strip() for cell in cells]


def _make_header(cells: list[str], delimiter: str, num_lines: int) -> _Header:
  """Checks that there is exactly one column of labels."""
  # Reversed, so that the first of several columns with one name counts.
  columns = {cell.lower(): n for n, cell in reversed([*enumerate(cells)])}
  if _LABEL_STUDIO_COLUMN in columns:
    raise ValueError(
      f"Expected no column {_LABEL_STUDIO_COLUMN!r}: from Label Studio, export"
      " JSON instead."
    )
  labels = [cell for cell in cells if cell.lower() in _LABEL_COLUMNS]
  if len(labels) != 1:
    raise ValueError(f"Expected one column of labels, got {labels}.")
  return _Header(delimiter, columns, labels[0].lower(), len(cells), num_lines)


def _rows(
  lines: list[str], header: _Header, collector: AnswerCollector
) -> Iterator[tuple[int, list[str]]]:
  """Yields the rows with the number of their first line."""
  start = header.num_lines
  while start < len(lines):
    end = min(start + _MAX_CELL_LINES, len(lines))
    window = (lines[n] for n in range(start, end))
    reader = csv.reader(window, delimiter=header.delimiter, strict=True)
    try:
      row, num_lines, problem = next(reader), reader.line_num, ""
    except csv.Error as error:
      row, num_lines, problem = [], 1, str(error)
    # If a quote was closed on another line, the cells between are missing.
    if num_lines > 1 and len(row) < header.width:
      row, num_lines, problem = [], 1, "a quote that is not closed"
    if problem:
      collector.add_problem(
        f"line {start + 1}",
        f"Expected cells of a table, got {show(lines[start])}: {problem}.",
      )
    yield start + 1, row
    start += num_lines


def _read_row(
  row: list[str], header: _Header, collector: AnswerCollector
) -> None:
  def cell(name: str) -> str:
    index = header.columns.get(name, len(row))
    return row[index] if index < len(row) else ""

  if any(extra.strip() for extra in row[header.width :]):
    raise ValueError(f"Expected at most {header.width} cells, got {show(row)}.")
  label = cell(header.label).strip()
  if label:
    collector.add(
      _split_labels(label, header.label),
      id=cell("id") or cell("path"),
      annotator=cell("annotator").strip(),
      time=cell("time").strip(),
    )


def _split_labels(label: str, column: str) -> list[str]:
  if column == _LABEL_COLUMNS[0]:
    if label == NONE:
      raise ValueError(
        f"Expected a label, got {NONE!r}, which means 'none of the labels' in a"
        " column `labels`."
      )
    return [label]
  names = [name for name in label.split(_LABEL_SEPARATOR) if name.strip()]
  if not names:
    raise ValueError(f"Expected names or {NONE!r}, got {label!r}.")
  return [name.strip() for name in names]
