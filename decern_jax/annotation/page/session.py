"""What the page asks one person, and what that person has answered."""

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
from decern_jax.annotation.answers import Answer, append_log, parse_lines
from decern_jax.io import storage

FILE_NAME = "page.jsonl"

START_FILE = "page_start.json"
"""In the folder of a query: how long the log was when the page first asked it.

An image that was skipped may be asked again: what was said before is then no
answer.
"""

MAX_NAME_LENGTH = 200

Labels = tuple[str, ...] | None


class StaleError(Exception):
  """The run has asked, or the page has said, something newer than this."""


@dataclasses.dataclass(frozen=True)
class _Asked:
  """A query, and what was answered to it.

  Attributes:
    query: The query.
    version: Digest of the query.
    answers: Labels by position in the query; None: skipped.
  """

  query: query.Query
  version: str
  answers: dict[int, Labels]


class Session:
  """One person and the latest query of a run; safe for several threads.

  Attributes:
    log: The file that every answer is in before `save` returns.
  """

  def __init__(self, workdir: epath.PathLike, annotator: str):
    """Reads the latest query, and what this person has answered to it.

    Args:
      workdir: Directory of the run, on a disk.
      annotator: Who answers.

    Raises:
      ValueError: If there is no query.
      OSError: If the log cannot be read, or the folders cannot be written.
    """
    self._workdir = storage.as_path(workdir)
    self._annotator = annotator
    self._lock = threading.Lock()
    self._last_serial: dict[str, int] = {}
    self.log = self._workdir / query.ANSWERS_FOLDER / FILE_NAME
    self._asked = self._read(query.require_latest_round(workdir))

  def count(self) -> tuple[int, int]:
    """Returns how many images have an answer, and how many are asked."""
    with self._lock:
      return len(self._asked.answers), len(self._asked.query.items)

  def view(self) -> dict[str, Any]:
    """Returns what the page shows, of a newer query if the run has asked one.

    Returns:
      What JSON can hold: the query without paths, its digest `version`, the
      `answers` by position, the `annotator`, the `log`, and the `command` that
      goes on.
    """
    with self._lock:
      self._refresh()
      asked = self._asked
      return {
        **asked.query._asdict(),
        "items": [_without_path(item) for item in asked.query.items],
        "version": asked.version,
        "answers": {str(k): v for k, v in asked.answers.items()},
        "annotator": self._annotator,
        "command": (
          "python -m decern_jax.main --config=…"
          f" --workdir={shlex.quote(str(self._workdir))}"
        ),
        "log": str(self.log),
      }

  def is_latest(self, version: str) -> bool:
    """Says whether the run has asked nothing newer.

    Args:
      version: Digest of a query.
    """
    with self._lock:
      self._refresh()
      return version == self._asked.version

  def image_path(self, version: str, position: int) -> str:
    """Returns where an image is.

    Args:
      version: Digest of the query.
      position: Position in the query, from 0.

    Raises:
      StaleError: If the query is no longer the one that is asked.
      ValueError: If it has no such position.
    """
    with self._lock:
      return self._item(version, position).path

  def save(
    self,
    version: str,
    position: int,
    labels: Any,
    *,
    page: str = "",
    serial: int = 0,
  ) -> None:
    """Adds an answer to the log; it is durable when this returns.

    An answer that already holds is not written again: a page that had no reply
    sends it twice. One that comes after a later one of the same page is not
    taken: it was taken back there.

    Args:
      version: Digest of the query.
      position: Position in the query, from 0.
      labels: A list of names, or None to skip.
      page: Who sends it: a name of the page as it was loaded.
      serial: Number of the answer among those of the page.

    Raises:
      StaleError: If the run has asked something newer, or the page has said so.
      ValueError: If there is no such position, or the labels are not right.
      OSError: If it cannot be written.
    """
    with self._lock:
      item = self._item(version, position)
      asked = self._asked
      if query.require_latest_round(self._workdir) != asked.query.round:
        raise StaleError
      if serial < self._last_serial.get(page, serial):
        raise StaleError
      labels = _check_labels(labels, asked.query)
      self._last_serial[page] = serial
      if position in asked.answers and asked.answers[position] == labels:
        return
      now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
      given = Answer(item.id, labels, self._annotator, now, FILE_NAME)
      append_log(self.log, [given])
      asked.answers[position] = labels

  def _item(self, version: str, position: int) -> query.Item:
    asked = self._asked
    if version != asked.version:
      raise StaleError
    if not 0 <= position < len(asked.query.items):
      raise ValueError(
        f"Expected 0 <= position < {len(asked.query.items)}, got {position}."
      )
    return asked.query.items[position]

  def _refresh(self) -> None:
    """Reads the latest query and the log again, if they can be read."""
    try:
      self._asked = self._read(query.require_latest_round(self._workdir))
    except (ValueError, OSError) as error:
      logging.warning("Goes on with the query that was read before: %s", error)

  def _read(self, round_num: int) -> _Asked:
    asked = query.read(self._workdir, round_num)
    storage.make_folder(self.log.parent)
    content = storage.read_if_exists(self.log) or b""
    start = _start(self._workdir, round_num, len(content))
    found = parse_lines(content[start:])
    for problem in found.problems:
      logging.warning("%s, after byte %d: %s", self.log, start, problem)
    mine = [a for a in found.answers if a.annotator == self._annotator]
    last = {a.id: a.labels for a in mine}
    # A name that is no valid text has code points that UTF-8 has not.
    digest = hashlib.sha256(repr(asked).encode("utf-8", "surrogatepass"))
    answers = {
      i: last[item.id] for i, item in enumerate(asked.items) if item.id in last
    }
    return _Asked(asked, digest.hexdigest()[:16], answers)


def _without_path(item: query.Item) -> dict[str, Any]:
  """Returns what the page is told of an image."""
  predictions = [(name, _finite(share)) for name, share in item.predictions]
  score = _finite(item.score)
  return {"id": item.id, "score": score, "predictions": predictions}


def _finite(value: float | None) -> float | None:
  """Returns a number that JSON has, or None."""
  return value if value is not None and math.isfinite(value) else None


def _start(workdir: epath.PathLike, round_num: int, length: int) -> int:
  """Returns where in the log the answers to a query start.

  Args:
    workdir: Directory of the run.
    round_num: Round of the query.
    length: Length of the log. A log that is shorter than it was is another
      one, and counts from its start.
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
  """Returns what a file says, 0 if that is nothing."""
  if content is None:
    return default
  try:
    return max(0, int(json.loads(content)["start"]))
  except (ValueError, TypeError, KeyError):
    return 0


def _check_labels(labels: Any, asked: query.Query) -> Labels:
  """Returns labels as an answer has them."""
  if labels is None:
    return None
  if not isinstance(labels, list):
    raise ValueError(f"Expected a list of names, got {labels!r:.200}.")
  names = tuple(dict.fromkeys(_check_name(n, asked) for n in labels))
  if not asked.is_multi_label and len(names) != 1:
    raise ValueError(f"Expected the name of one class, got {[*names]}.")
  return names


def _check_name(name: Any, asked: query.Query) -> str:
  """Returns the name of a class; one that is new must be printable text."""
  if name in asked.class_names:
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
