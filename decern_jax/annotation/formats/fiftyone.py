"""FiftyOne: data sets on disk, of the type FiftyOneDataset, and their labels.

An image is skipped if its label is `?`, and has none of the labels if it is `-`
or its `Classifications` are empty. FiftyOne itself is not needed here.
"""

import hashlib
from typing import Any

from etils import epath

from decern_jax.annotation import answer
from decern_jax.annotation.formats import writing
from decern_jax.annotation.formats.reading import (
  Gathering,
  field,
  parse_json,
  rows,
  show,
)
from decern_jax.annotation.query import Item, Query
from decern_jax.io import storage

FOLDER = "fiftyone"
SAMPLES_FILE_NAME = "samples.json"
METADATA_FILE_NAME = "metadata.json"

ANSWERS_FIELD = "ground_truth"
PREDICTIONS_FIELD = "predictions"
ID_FIELD = "decern_id"
"""Field of a sample that holds the id of the image."""

_SINGLE, _SEVERAL = "Classification", "Classifications"

# Newer ones migrate what an older one wrote; older ones refuse newer.
_VERSION = "1.0.0"
_FIELDS = "fiftyone.core.fields."
_LABELS = "fiftyone.core.labels."


def matches(content: bytes, value: Any) -> bool:
  """Says whether a file holds samples.

  Args:
    content: The file.
    value: What it holds as JSON; None if it is not valid.
  """
  del content
  return isinstance(field(value, "samples"), list)


def read(content: bytes) -> answer.Found:
  """Reads the labels of the file `samples.json` of a data set.

  They are those of the field `ground_truth`, or of the only field with labels
  but for `predictions`. A sample without the field is not answered.

  Args:
    content: The file.

  Returns:
    The answers, and what was wrong with other samples.

  Raises:
    ValueError: If it has no samples, or several fields may hold the answers.
  """
  value = parse_json(content)
  if not matches(content, value):
    raise ValueError(f"Expected samples of FiftyOne, got {show(value)}.")
  samples = rows(value, "samples")
  name = _answers_field(samples)
  gathering = Gathering(has_reserved=True)
  for place, sample in enumerate(samples, start=1):
    _read_sample(f"sample {place}", sample, name, gathering)
  return gathering.found()


def write(query: Query, folder: epath.PathLike) -> tuple[epath.Path, ...]:
  """Writes a query as a data set, to be read with `Dataset.from_dir`.

  Args:
    query: The query.
    folder: Where the folder `fiftyone` is to be.

  Returns:
    The samples, and what FiftyOne reads first.

  Raises:
    OSError: If they cannot be written.
    ValueError: If a class has a reserved name.
  """
  writing.check_class_names(query)
  samples = [_sample(query, item) for item in query.items]
  contents = {
    SAMPLES_FILE_NAME: writing.as_json({"samples": samples}),
    METADATA_FILE_NAME: writing.as_json(_metadata(query)),
  }
  return writing.save(storage.as_path(folder) / FOLDER, contents)


def _answers_field(samples: list[Any]) -> str:
  """Returns the name of the field that holds the answers."""
  found = {
    name: None
    for sample in samples
    if isinstance(sample, dict)
    for name, value in sample.items()
    if field(value, "_cls") in (_SINGLE, _SEVERAL)
  }
  found.pop(PREDICTIONS_FIELD, None)
  if ANSWERS_FIELD in found or not found:
    return ANSWERS_FIELD
  if len(found) > 1:
    raise ValueError(
      f"Expected the labels in a field {ANSWERS_FIELD!r}, or one field with"
      f" labels, got {show(sorted(found))}."
    )
  return next(iter(found))


def _read_sample(
  where: str, sample: Any, name: str, gathering: Gathering
) -> None:
  if not isinstance(sample, dict):
    gathering.refuse(where, f"Expected a sample, got {show(sample)}.")
    return
  value = sample.get(name)
  if value is None:
    return
  time = field(sample.get("last_modified_at"), "$date")
  try:
    gathering.add(
      where,
      _labels(value),
      id=sample.get(ID_FIELD) or sample.get("filepath"),
      time=time if isinstance(time, str) else "",
    )
  except ValueError as error:
    gathering.refuse(where, error)


def _labels(value: Any) -> list[Any]:
  kind = field(value, "_cls")
  if kind == _SINGLE:
    return [field(value, "label")]
  if kind == _SEVERAL:
    return [field(part, "label") for part in rows(value, "classifications")]
  raise ValueError(f"Expected {_SINGLE} or {_SEVERAL}, got {show(value)}.")


def _sample(query: Query, item: Item) -> dict[str, Any]:
  sample = {
    "_id": _object_id(query, item.id),
    "filepath": item.path,
    "tags": [f"round {query.round}"],
    "_media_type": "image",
    # By which FiftyOne draws samples at random: a number in [0, 1).
    "_rand": int(_digest(item.id), 16) / 2**160,
    ID_FIELD: item.id,
    "score": item.score,
  }
  shown = writing.predicted(query, item.predictions)
  labels = [
    {
      "_id": _object_id(query, item.id, name),
      "_cls": _SINGLE,
      "tags": [],
      "label": name,
      "confidence": probability,
    }
    for name, probability in shown
  ]
  if query.is_multi_label:
    sample[PREDICTIONS_FIELD] = {"_cls": _SEVERAL, "classifications": labels}
  elif labels:
    sample[PREDICTIONS_FIELD] = labels[0]
  return sample


def _metadata(query: Query) -> dict[str, Any]:
  kind = _SEVERAL if query.is_multi_label else _SINGLE
  embedded = {
    "ftype": f"{_FIELDS}EmbeddedDocumentField",
    "embedded_doc_type": f"{_LABELS}{kind}",
  }
  strings = {
    "ftype": f"{_FIELDS}ListField",
    "subfield": f"{_FIELDS}StringField",
  }
  fields = [
    {"name": "id", "db_field": "_id", "ftype": f"{_FIELDS}ObjectIdField"},
    {"name": "filepath", "ftype": f"{_FIELDS}StringField"},
    {"name": "tags", **strings},
    {
      "name": "metadata",
      "ftype": f"{_FIELDS}EmbeddedDocumentField",
      "embedded_doc_type": "fiftyone.core.metadata.ImageMetadata",
    },
    {"name": ID_FIELD, "ftype": f"{_FIELDS}StringField"},
    {"name": "score", "ftype": f"{_FIELDS}FloatField"},
    {"name": PREDICTIONS_FIELD, **embedded},
    {"name": ANSWERS_FIELD, **embedded},
  ]
  return {
    "name": f"decern_jax_round_{query.round}",
    "version": _VERSION,
    "media_type": "image",
    "sample_fields": [{"db_field": f["name"], **f} for f in fields],
    "classes": {ANSWERS_FIELD: [*query.class_names]},
    "default_classes": [],
    "tags": [],
    "info": {"strategy": query.strategy, "round": query.round},
  }


def _object_id(query: Query, *names: str) -> dict[str, str]:
  """Returns an id as MongoDB has them, the same in each export of a query."""
  return {"$oid": _digest(str(query.round), *names)[:24]}


def _digest(*names: str) -> str:
  text = "\0".join(names).encode("utf-8", "surrogatepass")
  return hashlib.sha1(text, usedforsecurity=False).hexdigest()
