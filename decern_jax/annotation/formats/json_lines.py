"""JSON lines: one answer per line, as `annotation.answers` writes it."""

import json
from typing import Any

from etils import epath

from decern_jax.annotation.answers import ParsedAnswers
from decern_jax.annotation.formats import format as shared
from decern_jax.annotation.formats.format import AnswerCollector, Format, show
from decern_jax.annotation.query import Item, Query

_BOM = b"\xef\xbb\xbf"

# Fields of a query that a program may leave in a line when it adds the labels.
_QUERY_FIELDS = tuple(name for name in Item._fields if name != "id")


def matches(content: bytes, value: Any) -> bool:
  """Returns whether at least one line is an answer or an image of a query."""
  if value is not None:
    return _is_image(value)
  lines = content.removeprefix(_BOM).splitlines()
  return any(_is_image(_parse_object(line)) for line in lines)


def read(content: bytes) -> ParsedAnswers:
  """Reads answers. An invalid line does not affect the others.

  Args:
    content: The file. A line of a query without `labels` is an image that is
      not answered yet.
  """
  collector = AnswerCollector(has_reserved=False)
  for number, line in enumerate(content.splitlines(), start=1):
    if line.strip():
      with collector.item(f"line {number}"):
        _read_line(line, collector)
  return collector.result()


def write(query: Query, folder: epath.PathLike) -> tuple[epath.Path, ...]:
  """Writes one line for each image of a query, for programs.

  A line becomes an answer when a program adds `labels`: a list of names, or
  null for an image that is skipped.

  Raises:
    OSError: If the file cannot be written.
  """
  content = "".join(json.dumps(i._asdict()) + "\n" for i in query.items)
  name = shared.file_name(query, "jsonl")
  return shared.save(folder, {name: content.encode("ascii")})


FORMAT = Format(
  name="jsonl",
  title="lines of JSON with id and labels",
  endings=(".jsonl",),
  matches=matches,
  read=read,
  write=write,
)


def _read_line(line: bytes, collector: AnswerCollector) -> None:
  try:
    value = json.loads(line)
  except (ValueError, RecursionError) as error:
    raise ValueError(f"Expected valid JSON, got {error}.") from None
  if not isinstance(value, dict):
    raise ValueError(f"Expected an object, got {show(value)}.")
  if "labels" in value or "path" not in value:
    fields = {name: value[name] for name in value if name not in _QUERY_FIELDS}
    collector.add(fields.pop("labels", ""), **fields)


def _is_image(value: Any) -> bool:
  return (
    isinstance(value, dict)
    and "id" in value
    and ("labels" in value or set(_QUERY_FIELDS) <= set(value))
  )


def _parse_object(line: bytes) -> Any:
  # Other files may have very long lines, so most are not even tried.
  if not line.lstrip().startswith(b"{"):
    return None
  try:
    return json.loads(line)
  except (ValueError, RecursionError):
    return None
