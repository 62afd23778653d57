"""FiftyOne: data sets of the type FiftyOneDataset on disk.

The label `?` means that the image was skipped; the label `-`, or empty
`Classifications`, that it has none of the labels. FiftyOne need not be
installed.
"""

import hashlib
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

FOLDER = "fiftyone"
SAMPLES_FILE_NAME = "samples.json"
METADATA_FILE_NAME = "metadata.json"

ANSWERS_FIELD = "ground_truth"
PREDICTIONS_FIELD = "predictions"
ID_FIELD = "decern_id"
"""The field of a sample with the id of the image."""

_SINGLE, _SEVERAL = "Classification", "Classifications"

# FiftyOne migrates data sets of older versions, and refuses newer ones.
_VERSION = "1.0.0"
_FIELDS = "fiftyone.core.fields."
_LABELS = "fiftyone.core.labels."


def matches(content: bytes, value: Any) -> bool:
  """Returns whether a file holds samples."""
  del content
  return isinstance(field(value, "samples"), list)


def read(content: bytes) -> ParsedAnswers:
  """Reads the labels in the file `samples.json` of a data set.

  The answers are in the field `ground_truth`, or else in the only field with
  labels besides `predictions`. A sample without the field is not answered yet.

  Raises:
    ValueError: If it has no samples, or several fields may hold the answers.
  """
  value = parse_json(content)
  if not matches(content, value):
    raise ValueError(f"Expected samples of FiftyOne, got {show(value)}.")
  samples = rows(value, "samples")
  name = _answers_field(samples)
  collector = AnswerCollector(has_reserved=True)
  for number, sample in enumerate(samples, start=1):
    with collector.item(f"sample {number}"):
      _read_sample(sample, name, collector)
  return collector.result()


def write(query: Query, folder: epath.PathLike) -> tuple[epath.Path, ...]:
  """Writes a query as the data set `fiftyone`, for `Dataset.from_dir`.

  Returns:
    The samples and the metadata.

  Raises:
    OSError: If they cannot be written.
    ValueError: If a class has a reserved name.
  """
  shared.check_class_names(query)
  samples = [_sample(query, item) for item in query.items]
  contents = {
    SAMPLES_FILE_NAME: shared.to_json({"samples": samples}),
    METADATA_FILE_NAME: shared.to_json(_metadata(query)),
  }
  return shared.save(storage.as_path(folder) / FOLDER, contents)


FORMAT = Format(
  name="fiftyone",
  title="the samples.json of a FiftyOneDataset",
  endings=(),
  matches=matches,
  read=read,
  write=write,
)


def _answers_field(samples: list[Any]) -> str:
  """Returns the name of the field with the answers."""
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


def _read_sample(sample: Any, name: str, collector: AnswerCollector) -> None:
  if not isinstance(sample, dict):
    raise ValueError(f"Expected a sample, got {show(sample)}.")
  value = sample.get(name)
  if value is None:
    return
  time = field(sample.get("last_modified_at"), "$date")
  collector.add(
    _labels(value),
    id=sample.get(ID_FIELD) or sample.get("filepath"),
    time=time if isinstance(time, str) else "",
  )


def _labels(value: Any) -> list[Any]:
  kind = field(value, "_cls")
  if kind == _SINGLE:
    return [field(value, "label")]
  if kind == _SEVERAL:
    return [field(entry, "label") for entry in rows(value, "classifications")]
  raise ValueError(f"Expected {_SINGLE} or {_SEVERAL}, got {show(value)}.")


def _sample(query: Query, item: Item) -> dict[str, Any]:
  sample = {
    "_id": _object_id(query, item.id),
    "filepath": item.path,
    "tags": [f"round {query.round}"],
    "_media_type": "image",
    # FiftyOne draws random samples by this number in [0, 1).
    "_rand": int(_digest(item.id), 16) / 2**160,
    ID_FIELD: item.id,
    "score": item.score,
  }
  shown = shared.predicted(query, item.predictions)
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
  """Returns an id of MongoDB that is the same in each export of a query."""
  return {"$oid": _digest(str(query.round), *names)[:24]}


def _digest(*names: str) -> str:
  text = "\0".join(names).encode("utf-8", "surrogatepass")
  return hashlib.sha1(text, usedforsecurity=False).hexdigest()
