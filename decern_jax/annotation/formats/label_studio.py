"""Label Studio: tasks with predictions, and its exports JSON and JSON-MIN.

Its pages show files of this machine if the server was started with
LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true and a local storage of the project
holds them; see `image_address`.
"""

from typing import Any
import urllib.parse

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

TASKS_FILE_NAME = "label_studio_tasks.json"
CONFIG_FILE_NAME = "label_studio_config.xml"

ID_FIELD = "decern_id"
"""Field of a task that holds the id of the image.

The field `id` holds it too, but JSON-MIN has the number of the task there.
"""

_CHOICES = "label"
_IMAGE = "image"

# What an answer of JSON-MIN has beside its choices.
_MINIMAL_FIELDS = frozenset(
  (_IMAGE, "id", ID_FIELD, "round", "annotator", "annotation_id", "created_at")
  + ("updated_at", "lead_time", "agreement")
)


def matches(content: bytes, value: Any) -> bool:
  """Says whether a file is a list of tasks, or of answers as in JSON-MIN.

  Args:
    content: The file.
    value: What it holds as JSON; None if it is not valid.
  """
  del content
  return isinstance(value, list) and any(
    isinstance(task, dict)
    and ("data" in task or "annotation_id" in task or ID_FIELD in task)
    for task in value
  )


def read(content: bytes) -> answer.Found:
  """Reads the annotations of an export.

  Each annotation of a task is an answer, by its choices of the name `label`; a
  cancelled one says that the image was skipped, one that is empty that it has
  none of the labels. Predictions are no answers, nor are drafts, which were
  never submitted.

  Args:
    content: The file, as JSON or JSON-MIN.

  Returns:
    The answers, and what was wrong with other annotations or tasks.

  Raises:
    ValueError: If it is no list of tasks.
  """
  value = parse_json(content)
  if not isinstance(value, list):
    raise ValueError(f"Expected a list of tasks, got {show(value)}.")
  gathering = Gathering(has_reserved=False)
  for place, task in sorted(enumerate(value, start=1), key=_order):
    try:
      _read_task(f"task {place}", task, gathering)
    except ValueError as error:
      gathering.refuse(f"task {place}", error)
  return gathering.found()


def write(query: Query, folder: epath.PathLike) -> tuple[epath.Path, ...]:
  """Writes the tasks of a query, and the configuration of their labeling.

  Args:
    query: The query.
    folder: Where the files are to be.

  Returns:
    The tasks, to be imported, and the configuration, to be pasted as code.

  Raises:
    OSError: If they cannot be written.
    ValueError: As in `labeling_config`.
  """
  config = labeling_config(query)
  contents = {
    TASKS_FILE_NAME: writing.as_json(tasks(query)),
    CONFIG_FILE_NAME: config.encode("utf-8"),
  }
  return writing.save(folder, contents)


def tasks(query: Query) -> list[dict[str, Any]]:
  """Returns the images of a query as tasks, with the model's predictions.

  Args:
    query: The query.
  """
  return [_task(query, item) for item in query.items]


def labeling_config(query: Query) -> str:
  """Returns the XML that tells Label Studio what to ask.

  Args:
    query: The query.

  Raises:
    ValueError: If there are no classes to choose from, or one has a name that
      XML cannot hold.
  """
  if not query.class_names:
    raise ValueError(
      "Expected names of classes to choose from, as in `labels.class_names`,"
      " got none."
    )
  choices = "\n".join(
    f"    <Choice value={writing.xml_attribute(name)}/>"
    for name in query.class_names
  )
  # Where an image may have none of the labels, people submit no choice.
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
  """Returns what Label Studio's pages load an image by.

  Args:
    path: A file of this machine, or a gs:// address, which is left as it is.

  Returns:
    The address. For a file it is relative to
    LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT=/, its default.
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
  shown = writing.predicted(query, item.predictions)
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


def _read_task(where: str, task: Any, gathering: Gathering) -> None:
  data = field(task, "data")
  if data is None:
    _read_minimal(where, task, gathering)
    return
  id_ = field(data, ID_FIELD) or field(data, "id")
  # Older servers say completions.
  annotations = rows(task, "annotations") or rows(task, "completions")
  for annotation in sorted(annotations, key=_time):
    _read_annotation(where, id_, annotation, gathering)
  drafts = len(rows(task, "drafts"))
  if drafts:
    gathering.refuse(where, f"Expected no drafts, got {drafts} not submitted.")


def _read_annotation(
  where: str, id_: Any, annotation: Any, gathering: Gathering
) -> None:
  where = f"{where}, annotation {show(field(annotation, 'id'))}"
  try:
    is_cancelled = field(annotation, "was_cancelled") is True
    labels = None if is_cancelled else _chosen(annotation)
  except ValueError as error:
    gathering.refuse(where, error)
    return
  person = _person(field(annotation, "completed_by"))
  time = _time(annotation)
  gathering.add(where, labels, id=id_, annotator=person, time=time)


def _chosen(annotation: Any) -> list[Any]:
  """Returns the choices of an annotation, which may have other parts.

  Never those by another name: they may be of something else.
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


def _read_minimal(where: str, task: Any, gathering: Gathering) -> None:
  """Reads an answer of JSON-MIN, where an annotation is beside its data."""
  if field(task, "annotation_id") is None:
    if field(task, ID_FIELD) is None:
      raise ValueError(f"Expected a task with data, got {show(task)}.")
    return  # not answered
  gathering.add(
    where,
    _chosen_minimal(task),
    id=task.get(ID_FIELD),
    annotator=_person(task.get("annotator")),
    time=_time(task),
  )


def _chosen_minimal(task: dict[str, Any]) -> list[Any]:
  """Returns the choices; there is no such field where none was made."""
  unknown = sorted(set(task) - _MINIMAL_FIELDS)
  if _CHOICES not in task and unknown:
    raise ValueError(f"Expected choices as {_CHOICES!r}, got {show(unknown)}.")
  chosen = task.get(_CHOICES, [])
  labels: list[Any] = []
  for part in chosen if isinstance(chosen, list) else [chosen]:
    labels += rows(part, "choices") if isinstance(part, dict) else [part]
  return labels


def _order(numbered: tuple[int, Any]) -> str:
  """Returns what puts the later of two answers of JSON-MIN last."""
  _, task = numbered
  return _time(task) if field(task, "data") is None else ""


def _person(value: Any) -> Any:
  """Returns the address of a person, or else the number."""
  if isinstance(value, dict):
    value = value.get("email") or value.get("id")
  if value is None:
    return ""
  return str(value) if isinstance(value, int) else value


def _time(annotation: Any) -> str:
  found = field(annotation, "updated_at") or field(annotation, "created_at")
  return found if isinstance(found, str) else ""
