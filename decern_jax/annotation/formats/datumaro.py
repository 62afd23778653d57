"""Datumaro JSON: data sets of images with label annotations.

It has no way to say that an image was skipped or has none of the labels. The
categories `?` and `-` stand for that.
"""

import collections
import posixpath
from typing import Any

from etils import epath

from decern_jax.annotation.answers import ParsedAnswers
from decern_jax.annotation.formats import format as shared
from decern_jax.annotation.formats.format import (
  AnswerCollector,
  Format,
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
"""The attribute of an item with the id of the image."""

_VERSION = "1.0"
_IMAGE_TYPE = 2


def matches(content: bytes, value: Any) -> bool:
  """Returns whether a file holds categories and items."""
  del content
  return isinstance(value, dict) and {"categories", "items"} <= set(value)


def read(content: bytes) -> ParsedAnswers:
  """Reads the label annotations of the items.

  An item without annotations is not answered yet. The id of its image is an
  attribute, or else the name of the item with the file ending of the image,
  which Datumaro leaves out.

  Raises:
    ValueError: If the file has no items, or its labels have no names.
  """
  value = parse_json(content)
  names = _label_names(value)
  collector = AnswerCollector(has_reserved=True)
  for number, item in enumerate(rows(value, "items"), start=1):
    with collector.item(f"item {number}"):
      labels = _labels(item, names)
      if labels:
        collector.add(labels, id=_id(item))
  return collector.result()


def write(query: Query, folder: epath.PathLike) -> tuple[epath.Path, ...]:
  """Writes a query as a data set whose items have no annotations yet.

  The model's predictions become attributes of the items, since annotations
  would look like answers. To import the data set, copy the images into
  `datumaro/images/default`, in the folders of their ids; Datumaro refuses links
  that lead out of its folder.

  Raises:
    OSError: If the file cannot be written.
    ValueError: If a class has a reserved name.
  """
  labels = [
    {"name": name, "parent": "", "attributes": []}
    for name in shared.choices(query)
  ]
  category = {"labels": labels, "label_groups": [], "attributes": []}
  content = {
    "dm_format_version": _VERSION,
    "media_type": _IMAGE_TYPE,
    "infos": {},
    "categories": {"label": category},
    "items": _items(query),
  }
  target = storage.as_path(folder).joinpath(*FOLDER)
  return shared.save(target, {FILE_NAME: shared.to_json(content)})


FORMAT = Format(
  name="datumaro",
  title="Datumaro JSON",
  endings=(),
  matches=matches,
  read=read,
  write=write,
)


def _items(query: Query) -> list[dict[str, Any]]:
  # Datumaro names an item like its image without the file ending, which it adds
  # when it exports other formats. Two images that differ in nothing but the
  # ending keep it, since names must differ.
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
  shown = shared.predicted(query, item.predictions)
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
  # Not `isinstance`, and not only `in`: True and 1.0 equal 1.
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
