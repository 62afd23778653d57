"""What a person says of an image, and the log that keeps all of it."""

import json
import re
from typing import Any, NamedTuple

from etils import epath

from decern_jax.io import storage

_SURROGATE = re.compile("[\ud800-\udfff]")


class Answer(NamedTuple):
  """What one person says of one image, as it was given.

  Attributes:
    id: Id of the image.
    labels: Names of its classes: one, or several, or none where an image may
      have several; None: the image was skipped.
    annotator: Who said so; "" where that is not told.
    time: When, as the file tells it (ISO 8601 in all that this project writes);
      "" where that is not told.
    source: Name of the file that it came by.
  """

  id: str
  labels: tuple[str, ...] | None
  annotator: str = ""
  time: str = ""
  source: str = ""


def to_line(answer: Answer) -> bytes:
  """Returns an answer as a line of JSON, in ASCII.

  Args:
    answer: The answer.
  """
  # As ASCII: the name of a file, and so an id, may be no valid text.
  return (json.dumps(answer._asdict()) + "\n").encode("ascii")


def from_json(value: Any) -> Answer:
  """Returns the answer that a JSON object holds, as `to_line` writes it.

  Args:
    value: What JSON gave.

  Returns:
    The answer; what is left out of annotator, time and source is "".

  Raises:
    ValueError: If it is none; shows what is wrong.
  """
  if not isinstance(value, dict):
    raise ValueError(f"Expected an object with an id, got {value!r:.200}.")
  unknown = sorted(set(value) - set(Answer._fields))
  if unknown:
    raise ValueError(
      f"Expected the fields {[*Answer._fields]}, got also {unknown}."
    )
  texts = {name: value.get(name, "") for name in Answer._fields}
  labels = texts.pop("labels") if "labels" in value else ""
  bad = [name for name, text in texts.items() if not isinstance(text, str)]
  if bad or not texts["id"]:
    raise ValueError(f"Expected text in {bad or ['id']}, got {value!r:.200}.")
  return Answer(labels=_labels(labels), **texts)


def _labels(value: Any) -> tuple[str, ...] | None:
  """Returns the names of classes, each once and in order."""
  if value is None:
    return None
  if not isinstance(value, list) or not all(map(_is_name, value)):
    raise ValueError(
      "Expected `labels` as a list of names, or null for an image that was"
      f" skipped, got {value!r:.200}."
    )
  return tuple(dict.fromkeys(name.strip() for name in value))


def _is_name(value: Any) -> bool:
  # An id may be no valid text, but classes are written to tables and pages.
  is_text = isinstance(value, str) and not _SURROGATE.search(value)
  return is_text and bool(value.strip())


class Found(NamedTuple):
  """What a file of lines holds.

  Attributes:
    answers: The answers, in their order.
    problems: A sentence for every line that is none, with its number.
  """

  answers: tuple[Answer, ...]
  problems: tuple[str, ...]


def parse_lines(content: bytes) -> Found:
  """Reads answers from lines of JSON; empty lines are skipped.

  A line that is none costs that line alone: a kill in the middle of writing
  leaves one.

  Args:
    content: The lines.

  Returns:
    The answers, and what was wrong with the other lines.
  """
  answers, problems = [], []
  for number, line in enumerate(content.splitlines(), start=1):
    if not line.strip():
      continue
    try:
      answers.append(from_json(json.loads(line)))
    except (ValueError, RecursionError) as error:
      problems.append(f"line {number}: {error}")
  return Found(tuple(answers), tuple(problems))


def read_log(path: epath.PathLike) -> Found:
  """Reads a log; one that is not there is empty.

  Args:
    path: The log.

  Returns:
    As `parse_lines`.

  Raises:
    OSError: If it cannot be read.
  """
  return parse_lines(storage.read_if_exists(path) or b"")


def append_log(path: epath.PathLike, answers: list[Answer]) -> None:
  """Adds answers to a log, and returns when they are durable.

  A line that a kill has cut off before stays, as a line of its own.

  Args:
    path: The log; made if it is not there.
    answers: What is added; nothing is written when there is none.

  Raises:
    OSError: If it cannot be written.
  """
  if not answers:
    return
  # A line of its own begins with an end of line, which empty lines allow.
  storage.append(path, b"\n" + b"".join(map(to_line, answers)))
