"""What people answer about images, and the labels that follow from it."""

import collections
from collections.abc import Iterable, Mapping
import json
import re
from typing import Any, NamedTuple

from etils import epath

from decern_jax.io import storage

RULE = (
  "each person's last answer counts, the majority wins, and the latest answer"
  " breaks a tie"
)
"""How several answers about one image become its labels; see `resolve`."""

_SURROGATE = re.compile("[\ud800-\udfff]")


class Answer(NamedTuple):
  """One answer of one person about one image.

  Attributes:
    id: Id of the image.
    labels: Names of its classes: one, or any number where images may have
      several labels. None if the person skipped the image.
    annotator: Name of the person, or "" if unknown.
    time: When it was given, as in the file (this project writes ISO 8601), or
      "" if unknown.
    source: Name of the file it was read from.
  """

  id: str
  labels: tuple[str, ...] | None
  annotator: str = ""
  time: str = ""
  source: str = ""


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


class Conflict(NamedTuple):
  """An image about which people disagree.

  Attributes:
    id: Id of the image.
    said: The last answer of each person, from the earliest to the latest.
    labels: The labels that `RULE` chooses.
  """

  id: str
  said: tuple[Answer, ...]
  labels: tuple[str, ...]


class Resolution(NamedTuple):
  """The labels that follow from all answers.

  Attributes:
    labels: The labels of each labeled image by id, sorted.
    skipped: Ids of the images that everybody who answered skipped.
    conflicts: The images about which people disagree.
    num_annotators: Number of people who labeled each image, by id.
  """

  labels: dict[str, tuple[str, ...]]
  skipped: frozenset[str]
  conflicts: tuple[Conflict, ...]
  num_annotators: dict[str, int]


def resolve(answers: Iterable[Answer]) -> Resolution:
  """Derives the labels of all images from the answers by `RULE`.

  A person who skips an image has no vote on it. Answers without an annotator
  count as those of one person.

  Args:
    answers: All answers, in the order in which they arrived.
  """
  labels, conflicts, counts, skipped = {}, [], {}, set()
  for id_, said in last_answers(answers).items():
    if not said:
      skipped.add(id_)
      continue
    labels[id_] = _majority(said)
    counts[id_] = len(said)
    if len({frozenset(answer.labels or ()) for answer in said}) > 1:
      conflicts.append(Conflict(id_, said, labels[id_]))
  return Resolution(labels, frozenset(skipped), tuple(conflicts), counts)


def last_answers(answers: Iterable[Answer]) -> dict[str, tuple[Answer, ...]]:
  """Finds the last answer of each person about each image.

  Args:
    answers: All answers, in the order in which they arrived.

  Returns:
    By image id, the last answers of all people who did not skip the image in
    the end, from the earliest to the latest. Empty if everybody skipped it.
  """
  last: dict[str, dict[str, Answer]] = collections.defaultdict(dict)
  for answer in answers:
    by_person = last[answer.id]
    # Removed first, so that the new answer comes last in the order.
    by_person.pop(answer.annotator, None)
    by_person[answer.annotator] = answer
  return {
    id_: tuple(a for a in by_person.values() if a.labels is not None)
    for id_, by_person in last.items()
  }


def _majority(said: tuple[Answer, ...]) -> tuple[str, ...]:
  """Returns the labels with most votes, the latest where several are equal."""
  given = [tuple(sorted(answer.labels or ())) for answer in said]
  votes = collections.Counter(given)
  best = max(votes.values())
  return next(labels for labels in reversed(given) if votes[labels] == best)


class RoundLabels(NamedTuple):
  """The labels that the model of a round is trained on.

  Attributes:
    class_names: The classes, in the order of the model's outputs.
    labels: The labels of each labeled image, by id.
  """

  class_names: tuple[str, ...]
  labels: dict[str, tuple[str, ...]]


def name_classes(
  known: tuple[str, ...], labels: Mapping[str, tuple[str, ...]]
) -> tuple[str, ...]:
  """Lists all classes: the known ones in their order, then new ones sorted."""
  found = {name for names in labels.values() for name in names}
  return (*known, *sorted(found - set(known)))


def freeze_round(
  workdir: epath.PathLike, round_num: int, current: RoundLabels
) -> RoundLabels:
  """Fixes the labels of a round when it begins.

  An interrupted round continues with the labels it began with, whatever answers
  have arrived since.

  Returns:
    The labels with which the round began.

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
