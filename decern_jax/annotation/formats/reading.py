"""What the readers of formats share: what they gather, and JSON."""

import json
import reprlib
from typing import Any

from decern_jax.annotation import answer

NONE = "-"
"""What is given in place of labels to say that an image has none of them."""

SKIPPED = "?"
"""What is given in place of a label to say that the image was skipped."""

RESERVED = (NONE, SKIPPED)

_SHOW = reprlib.Repr()
_SHOW.maxstring = _SHOW.maxother = 80


class Gathering:
  """The answers and the problems of a file, in its order.

  Attributes:
    has_reserved: Whether `NONE` and `SKIPPED` have their meaning among labels:
      in formats that cannot say so otherwise.
  """

  def __init__(self, *, has_reserved: bool):
    self.has_reserved = has_reserved
    self._answers: list[answer.Answer] = []
    self._problems: list[str] = []

  def add(self, where: str, labels: Any, **fields: Any) -> None:
    """Adds an answer, or a problem if it is none.

    Args:
      where: Its place in the file, for the problem.
      labels: What the file gives as labels: a list; None: the image was
        skipped.
      **fields: The other fields of an answer but for its source.
    """
    try:
      plain = _plain(labels) if self.has_reserved else labels
      self._answers.append(answer.from_json({"labels": plain, **fields}))
    except (ValueError, RecursionError) as error:
      self.refuse(where, error)

  def refuse(self, where: str, problem: object) -> None:
    """Adds a problem.

    Args:
      where: Its place in the file.
      problem: What is wrong there.
    """
    self._problems.append(f"{where}: {problem}")

  def found(self) -> answer.Found:
    """Returns what was gathered."""
    return answer.Found(tuple(self._answers), tuple(self._problems))


def parse_json(content: bytes) -> Any:
  """Parses a file of JSON.

  Args:
    content: The file.

  Raises:
    ValueError: If it is none; shows where.
  """
  try:
    return json.loads(content)
  except (ValueError, RecursionError) as error:
    raise ValueError(
      f"Expected valid JSON, got {error}. A file that is cut off is not; it"
      " must be exported again."
    ) from None


def field(value: Any, name: str) -> Any:
  """Returns a field of what may be no JSON object, or None.

  Args:
    value: What JSON gave.
    name: Name of the field.
  """
  return value.get(name) if isinstance(value, dict) else None


def rows(value: Any, name: str) -> list[Any]:
  """Returns a list of a JSON object.

  Args:
    value: The object.
    name: Name of the list; one that is absent or null is empty.

  Raises:
    ValueError: If it is no list.
  """
  found = field(value, name)
  if found is None:
    return []
  if not isinstance(found, list):
    raise ValueError(f"Expected a list as {name!r}, got {show(found)}.")
  return found


def show(value: Any) -> str:
  """Returns what a message shows of a value from a file: some of it.

  Args:
    value: The value, of any depth and length.
  """
  return _SHOW.repr(value)


def _plain(labels: Any) -> Any:
  """Returns labels without the names that are reserved."""
  if not isinstance(labels, list):
    return labels
  given = [name for name in RESERVED if name in labels]
  if not given:
    return labels
  if any(name != given[0] for name in labels):
    raise ValueError(f"Expected {given[0]!r} alone, got {show(labels)}.")
  return None if given == [SKIPPED] else []
