"""Queries to Label Studio, and finished annotations back."""

import json
import posixpath
from typing import Any, NamedTuple

from etils import epath

from decern_jax.annotation.formats import label_studio
from decern_jax.annotation.query import ANSWERS_FOLDER, Item, Query
from decern_jax.annotation.studio import patience
from decern_jax.annotation.studio.server import Project, Server
from decern_jax.io import storage

FILE_NAME = "label_studio.json"
"""File of answers that annotations are pulled into."""

BATCH_SIZE = 250
"""Tasks of one request: it takes less than a second."""


class Pushed(NamedTuple):
  """What became of a query.

  Attributes:
    num_there: Images that were on the server before.
    num_added: Images that came to it.
    left_out: Ids that are no valid text, which no page of a browser can show.
  """

  num_there: int
  num_added: int
  left_out: tuple[str, ...]


class Pulled(NamedTuple):
  """What annotations there were.

  Attributes:
    path: The file that holds them.
    num_answers: How many answers they are.
    problems: A sentence for each that is none.
  """

  path: epath.Path
  num_answers: int
  problems: tuple[str, ...]


def push(
  server: Server, found: Project, query: Query, *, document_root: str = "/"
) -> Pushed:
  """Brings the images of a query to the server that are not there yet.

  A second call, or one after a lost connection, adds none twice.

  Args:
    server: The server.
    found: The project.
    query: The query.
    document_root: Folder of the server's machine that it shows files below of.

  Returns:
    What was done.

  Raises:
    ValueError: If an image is not in that folder, or the server cannot show the
      first of them, or refuses; shows why.
    LostError: If the server could not be reached; the same call goes on.
  """
  items = tuple(item for item in query.items if _is_text(item.id))
  tasks = _tasks(query._replace(items=items), document_root)
  missing = _missing(server, found, tasks)
  _check_shown(server, missing, document_root)
  for start in range(0, len(missing), BATCH_SIZE):
    _push_batch(server, found, missing[start : start + BATCH_SIZE])
  left_out = tuple(i.id for i in query.items if not _is_text(i.id))
  return Pushed(len(tasks) - len(missing), len(missing), left_out)


def pull(server: Server, found: Project, workdir: epath.PathLike) -> Pulled:
  """Writes the submitted annotations where the run finds answers.

  The file has all of the project, in place of those of the last time. It is not
  touched if there are none.

  Args:
    server: The server.
    found: The project.
    workdir: Directory of the run.

  Returns:
    What was found.

  Raises:
    ValueError: If the server does not answer with annotations.
    LostError: If it could not be reached.
    OSError: If the file cannot be written.
  """
  content = patience.insist(lambda: server.export(found.number))
  answers = label_studio.read(content)
  path = storage.as_path(workdir) / ANSWERS_FOLDER / FILE_NAME
  if answers.answers:
    storage.make_folder(path.parent)
    storage.write_atomically(path, content)
  return Pulled(path, len(answers.answers), answers.problems)


def _tasks(query: Query, document_root: str) -> list[dict[str, Any]]:
  """Returns tasks whose images have addresses below a folder."""
  tasks = label_studio.tasks(query)
  for task, item in zip(tasks, query.items, strict=True):
    task["data"]["image"] = label_studio.image_address(
      _below(item, document_root)
    )
  return tasks


def _below(item: Item, document_root: str) -> str:
  """Returns the path of an image as seen from a folder."""
  if storage.is_remote(item.path):
    return item.path
  path = posixpath.relpath(item.path, document_root)
  if path.split("/")[0] == "..":
    raise ValueError(
      f"Expected images below `document_root` {document_root}, got {item.path}."
    )
  return path


def _check_shown(
  server: Server, tasks: list[dict[str, Any]], document_root: str
) -> None:
  """Checks the first image that is a file: tasks cannot be mended later."""
  addresses = [task["data"]["image"] for task in tasks]
  for address in [a for a in addresses if not storage.is_remote(a)][:1]:
    if not patience.insist(lambda a=address: server.shows(a)):
      raise ValueError(
        f"Expected {server.url} to show {address}, got no such image. Is its"
        " LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED true, and its"
        " LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT (`document_root`)"
        f" {document_root}?"
      )


def _push_batch(
  server: Server, found: Project, batch: list[dict[str, Any]]
) -> None:
  left = batch

  def find() -> bool | None:
    nonlocal left
    left = _missing(server, found, batch)
    return None if left else True

  # What is left: of a batch that the server took in part, the rest.
  patience.once(find, lambda: server.add_tasks(found.number, left))


def _missing(
  server: Server, found: Project, tasks: list[dict[str, Any]]
) -> list[dict[str, Any]]:
  """Returns the tasks that a project does not have."""
  there = patience.insist(lambda: server.tasks(found.number))
  keys = set(map(_key, there))
  return [task for task in tasks if _key(task["data"]) not in keys]


def _key(data: dict[str, Any]) -> str:
  """Returns what a task is known by: an image may be asked about again."""
  # As JSON: tasks that are not ours may hold anything there.
  return json.dumps([data.get("round"), data.get(label_studio.ID_FIELD)])


def _is_text(id_: str) -> bool:
  try:
    id_.encode()
  except UnicodeEncodeError:
    return False
  return True
