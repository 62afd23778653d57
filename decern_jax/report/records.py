"""One JSON line per round: the record of a run."""

import contextlib
import json
import os
from typing import Any

from etils import epath

FILE_NAME = "records.jsonl"

Record = dict[str, Any]


def path_in(workdir: epath.PathLike) -> epath.Path:
  """Returns the path of a run's records."""
  return epath.Path(workdir) / FILE_NAME


def read(workdir: epath.PathLike) -> list[Record]:
  """Reads the records of a run's rounds, from the first one on.

  Reading ends before the first line that is cut off or out of order, as a kill
  in the middle of writing leaves it.

  Args:
    workdir: Directory of the run.

  Returns:
    The records of the rounds 0, 1, ...; empty if there is no file.
  """
  path = path_in(workdir)
  if not path.exists():
    return []
  records = []
  for line in path.read_bytes().split(b"\n"):
    try:
      record = json.loads(line)
    except ValueError:
      break
    if not isinstance(record, dict) or record.get("round") != len(records):
      break
    records.append(record)
  return records


def truncate(workdir: epath.PathLike, num_rounds: int) -> None:
  """Drops the records of later rounds.

  Args:
    workdir: Directory of the run.
    num_rounds: Rounds to keep.
  """
  path = path_in(workdir)
  if not path.exists():
    return
  kept = read(workdir)[:num_rounds]
  scratch = path.with_suffix(".tmp")
  scratch.write_text("".join(_line(record) for record in kept))
  scratch.replace(path)


def append(workdir: epath.PathLike, record: Record) -> None:
  """Writes the record of a round, and returns when it is on the disk.

  Args:
    workdir: Directory of the run.
    record: The record; holds the number of its round as "round".
  """
  with path_in(workdir).open("a") as file:
    file.write(_line(record))
    file.flush()
    # Remote files have no descriptor; they are written when they are closed.
    with contextlib.suppress(AttributeError, OSError):
      os.fsync(file.fileno())


def _line(record: Record) -> str:
  # As ASCII: the name of a file, and so an id, may be no valid text.
  return json.dumps(record, allow_nan=False) + "\n"
