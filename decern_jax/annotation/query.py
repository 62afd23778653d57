"""What people are asked, and the folder that it lies in."""

import json
import re
from typing import Any, NamedTuple

from etils import epath

from decern_jax.io import storage

FOLDER = "queries"
ANSWERS_FOLDER = "answers"
"""Where people, and the programs that they use, put files of answers."""

FILE_NAME = "query.json"


class Item(NamedTuple):
  """One image that people are asked about.

  Attributes:
    id: Id of the image.
    path: Where it is: a file of this machine, absolute, or a gs:// address.
    score: What the strategy ranked it by, or None.
    predictions: Names of the likeliest classes with their probabilities, the
      likeliest first; empty where there is no model yet.
    digest: SHA-256 of the file, in hexadecimal; "" where it was not read.
  """

  id: str
  path: str
  score: float | None = None
  predictions: tuple[tuple[str, float], ...] = ()
  digest: str = ""


class Query(NamedTuple):
  """What people are asked at once.

  Attributes:
    round: The round that asks; its labels serve the next one. 0: the first
      labels of all.
    class_names: The classes that are known so far. Answers may name others.
    is_multi_label: Whether an image may have several classes, or none.
    items: The images, in the order to ask in.
    strategy: Name of the strategy that chose them.
    num_answers: Answers that were known when it was first asked: an image that
      was skipped before may be asked about again.
  """

  round: int
  class_names: tuple[str, ...]
  is_multi_label: bool
  items: tuple[Item, ...]
  strategy: str = ""
  num_answers: int = 0


def folder_of(workdir: epath.PathLike, round_num: int) -> epath.Path:
  """Returns the folder of the query of a round.

  Args:
    workdir: Directory of the run.
    round_num: The round.
  """
  return storage.as_path(workdir) / FOLDER / f"{round_num:04d}"


def write(workdir: epath.PathLike, query: Query) -> epath.Path:
  """Writes a query into the folder of its round.

  Args:
    workdir: Directory of the run.
    query: The query.

  Returns:
    The file.

  Raises:
    OSError: If it cannot be written.
  """
  folder = folder_of(workdir, query.round)
  storage.make_folder(folder)
  items = [item._asdict() for item in query.items]
  content = json.dumps({**query._asdict(), "items": items}, indent=1)
  storage.write_atomically(folder / FILE_NAME, content.encode("ascii"))
  return folder / FILE_NAME


def read(workdir: epath.PathLike, round_num: int) -> Query:
  """Reads the query of a round.

  Args:
    workdir: Directory of the run.
    round_num: The round.

  Returns:
    The query.

  Raises:
    ValueError: If there is none, or it is not what `write` writes.
  """
  path = folder_of(workdir, round_num) / FILE_NAME
  content = storage.read_if_exists(path)
  if content is None:
    raise ValueError(f"Expected a query in {path}, got no such file.")
  try:
    query = _from_json(json.loads(content))
    if query.round != round_num:
      raise ValueError(f"round {query.round}")
    return query
  except (ValueError, TypeError, KeyError, RecursionError) as error:
    raise ValueError(f"Expected a query in {path}, got {error!r}.") from None


def read_all(workdir: epath.PathLike) -> tuple[Query, ...]:
  """Reads all that was ever asked, the first query first.

  Args:
    workdir: Directory of the run.

  Raises:
    ValueError: As `read`.
  """
  last = latest_round(workdir)
  count = 0 if last is None else last + 1
  return tuple(read(workdir, round_num) for round_num in range(count))


def latest_round(workdir: epath.PathLike) -> int | None:
  """Returns the last round that has asked, or None.

  Args:
    workdir: Directory of the run.
  """
  folder = storage.as_path(workdir) / FOLDER
  try:
    found = storage.scan(folder)
  except FileNotFoundError:
    return None
  rounds = [
    int(entry.name)
    for entry in found
    if re.fullmatch("[0-9]{4,}", entry.name)
    and folder_of(workdir, int(entry.name)) == folder / entry.name
    and (folder / entry.name / FILE_NAME).exists()
  ]
  return max(rounds, default=None)


def require_latest_round(workdir: epath.PathLike) -> int:
  """Returns the last round that has asked.

  Args:
    workdir: Directory of the run.

  Raises:
    ValueError: If none has.
  """
  found = latest_round(workdir)
  if found is None:
    folder = storage.as_path(workdir) / FOLDER
    raise ValueError(
      "Expected `workdir` of a run that asks for labels, got no query in"
      f" {folder}: decern_jax.main writes one."
    )
  return found


def _from_json(value: Any) -> Query:
  _check(value, dict)
  names, items = value["class_names"], value["items"]
  _check(names, list)
  _check(items, list)
  query = Query(
    **{
      **value,
      "class_names": tuple(names),
      "items": tuple(map(_item, items)),
    }
  )
  _check(query.round, int)
  _check(query.num_answers, int)
  _check(query.is_multi_label, bool)
  for text in (*query.class_names, query.strategy):
    _check(text, str)
  return query


def _item(value: Any) -> Item:
  _check(value, dict)
  pairs = tuple((name, p) for name, p in value["predictions"])
  item = Item(**{**value, "predictions": pairs})
  for text in (item.id, item.path, *(name for name, _ in pairs)):
    _check(text, str)
  for _, probability in pairs:
    _check(probability, float, int)
  _check(item.score, float, int, type(None))
  _check(item.digest, str)
  return item


def _check(value: Any, *kinds: type) -> None:
  # Not isinstance: True is no number.
  if type(value) not in kinds:
    raise TypeError(f"{value!r:.80} as {kinds[0].__name__}")
