"""The latest query of a run, and one annotator's answers to it."""

import dataclasses
import datetime
import hashlib
import json
import math
import shlex
import threading
from typing import Any

from absl import logging
from etils import epath

from decern_jax.annotation import query
from decern_jax.annotation.answers import append_log, parse_lines
from decern_jax.annotation.state import Answer
from decern_jax.io import storage

FILE_NAME = "page.jsonl"

START_FILE = "page_start.json"
"""File in a query's folder: length of the log when the page first showed it.

A later query may ask about a skipped image again; earlier lines of the log are
then not an answer to it.
"""

MAX_NAME_LENGTH = 200

Labels = tuple[str, ...] | None
"""Names of classes; None if the image was skipped."""


class StaleError(Exception):
  """There is a newer query, or a newer answer of the same page."""


@dataclasses.dataclass(frozen=True)
class _Progress:
  """A query, and the answers to it so far.

  Attributes:
    query: The query.
    version: Digest of the query.
    answers: Labels by index of the image in the query.
  """

  query: query.Query
  version: str
  answers: dict[int, Labels]


class CurrentQuery:
  """The latest query of a run and one annotator's answers; thread-safe.

  Attributes:
    log: The file with all answers; `save` returns after writing to it.
  """

  def __init__(self, workdir: epath.PathLike, annotator: str):
    """Reads the latest query, and the annotator's answers to it.

    Args:
      workdir: Directory of the run, on a local disk.
      annotator: Name of the annotator.

    Raises:
      ValueError: If there is no query.
      OSError: If the log cannot be read, or the folders cannot be written.
    """
    self._workdir = storage.as_path(workdir)
    self._annotator = annotator
    self._lock = threading.Lock()
    self._last_serial: dict[str, int] = {}
    self.log = self._workdir / query.ANSWERS_FOLDER / FILE_NAME
    self._progress = self._read(query.require_latest_round(workdir))

  def count(self) -> tuple[int, int]:
    """Returns the number of answered images, and of all images."""
    with self._lock:
      return len(self._progress.answers), len(self._progress.query.items)

  def view(self) -> dict[str, Any]:
    """Returns what the page shows; reads a newer query if there is one.

    Returns:
      Values that JSON can hold: the fields of the query without paths, its
      digest `version`, the `answers` by index, the `annotator`, the `log`, and
      the `command` that continues the run.
    """
    with self._lock:
      self._refresh()
      progress = self._progress
      return {
        **progress.query._asdict(),
        "items": [_without_path(item) for item in progress.query.items],
        "version": progress.version,
        "answers": {str(k): v for k, v in progress.answers.items()},
        "annotator": self._annotator,
        "command": (
          "decern-jax run --config=…"
          f" --workdir={shlex.quote(str(self._workdir))}"
        ),
        "log": str(self.log),
      }

  def is_latest(self, version: str) -> bool:
    """Returns whether a query is still the latest one of the run."""
    with self._lock:
      self._refresh()
      return version == self._progress.version

  def image_path(self, version: str, index: int) -> str:
    """Returns the path of an image.

    Raises:
      StaleError: If the query is not the current one.
      ValueError: If the index is out of range.
    """
    with self._lock:
      return self._item(version, index).path

  def save(
    self,
    version: str,
    index: int,
    labels: Any,
    *,
    page_id: str = "",
    serial: int = 0,
  ) -> None:
    """Adds an answer to the log; it is durable when this returns.

    A page that got no reply sends its answer again; the repetition is not
    written. An answer is refused if a later one of the same page has arrived,
    because the annotator has replaced it.

    Args:
      version: Digest of the query.
      index: Index of the image in the query.
      labels: A list of names, or None to skip the image.
      page_id: Random id of the loaded page that sends the answer.
      serial: Number of the answer among those of the page.

    Raises:
      StaleError: If there is a newer query, or a newer answer of the page.
      ValueError: If the index is out of range, or the labels are not valid.
      OSError: If the log cannot be written.
    """
    with self._lock:
      item = self._item(version, index)
      progress = self._progress
      if query.require_latest_round(self._workdir) != progress.query.round:
        raise StaleError
      if serial < self._last_serial.get(page_id, serial):
        raise StaleError
      labels = _check_labels(labels, progress.query)
      self._last_serial[page_id] = serial
      if index in progress.answers and progress.answers[index] == labels:
        return
      now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
      given = Answer(item.id, labels, self._annotator, now, FILE_NAME)
      append_log(self.log, [given])
      progress.answers[index] = labels

  def _item(self, version: str, index: int) -> query.Item:
    progress = self._progress
    if version != progress.version:
      raise StaleError
    if not 0 <= index < len(progress.query.items):
      raise ValueError(
        f"Expected 0 <= index < {len(progress.query.items)}, got {index}."
      )
    return progress.query.items[index]

  def _refresh(self) -> None:
    """Reads the latest query and the log again, if they can be read."""
    try:
      self._progress = self._read(query.require_latest_round(self._workdir))
    except (ValueError, OSError) as error:
      logging.warning(
        "Continuing with the query that was read before: %s", error
      )

  def _read(self, round_num: int) -> _Progress:
    latest = query.read(self._workdir, round_num)
    storage.make_folder(self.log.parent)
    content = storage.read_if_exists(self.log) or b""
    start = _start(self._workdir, round_num, len(content))
    found = parse_lines(content[start:])
    for problem in found.problems:
      logging.warning("%s, after byte %d: %s", self.log, start, problem)
    mine = [a for a in found.answers if a.annotator == self._annotator]
    last = {a.id: a.labels for a in mine}
    # A file name that is not valid text has lone surrogates.
    digest = hashlib.sha256(repr(latest).encode("utf-8", "surrogatepass"))
    answers = {
      i: last[item.id] for i, item in enumerate(latest.items) if item.id in last
    }
    return _Progress(latest, digest.hexdigest()[:16], answers)


def _without_path(item: query.Item) -> dict[str, Any]:
  """Returns what the page gets of an image; paths stay on the server."""
  predictions = [(name, _finite(prob)) for name, prob in item.predictions]
  score = _finite(item.score)
  return {"id": item.id, "score": score, "predictions": predictions}


def _finite(value: float | None) -> float | None:
  """Returns a number that JSON can hold, or None."""
  return value if value is not None and math.isfinite(value) else None


def _start(workdir: epath.PathLike, round_num: int, length: int) -> int:
  """Returns where in the log the answers to a query start.

  Args:
    workdir: Directory of the run.
    round_num: Round of the query.
    length: Length of the log, in bytes. If the log has become shorter than the
      start, it was replaced, and all of it counts.
  """
  path = query.folder_of(workdir, round_num) / START_FILE
  start = _parse_start(storage.read_if_exists(path), default=length)
  if start > length:
    start = 0
  content = json.dumps({"start": start}).encode("ascii")
  if storage.read_if_exists(path) != content:
    storage.write_atomically(path, content)
  return start


def _parse_start(content: bytes | None, *, default: int) -> int:
  """Returns the start in a file's content; 0 if the content is not valid."""
  if content is None:
    return default
  try:
    return max(0, int(json.loads(content)["start"]))
  except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
    return 0


def _check_labels(labels: Any, latest: query.Query) -> Labels:
  """Returns labels in the form of an answer."""
  if labels is None:
    return None
  if not isinstance(labels, list):
    raise ValueError(f"Expected a list of names, got {labels!r:.200}.")
  names = tuple(dict.fromkeys(_check_name(n, latest) for n in labels))
  if not latest.is_multi_label and len(names) != 1:
    raise ValueError(f"Expected the name of one class, got {[*names]}.")
  return names


def _check_name(name: Any, latest: query.Query) -> str:
  """Returns the name of a class; a new one must be printable text."""
  if name in latest.class_names:
    return name
  if not isinstance(name, str) or not name.strip():
    raise ValueError(f"Expected the name of a class, got {name!r:.200}.")
  name = name.strip()
  if not name.isprintable() or len(name) > MAX_NAME_LENGTH:
    raise ValueError(
      f"Expected a name of at most {MAX_NAME_LENGTH} characters that can be"
      f" printed, got {name!r:.400}."
    )
  return name
