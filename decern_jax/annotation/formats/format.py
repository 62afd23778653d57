"""The interface of a label format, and what readers and writers share."""

from collections.abc import Callable, Iterator
import contextlib
import dataclasses
import json
import re
import reprlib
from typing import Any
from xml.sax import saxutils

from etils import epath

from decern_jax.annotation.answers import ParsedAnswers, from_json
from decern_jax.annotation.query import Query
from decern_jax.annotation.state import Answer
from decern_jax.io import storage


@dataclasses.dataclass(frozen=True)
class Format:
  """A file format of queries and answers.

  A module of this package that defines a `FORMAT` adds it to the table of
  formats; nothing else refers to the module.

  Attributes:
    name: Name of the format in configurations.
    title: Description of its files, for messages.
    endings: File name endings in lower case. They count if the content matches
      no format, so that the reader can say what is wrong with the file.
    matches: Maps the content of a file, and its decoded JSON (None if it is not
      valid JSON), to whether the file has the format.
    read: Maps the content of a file to its answers and problems. Raises
      `ValueError`, and no other error, if nothing can be read.
    write: Writes a query into a folder and returns the files. Raises
      `ValueError` if the format cannot represent the query.
  """

  name: str
  title: str
  endings: tuple[str, ...]
  matches: Callable[[bytes, Any], bool]
  read: Callable[[bytes], ParsedAnswers]
  write: Callable[[Query, epath.PathLike], tuple[epath.Path, ...]]


NONE = "-"
"""Stands for the labels of an image that has none of them."""

SKIPPED = "?"
"""Stands for the label of an image that was skipped."""

RESERVED = (NONE, SKIPPED)

MIN_PROBABILITY = 0.5
"""A class with this probability is predicted where images may have several."""

_NOT_IN_XML = re.compile(
  "[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"
)

_SHORT_REPR = reprlib.Repr()
_SHORT_REPR.maxstring = _SHORT_REPR.maxother = 80


class AnswerCollector:
  """Collects the answers and the problems of a file, in file order."""

  def __init__(self, *, has_reserved: bool):
    """Starts without answers.

    Args:
      has_reserved: Whether the labels `NONE` and `SKIPPED` have their special
        meaning, as in formats that have no other way to say so.
    """
    self._has_reserved = has_reserved
    self._answers: list[Answer] = []
    self._problems: list[str] = []

  @contextlib.contextmanager
  def item(self, where: str) -> Iterator[None]:
    """Turns an error while reading one item into a problem of the file."""
    try:
      yield
    except (ValueError, RecursionError) as error:
      self.add_problem(where, error)

  def add(self, labels: Any, **fields: Any) -> None:
    """Adds an answer.

    Args:
      labels: The labels as read from the file: a list, or None for an image
        that was skipped.
      **fields: The other fields of the answer, except its source.

    Raises:
      ValueError: If this is not a valid answer.
    """
    if self._has_reserved:
      labels = _replace_reserved(labels)
    self._answers.append(from_json({"labels": labels, **fields}))

  def add_problem(self, where: str, problem: object) -> None:
    """Adds a problem with its place in the file."""
    self._problems.append(f"{where}: {problem}")

  def result(self) -> ParsedAnswers:
    """Returns the answers and problems so far."""
    return ParsedAnswers(tuple(self._answers), tuple(self._problems))


def _replace_reserved(labels: Any) -> Any:
  """Replaces the reserved names in labels by their meaning."""
  if not isinstance(labels, list):
    return labels
  reserved = [name for name in RESERVED if name in labels]
  if not reserved:
    return labels
  if any(name != reserved[0] for name in labels):
    raise ValueError(
      f"Expected {reserved[0]!r} without other labels, got {show(labels)}."
    )
  return None if reserved == [SKIPPED] else []


def parse_json(content: bytes) -> Any:
  """Decodes a JSON file.

  Raises:
    ValueError: If it is not valid; shows where.
  """
  try:
    return json.loads(content)
  except (ValueError, RecursionError) as error:
    raise ValueError(
      f"Expected valid JSON, got {error}. If the file is cut off, export it"
      " again."
    ) from None


def field(value: Any, name: str) -> Any:
  """Returns a field of a JSON object; None if absent or not an object."""
  return value.get(name) if isinstance(value, dict) else None


def rows(value: Any, name: str) -> list[Any]:
  """Returns a list in a JSON object; empty if it is absent or null.

  Raises:
    ValueError: If the field is not a list.
  """
  found = field(value, name)
  if found is None:
    return []
  if not isinstance(found, list):
    raise ValueError(f"Expected a list as {name!r}, got {show(found)}.")
  return found


def show(value: Any) -> str:
  """Returns a short text of a value of any depth and length, for messages."""
  return _SHORT_REPR.repr(value)


def file_name(query: Query, extension: str) -> str:
  """Returns the name of the file of a query that people fill in.

  Each round has its own name, so that the answer files of several rounds fit
  into one folder, and equal answers of two rounds are told apart by their
  source.
  """
  return f"query-{query.round:04d}.{extension}"


def save(
  folder: epath.PathLike, contents: dict[str, bytes]
) -> tuple[epath.Path, ...]:
  """Writes files, each atomically.

  Args:
    folder: The folder, which is created if it does not exist.
    contents: Content of each file, by name.

  Raises:
    OSError: If they cannot be written.
  """
  folder = storage.as_path(folder)
  storage.make_folder(folder)
  for name, content in contents.items():
    storage.write_atomically(folder / name, content)
  return tuple(folder / name for name in contents)


def to_json(value: Any) -> bytes:
  """Encodes a value as JSON in ASCII."""
  # ASCII, because file names, and so ids, may not be valid Unicode.
  return json.dumps(value, indent=1).encode("ascii")


def predicted(
  query: Query, predictions: tuple[tuple[str, float], ...]
) -> tuple[tuple[str, float], ...]:
  """Selects the predictions that a tool shows as the model's choice.

  Args:
    query: The query.
    predictions: The predictions of one image, the likeliest first.

  Returns:
    The likeliest prediction; or where images may have several labels, all with
    a probability of at least `MIN_PROBABILITY`.
  """
  if not query.is_multi_label:
    return predictions[:1]
  return tuple(pair for pair in predictions if pair[1] >= MIN_PROBABILITY)


def check_class_names(query: Query) -> None:
  """Checks that no class has a reserved name.

  Raises:
    ValueError: If one has.
  """
  found = sorted(set(query.class_names) & set(RESERVED))
  if found:
    raise ValueError(
      f"Expected no class named {' or '.join(map(repr, RESERVED))}, which mean"
      f" 'none of the labels' and 'skipped', got {found}."
    )


def choices(query: Query) -> list[str]:
  """Returns the names that people choose from: classes and reserved names.

  Raises:
    ValueError: If a class has a reserved name.
  """
  check_class_names(query)
  special = [SKIPPED, NONE] if query.is_multi_label else [SKIPPED]
  return [*query.class_names, *special]


def xml_attribute(text: str) -> str:
  """Quotes a text as the value of an XML attribute.

  Raises:
    ValueError: If XML cannot represent the text.
  """
  if _NOT_IN_XML.search(text):
    raise ValueError(f"Expected a name that XML can hold, got {text!r}.")
  return saxutils.quoteattr(text)
