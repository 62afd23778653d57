"""Lines of JSON, each an answer as `labeling.answer` writes it."""

import json
from typing import Any

from etils import epath

from decern_jax.annotation import answer
from decern_jax.annotation.formats import writing
from decern_jax.annotation.formats.reading import Gathering, show
from decern_jax.annotation.query import Item, Query

_BOM = b"\xef\xbb\xbf"

# What a program may leave of the line of an image when it adds the labels.
_ASKED = tuple(name for name in Item._fields if name != "id")


def matches(content: bytes, value: Any) -> bool:
  """Says whether one of the lines is an object of an image.

  Args:
    content: The file.
    value: What it holds as JSON; None if it is not valid.
  """
  if value is not None:
    return _is_line(value)
  lines = content.removeprefix(_BOM).splitlines()
  return any(_is_line(_parsed(line)) for line in lines)


def read(content: bytes) -> answer.Found:
  """Reads answers; a line that is none costs that line alone.

  Args:
    content: The file. A line of `write` without `labels` is an image that is
      not answered.

  Returns:
    The answers, and what was wrong with the other lines.
  """
  gathering = Gathering(has_reserved=False)
  for number, line in enumerate(content.splitlines(), start=1):
    if line.strip():
      _read_line(f"line {number}", line, gathering)
  return gathering.found()


def write(query: Query, folder: epath.PathLike) -> tuple[epath.Path, ...]:
  """Writes a line for each image of a query, for programs.

  Such a line is an answer when `labels` is added to it: a list of names, or
  null for an image that is skipped.

  Args:
    query: The query.
    folder: Where the file is to be.

  Returns:
    The file.

  Raises:
    OSError: If it cannot be written.
  """
  content = "".join(json.dumps(i._asdict()) + "\n" for i in query.items)
  name = writing.name_of(query, "jsonl")
  return writing.save(folder, {name: content.encode("ascii")})


def _read_line(where: str, line: bytes, gathering: Gathering) -> None:
  try:
    value = json.loads(line)
  except (ValueError, RecursionError) as error:
    gathering.refuse(where, f"Expected valid JSON, got {error}.")
    return
  if not isinstance(value, dict):
    gathering.refuse(where, f"Expected an object, got {show(value)}.")
  elif "labels" in value or "path" not in value:
    fields = {name: value[name] for name in value if name not in _ASKED}
    gathering.add(where, fields.pop("labels", ""), **fields)


def _is_line(value: Any) -> bool:
  return (
    isinstance(value, dict)
    and "id" in value
    and ("labels" in value or set(_ASKED) <= set(value))
  )


def _parsed(line: bytes) -> Any:
  """Returns what a line holds, or None; other files have long ones."""
  if not line.lstrip().startswith(b"{"):
    return None
  try:
    return json.loads(line)
  except (ValueError, RecursionError):
    return None
