"""The files of answers: a log of lines, and the labels of each round."""

import json
import re
from typing import Any, NamedTuple

from etils import epath

from decern_jax.annotation.state import Answer
from decern_jax.io import storage

_SURROGATE = re.compile("[\ud800-\udfff]")


class ParsedAnswers(NamedTuple):
  """The content of an answer file.

  Attributes:
    answers: The answers, in file order.
    problems: A sentence for each part of the file that could not be read, with
      its place in the file.
  """

  answers: tuple[Answer, ...]
  problems: tuple[str, ...]


def to_line(answer: Answer) -> bytes:
  """Encodes an answer as one line of JSON in ASCII."""
  # ASCII, because file names, and so ids, may not be valid Unicode.
  return (json.dumps(answer._asdict()) + "\n").encode("ascii")


def from_json(value: Any) -> Answer:
  """Decodes an answer from a JSON object as `to_line` writes it.

  Args:
    value: The decoded JSON. The fields annotator, time and source are optional.

  Returns:
    The answer, with labels stripped and without repetitions.

  Raises:
    ValueError: If the value is not an answer.
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
  return Answer(labels=_check_labels(labels), **texts)


def _check_labels(value: Any) -> tuple[str, ...] | None:
  if value is None:
    return None
  if not isinstance(value, list) or not all(map(_is_class_name, value)):
    raise ValueError(
      "Expected `labels` as a list of names, or null for an image that was"
      f" skipped, got {value!r:.200}."
    )
  return tuple(dict.fromkeys(name.strip() for name in value))


def _is_class_name(value: Any) -> bool:
  # Ids may be invalid Unicode, but class names appear in tables and pages.
  is_text = isinstance(value, str) and not _SURROGATE.search(value)
  return is_text and bool(value.strip())


def parse_lines(content: bytes) -> ParsedAnswers:
  """Parses lines of JSON and skips empty lines.

  An invalid line does not affect the others: a process that is killed while it
  writes leaves one behind.
  """
  answers, problems = [], []
  for number, line in enumerate(content.splitlines(), start=1):
    if not line.strip():
      continue
    try:
      answers.append(from_json(json.loads(line)))
    except (ValueError, RecursionError) as error:
      problems.append(f"line {number}: {error}")
  return ParsedAnswers(tuple(answers), tuple(problems))


def read_log(path: epath.PathLike) -> ParsedAnswers:
  """Reads a log of answers; a missing log is empty.

  Raises:
    OSError: If the log cannot be read.
  """
  return parse_lines(storage.read_if_exists(path) or b"")


def append_log(path: epath.PathLike, answers: list[Answer]) -> None:
  """Appends answers to a log, and returns once they are durable.

  Args:
    path: The log, which is created if it does not exist.
    answers: The new answers. Nothing is written if there are none.

  Raises:
    OSError: If the log cannot be written.
  """
  if not answers:
    return
  # The leading newline ends a line that an earlier kill may have cut off.
  storage.append(path, b"\n" + b"".join(map(to_line, answers)))


class RoundLabels(NamedTuple):
  """The labels that the model of a round is trained on.

  Attributes:
    class_names: The classes, in the order of the model's outputs.
    labels: The labels of each labeled image, by id.
  """

  class_names: tuple[str, ...]
  labels: dict[str, tuple[str, ...]]


def freeze_round(
  workdir: epath.PathLike, round_num: int, current: RoundLabels
) -> RoundLabels:
  """Fixes the labels of a round when it begins.

  An interrupted round continues with the labels it began with, whatever answers
  have arrived since.

  Raises:
    ValueError: If the file of an earlier start is not valid.
    OSError: If the file cannot be read or written.
  """
  found = read_round(workdir, round_num)
  if found is not None:
    return found
  path = _round_path(workdir, round_num)
  storage.make_folder(path.parent)
  # ASCII, because file names, and so ids, may not be valid Unicode.
  content = json.dumps(current._asdict(), indent=1).encode("ascii")
  storage.write_atomically(path, content)
  return current


def read_round(workdir: epath.PathLike, round_num: int) -> RoundLabels | None:
  """Reads the labels of a round, or returns None if it has not begun.

  Raises:
    ValueError: If the file is not one of `freeze_round`.
    OSError: If the file cannot be read.
  """
  path = _round_path(workdir, round_num)
  content = storage.read_if_exists(path)
  if content is None:
    return None
  try:
    value = json.loads(content)
    labels = {id_: tuple(names) for id_, names in value["labels"].items()}
    return RoundLabels(tuple(value["class_names"]), labels)
  except (ValueError, KeyError, TypeError, AttributeError) as error:
    raise ValueError(f"Expected labels in {path}, got {error!r}.") from None


def _round_path(workdir: epath.PathLike, round_num: int) -> epath.Path:
  folder = storage.as_path(workdir) / "labels"
  return folder / f"round-{round_num:04d}.json"
