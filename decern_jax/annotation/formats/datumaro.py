"""Datumaro JSON: data sets of images with label annotations.

It has no way to say that an image was skipped or has none of the labels: the
categories that are written have `?` and `-` for that.
"""

import collections
import posixpath
from typing import Any

from etils import epath

from decern_jax.annotation import answer
from decern_jax.annotation.formats import writing
from decern_jax.annotation.formats.reading import (
  NONE,
  SKIPPED,
  Gathering,
  field,
  parse_json,
  rows,
  show,
)
from decern_jax.annotation.query import Item, Query
from decern_jax.io import storage

FOLDER = ("datumaro", "annotations")
FILE_NAME = "default.json"

ID_FIELD = "decern_id"
"""Attribute of an item that holds the id of the image."""

_VERSION = "1.0"
_IMAGE_TYPE = 2


def matches(content: bytes, value: Any) -> bool:
  """Says whether a file holds categories and items.

  Args:
    content: The file.
    value: What it holds as JSON; None if it is not valid.
  """
  del content
  return isinstance(value, dict) and {"categories", "items"} <= set(value)


def read(content: bytes) -> answer.Found:
  """Reads the label annotations of the items.

  An item without annotations is not answered. Its name is that of its image,
  with the ending that Datumaro leaves out, unless it holds the id.

  Args:
    content: The file.

  Returns:
    The answers, and what was wrong with other items.

  Raises:
    ValueError: If it has no items, or its labels have no names.
  """
  value = parse_json(content)
  names = _label_names(value)
  gathering = Gathering(has_reserved=True)
  for place, item in enumerate(rows(value, "items"), start=1):
    try:
      labels = _labels(item, names)
    except ValueError as error:
      gathering.refuse(f"item {place}", error)
      continue
    if labels:
      gathering.add(f"item {place}", labels, id=_id(item))
  return gathering.found()


def write(query: Query, folder: epath.PathLike) -> tuple[epath.Path, ...]:
  """Writes a query as a data set whose items have no annotations yet.

  The model's predictions are attributes of the items: as annotations, they
  could not be told from answers.

  Args:
    query: The query.
    folder: Where the folder `datumaro` is to be. Its images are to be copied
      into `datumaro/images/default`, in folders as in their ids; links that
      lead elsewhere are refused by Datumaro.

  Returns:
    The file.

  Raises:
    OSError: If it cannot be written.
    ValueError: If a class has a reserved name.
  """
  writing.check_class_names(query)
  names = [*query.class_names, SKIPPED]
  names += [NONE] if query.is_multi_label else []
  labels = [{"name": n, "parent": "", "attributes": []} for n in names]
  category = {"labels": labels, "label_groups": [], "attributes": []}
  content = {
    "dm_format_version": _VERSION,
    "media_type": _IMAGE_TYPE,
    "infos": {},
    "categories": {"label": category},
    "items": _items(query),
  }
  place = storage.as_path(folder).joinpath(*FOLDER)
  return writing.save(place, {FILE_NAME: writing.as_json(content)})


def _items(query: Query) -> list[dict[str, Any]]:
  # Datumaro names an item as its image without the ending, which it adds when
  # it exports other formats; two images may differ in nothing else.
  stems = [posixpath.splitext(item.id)[0] for item in query.items]
  counts = collections.Counter(stems)
  return [
    {
      "id": stem if counts[stem] == 1 else item.id,
      "annotations": [],
      "attr": {ID_FIELD: item.id, **_predicted(query, item)},
      "image": {"path": item.id},
    }
    for stem, item in zip(stems, query.items, strict=True)
  ]


def _predicted(query: Query, item: Item) -> dict[str, Any]:
  shown = writing.predicted(query, item.predictions)
  attributes: dict[str, Any] = {}
  for number, (name, probability) in enumerate(shown, start=1):
    attributes[f"predicted_{number}"] = name
    attributes[f"probability_{number}"] = probability
  return attributes


def _label_names(value: Any) -> list[Any]:
  if not matches(b"", value):
    raise ValueError(f"Expected categories and items, got {show(value)}.")
  labels = rows(field(field(value, "categories"), "label"), "labels")
  return [field(label, "name") for label in labels]


def _labels(item: Any, names: list[Any]) -> list[Any]:
  """Returns the names of the labels of an item."""
  if not isinstance(item, dict):
    raise ValueError(f"Expected an item, got {show(item)}.")
  annotations = rows(item, "annotations")
  others = [a for a in annotations if field(a, "type") != "label"]
  if others:
    raise ValueError(f"Expected labels of whole images, got {show(others)}.")
  numbers = [field(a, "label_id") for a in annotations]
  allowed = range(len(names))
  # True and 1.0 would be equal to a number.
  wrong = [n for n in numbers if type(n) is not int or n not in allowed]
  if wrong:
    raise ValueError(
      f"Expected 0 <= `label_id` < {len(names)}, got {show(wrong)}."
    )
  return [names[n] for n in numbers]


def _id(item: dict[str, Any]) -> Any:
  given = field(item.get("attr"), ID_FIELD)
  name, path = item.get("id"), field(item.get("image"), "path")
  if isinstance(given, str):
    return given
  if isinstance(name, str) and isinstance(path, str):
    stem, ending = posixpath.splitext(path)
    if stem == name or stem.endswith(f"/{name}"):
      return name + ending
  return name
