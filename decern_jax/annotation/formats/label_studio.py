"""Label Studio: tasks with predictions, and exports as JSON and JSON-MIN.

Its pages show files of this machine if the server was started with
LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true, and a local storage of the
project contains them; see `image_address`.
"""

from typing import Any
import urllib.parse

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

TASKS_FILE_NAME = "label_studio_tasks.json"
CONFIG_FILE_NAME = "label_studio_config.xml"

ID_FIELD = "decern_id"
"""The field of a task with the id of the image.

The field `id` has it too, but JSON-MIN replaces that by the task number.
"""

_CHOICES = "label"
_IMAGE = "image"

# The fields of an answer of JSON-MIN other than the choices.
_MINIMAL_FIELDS = frozenset(
  (_IMAGE, "id", ID_FIELD, "round", "annotator", "annotation_id", "created_at")
  + ("updated_at", "lead_time", "agreement")
)


def matches(content: bytes, value: Any) -> bool:
  """Returns whether a file is a list of tasks, or of answers of JSON-MIN."""
  del content
  return isinstance(value, list) and any(
    isinstance(task, dict)
    and ("data" in task or "annotation_id" in task or ID_FIELD in task)
    for task in value
  )


def read(content: bytes) -> ParsedAnswers:
  """Reads the annotations of an export as JSON or JSON-MIN.

  Each annotation is an answer, by its choices with the name `label`. A
  cancelled annotation means that the image was skipped, an empty one that it
  has none of the labels. Predictions, and drafts that were never submitted, are
  not answers.

  Raises:
    ValueError: If it is not a list of tasks.
  """
  value = parse_json(content)
  if not isinstance(value, list):
    raise ValueError(f"Expected a list of tasks, got {show(value)}.")
  collector = AnswerCollector(has_reserved=False)
  for number, task in sorted(enumerate(value, start=1), key=_minimal_time):
    with collector.item(f"task {number}"):
      _read_task(f"task {number}", task, collector)
  return collector.result()


def write(query: Query, folder: epath.PathLike) -> tuple[epath.Path, ...]:
  """Writes the tasks of a query, and the labeling configuration.

  Returns:
    The tasks, to be imported, and the configuration, to be pasted as code.

  Raises:
    OSError: If they cannot be written.
    ValueError: As in `labeling_config`.
  """
  config = labeling_config(query)
  contents = {
    TASKS_FILE_NAME: shared.to_json(tasks(query)),
    CONFIG_FILE_NAME: config.encode("utf-8"),
  }
  return shared.save(folder, contents)


FORMAT = Format(
  name="label_studio",
  title="an export of Label Studio (JSON or JSON-MIN)",
  endings=(),
  matches=matches,
  read=read,
  write=write,
)


def tasks(query: Query) -> list[dict[str, Any]]:
  """Returns the images of a query as tasks with the model's predictions."""
  return [_task(query, item) for item in query.items]


def labeling_config(query: Query) -> str:
  """Returns the labeling configuration of Label Studio as XML.

  Raises:
    ValueError: If there are no classes to choose from, or XML cannot represent
      the name of one.
  """
  if not query.class_names:
    raise ValueError(
      "Expected names of classes to choose from, as in `labels.class_names`,"
      " got none."
    )
  choices = "\n".join(
    f"    <Choice value={shared.xml_attribute(name)}/>"
    for name in query.class_names
  )
  # Where images may have none of the labels, people may submit no choice.
  options = (
    'choice="multiple"'
    if query.is_multi_label
    else 'choice="single" required="true"'
  )
  return (
    "<View>\n"
    f'  <Image name="{_IMAGE}" value="$image" zoom="true"/>\n'
    f'  <Choices name="{_CHOICES}" toName="{_IMAGE}" {options}>\n'
    f"{choices}\n"
    "  </Choices>\n"
    "</View>\n"
  )


def image_address(path: str) -> str:
  """Returns the address by which the pages of Label Studio load an image.

  Args:
    path: A file of this machine, or a gs:// address, which is not changed.

  Returns:
    The address. That of a file is relative to the default
    LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT=/.
  """
  if storage.is_remote(path):
    return path
  quoted = urllib.parse.quote(path.lstrip("/"), errors="surrogateescape")
  return f"/data/local-files/?d={quoted}"


def _task(query: Query, item: Item) -> dict[str, Any]:
  data = {
    "image": image_address(item.path),
    "id": item.id,
    ID_FIELD: item.id,
    "round": query.round,
  }
  shown = shared.predicted(query, item.predictions)
  if not shown:
    return {"data": data}
  prediction = {
    "model_version": f"decern_jax, round {query.round}",
    "score": shown[0][1],
    "result": [
      {
        "from_name": _CHOICES,
        "to_name": _IMAGE,
        "type": "choices",
        "value": {"choices": [name for name, _ in shown]},
      }
    ],
  }
  return {"data": data, "predictions": [prediction]}


def _read_task(where: str, task: Any, collector: AnswerCollector) -> None:
  data = field(task, "data")
  if data is None:
    _read_minimal(task, collector)
    return
  id_ = field(data, ID_FIELD) or field(data, "id")
  # Older servers call annotations completions.
  annotations = rows(task, "annotations") or rows(task, "completions")
  for annotation in sorted(annotations, key=_time):
    with collector.item(f"{where}, annotation {show(field(annotation, 'id'))}"):
      is_cancelled = field(annotation, "was_cancelled") is True
      collector.add(
        None if is_cancelled else _chosen(annotation),
        id=id_,
        annotator=_annotator(field(annotation, "completed_by")),
        time=_time(annotation),
      )
  num_drafts = len(rows(task, "drafts"))
  if num_drafts:
    raise ValueError(f"Expected no drafts, got {num_drafts} not submitted.")


def _chosen(annotation: Any) -> list[Any]:
  """Returns the choices of an annotation, which may have other results.

  Choices with other names are not used: they may be about something else.
  """
  if not isinstance(annotation, dict):
    raise ValueError(f"Expected an annotation, got {show(annotation)}.")
  results = rows(annotation, "result")
  chosen = [r for r in results if field(r, "from_name") == _CHOICES]
  choices = [field(field(result, "value"), "choices") for result in chosen]
  if any(not isinstance(c, list) for c in choices) or (results and not chosen):
    raise ValueError(
      f"Expected choices by the name {_CHOICES!r}, got {show(results)}."
    )
  return [name for found in choices for name in found]


def _read_minimal(task: Any, collector: AnswerCollector) -> None:
  """Reads an answer of JSON-MIN, where a task and its annotation are one."""
  if field(task, "annotation_id") is None:
    if field(task, ID_FIELD) is None:
      raise ValueError(f"Expected a task with data, got {show(task)}.")
    return  # not answered yet
  collector.add(
    _chosen_minimal(task),
    id=task.get(ID_FIELD),
    annotator=_annotator(task.get("annotator")),
    time=_time(task),
  )


def _chosen_minimal(task: dict[str, Any]) -> list[Any]:
  """Returns the choices. The field is absent if no choice was made."""
  unknown = sorted(set(task) - _MINIMAL_FIELDS)
  if _CHOICES not in task and unknown:
    raise ValueError(f"Expected choices as {_CHOICES!r}, got {show(unknown)}.")
  chosen = task.get(_CHOICES, [])
  labels: list[Any] = []
  for entry in chosen if isinstance(chosen, list) else [chosen]:
    labels += rows(entry, "choices") if isinstance(entry, dict) else [entry]
  return labels


def _minimal_time(numbered: tuple[int, Any]) -> str:
  """Returns the sort key that puts the later of two JSON-MIN answers last."""
  _, task = numbered
  return _time(task) if field(task, "data") is None else ""


def _annotator(value: Any) -> Any:
  """Returns the e-mail address of a user, or else the user's number."""
  if isinstance(value, dict):
    value = value.get("email") or value.get("id")
  if value is None:
    return ""
  return str(value) if isinstance(value, int) else value


def _time(annotation: Any) -> str:
  found = field(annotation, "updated_at") or field(annotation, "created_at")
  return found if isinstance(found, str) else ""
