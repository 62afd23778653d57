"""Which project of which server is that of a run."""

import json
import secrets
from typing import NamedTuple

from etils import epath

from decern_jax.io import storage

FILE_NAME = "label_studio.json"

_NUM_MARK_BYTES = 12


class Record(NamedTuple):
  """What is kept of the project of a run.

  Attributes:
    url: Address of the server.
    mark: What the description of the project holds, and that of no other: it is
      found by it if the answer to its creation was lost.
    project: Number of the project, or None if it is not known yet.
  """

  url: str
  mark: str
  project: int | None = None


def make(url: str) -> Record:
  """Returns the record of a project that is not there yet.

  Args:
    url: Address of the server.
  """
  return Record(url, f"decern_jax {secrets.token_hex(_NUM_MARK_BYTES)}")


def read(workdir: epath.PathLike) -> Record | None:
  """Reads the record of a run.

  Args:
    workdir: Directory of the run.

  Returns:
    The record, or None if nothing was ever pushed.

  Raises:
    ValueError: If it is not what `write` writes.
  """
  path = storage.as_path(workdir) / FILE_NAME
  content = storage.read_if_exists(path)
  if content is None:
    return None
  try:
    record = Record(**json.loads(content))
    is_right = isinstance(record.url, str) and isinstance(record.mark, str)
    is_right = is_right and type(record.project) in (int, type(None))
  except (ValueError, TypeError, RecursionError):
    is_right = False
  if not is_right or not record.mark:
    raise ValueError(
      f"Expected the url, mark and project of a run in {path}, got"
      f" {content[:200]!r}."
    )
  return record


def write(workdir: epath.PathLike, record: Record) -> None:
  """Writes the record of a run.

  Args:
    workdir: Directory of the run.
    record: The record.

  Raises:
    OSError: If it cannot be written.
  """
  path = storage.as_path(workdir) / FILE_NAME
  content = json.dumps(record._asdict(), indent=2) + "\n"
  storage.write_atomically(path, content.encode("ascii"))
