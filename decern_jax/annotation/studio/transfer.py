"""Pushes queries to Label Studio, and pulls finished annotations."""

import dataclasses
import json
import os
import posixpath
from typing import Any

from etils import epath

from decern_jax.annotation.formats import label_studio
from decern_jax.annotation.query import ANSWERS_FOLDER, Item, Query
from decern_jax.annotation.studio.client import Client, Project, ensure, retry
from decern_jax.io import storage

FILE_NAME = "label_studio.json"
"""Answer file that annotations are pulled into."""

BATCH_SIZE = 250
"""Tasks in one request, which takes less than a second."""


@dataclasses.dataclass(frozen=True)
class Pushed:
  """The result of `push`.

  Attributes:
    num_there: Number of images that were on the server before.
    num_added: Number of images that were added.
    left_out: Ids that are not valid text, which no web page can show.
  """

  num_there: int
  num_added: int
  left_out: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Pulled:
  """The answer file, its number of answers, and the unread annotations."""

  path: epath.Path
  num_answers: int
  problems: tuple[str, ...]


def push(
  client: Client, project: Project, query: Query, *, document_root: str = "/"
) -> Pushed:
  """Adds the images of a query that are not on the server yet.

  A second call, or one after a lost connection, adds no image twice.

  Args:
    client: Client of the server.
    project: The project.
    query: The query.
    document_root: Folder on the server's machine, below which it shows files.

  Raises:
    ValueError: If an image is not in that folder, or the server cannot show the
      first of them, or refuses; shows why.
    TransientError: If the server could not be reached; the same call resumes.
  """
  items = tuple(item for item in query.items if _is_text(item.id))
  tasks = _tasks(query._replace(items=items), document_root)
  missing = _missing(client, project, tasks)
  _check_first_image(client, missing, document_root)
  for start in range(0, len(missing), BATCH_SIZE):
    _push_batch(client, project, missing[start : start + BATCH_SIZE])
  left_out = tuple(i.id for i in query.items if not _is_text(i.id))
  return Pushed(len(tasks) - len(missing), len(missing), left_out)


def pull(client: Client, project: Project, workdir: epath.PathLike) -> Pulled:
  """Writes the submitted annotations to the answers of a run.

  The file always holds all annotations of the project. It is not touched if
  there are none.

  Raises:
    ValueError: If the server does not answer with annotations.
    TransientError: If it could not be reached.
    OSError: If the file cannot be written.
  """
  content = retry(lambda: client.export(project.number))
  answers = label_studio.read(content)
  path = storage.as_path(workdir) / ANSWERS_FOLDER / FILE_NAME
  if answers.answers:
    storage.make_folder(path.parent)
    storage.write_atomically(path, content)
  return Pulled(path, len(answers.answers), answers.problems)


def _tasks(query: Query, document_root: str) -> list[dict[str, Any]]:
  """Returns tasks with image addresses relative to the document root."""
  tasks = label_studio.tasks(query)
  for task, item in zip(tasks, query.items, strict=True):
    path = _relative_path(item, document_root)
    task["data"]["image"] = label_studio.image_address(path)
  return tasks


def _relative_path(item: Item, document_root: str) -> str:
  """Returns the path of an image relative to a folder; gs:// paths stay."""
  if storage.is_remote(item.path):
    return item.path
  path, root = (p.replace(os.sep, "/") for p in (item.path, document_root))
  path = posixpath.relpath(path, root)
  if path.split("/")[0] == "..":
    raise ValueError(
      f"Expected images below `document_root` {document_root}, got {item.path}."
    )
  return path


def _check_first_image(
  client: Client, tasks: list[dict[str, Any]], document_root: str
) -> None:
  """Checks that the server shows the first local image.

  Wrong addresses must be found before the push: tasks cannot be changed later.
  """
  addresses = (task["data"]["image"] for task in tasks)
  address = next((a for a in addresses if not storage.is_remote(a)), None)
  if address is not None and not retry(lambda: client.can_show(address)):
    raise ValueError(
      f"Expected {client.url} to show {address}, got no such image. Is its"
      " LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED true, and its"
      " LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT (`document_root`)"
      f" {document_root}?"
    )


def _push_batch(
  client: Client, project: Project, batch: list[dict[str, Any]]
) -> None:
  missing = batch

  def find() -> bool | None:
    nonlocal missing
    missing = _missing(client, project, batch)
    return None if missing else True

  # `missing` shrinks if the server added only a part of the batch.
  ensure(find, lambda: client.add_tasks(project.number, missing))


def _missing(
  client: Client, project: Project, tasks: list[dict[str, Any]]
) -> list[dict[str, Any]]:
  """Returns the tasks that a project does not have."""
  keys = set(map(_key, retry(lambda: client.tasks(project.number))))
  return [task for task in tasks if _key(task["data"]) not in keys]


def _key(data: dict[str, Any]) -> str:
  """Returns what identifies a task: a later round may ask an image again."""
  # As JSON: in tasks of other people, the fields may hold unhashable values.
  return json.dumps([data.get("round"), data.get(label_studio.ID_FIELD)])


def _is_text(id_: str) -> bool:
  try:
    id_.encode()
  except UnicodeEncodeError:
    return False
  return True
