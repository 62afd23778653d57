"""Queries: the images that a round asks people to label."""

import json
import re
from typing import Any, NamedTuple

from etils import epath

from decern_jax.io import storage

FOLDER = "queries"
ANSWERS_FOLDER = "answers"
"""Where people, and the tools they use, put answer files."""

FILE_NAME = "query.json"


class Item(NamedTuple):
  """One image of a query.

  Attributes:
    id: Id of the image.
    path: Absolute path of the image on this machine, or its gs:// address.
    score: Score that the strategy ranked the image by, or None.
    predictions: Names and probabilities of the likeliest classes, the likeliest
      first. Empty before the first model.
    digest: SHA-256 of the file in hexadecimal, or "" if it was not computed.
  """

  id: str
  path: str
  score: float | None = None
  predictions: tuple[tuple[str, float], ...] = ()
  digest: str = ""


class Query(NamedTuple):
  """The images that a round asks people to label.

  Attributes:
    round: The round that trains on the labels. Round 0 has the first labels.
    class_names: The classes known so far. Answers may name others.
    is_multi_label: Whether an image may have any number of labels.
    items: The images, in the order in which to show them.
    strategy: Name of the strategy that selected them.
    num_answers: Number of answers that the run had when it first wrote this
      query. Only later answers can skip an image of it, since an image that was
      skipped before may be selected again.
  """

  round: int
  class_names: tuple[str, ...]
  is_multi_label: bool
  items: tuple[Item, ...]
  strategy: str = ""
  num_answers: int = 0


def folder_of(workdir: epath.PathLike, round_num: int) -> epath.Path:
  """Returns the folder of the query of a round."""
  return storage.as_path(workdir) / FOLDER / f"{round_num:04d}"


def write(workdir: epath.PathLike, query: Query) -> epath.Path:
  """Writes a query into the folder of its round.

  Returns:
    The file.

  Raises:
    OSError: If the file cannot be written.
  """
  folder = folder_of(workdir, query.round)
  storage.make_folder(folder)
  items = [item._asdict() for item in query.items]
  content = json.dumps({**query._asdict(), "items": items}, indent=1)
  storage.write_atomically(folder / FILE_NAME, content.encode("ascii"))
  return folder / FILE_NAME


def read(workdir: epath.PathLike, round_num: int) -> Query:
  """Reads the query of a round.

  Raises:
    ValueError: If there is no such query, or its file is not valid.
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
  """Reads the queries of all rounds, from the first one on.

  Raises:
    ValueError: As in `read`.
  """
  last = latest_round(workdir)
  count = 0 if last is None else last + 1
  return tuple(read(workdir, round_num) for round_num in range(count))


def latest_round(workdir: epath.PathLike) -> int | None:
  """Returns the last round with a query, or None if there is no query."""
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
  """Returns the last round with a query.

  Raises:
    ValueError: If there is no query.
  """
  found = latest_round(workdir)
  if found is None:
    folder = storage.as_path(workdir) / FOLDER
    raise ValueError(
      "Expected `workdir` of a run that asks for labels, got no query in"
      f" {folder}: `decern-jax run` writes one."
    )
  return found


def _from_json(value: Any) -> Query:
  _check_type(value, dict)
  _check_type(value["class_names"], list)
  _check_type(value["items"], list)
  query = Query(
    **{
      **value,
      "class_names": tuple(value["class_names"]),
      "items": tuple(map(_item_from_json, value["items"])),
    }
  )
  _check_type(query.round, int)
  _check_type(query.num_answers, int)
  _check_type(query.is_multi_label, bool)
  for text in (*query.class_names, query.strategy):
    _check_type(text, str)
  return query


def _item_from_json(value: Any) -> Item:
  _check_type(value, dict)
  predictions = tuple((name, p) for name, p in value["predictions"])
  item = Item(**{**value, "predictions": predictions})
  for text in (item.id, item.path, item.digest, *(n for n, _ in predictions)):
    _check_type(text, str)
  for _, probability in predictions:
    _check_type(probability, float, int)
  _check_type(item.score, float, int, type(None))
  return item


def _check_type(value: Any, *types: type) -> None:
  # Not `isinstance`, which accepts True as an int.
  if type(value) not in types:
    raise TypeError(f"{value!r:.80} as {types[0].__name__}")
