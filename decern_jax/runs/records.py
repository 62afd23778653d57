"""One JSON line per round: the record of a run."""

import json
from typing import Any, NamedTuple

from etils import epath

from decern_jax.io import storage

FILE_NAME = "records.jsonl"

Record = dict[str, Any]


class Metric(NamedTuple):
  """What runs are judged by.

  Attributes:
    name: Its name in the records.
    title: Its name for people.
    second: Name of another one that is shown beside it.
    second_title: Likewise.
  """

  name: str
  title: str
  second: str
  second_title: str


METRICS = (
  Metric("accuracy", "accuracy", "balanced_accuracy", "balanced accuracy"),
  Metric("macro_f1", "macro F1", "macro_ap", "mAP"),
)
"""The metric of one label per example, and that of several."""


def metric_of(record: Record) -> Metric:
  """Returns what the run of a record is judged by.

  Args:
    record: Record of any round.

  Raises:
    ValueError: If it has none of `METRICS`.
  """
  held_out = record.get("test") or record.get("val", {})
  for metric in METRICS:
    if metric.name in held_out:
      return metric
  raise ValueError(
    f"Expected one of {[metric.name for metric in METRICS]} in a record, got"
    f" {sorted(held_out)}."
  )


def path_in(workdir: epath.PathLike) -> epath.Path:
  """Returns the path of a run's records."""
  return storage.as_path(workdir) / FILE_NAME


def read(workdir: epath.PathLike) -> list[Record]:
  """Reads the records of a run's rounds, from the first one on.

  Reading ends before the first line that is cut off or out of order, as a kill
  in the middle of writing leaves it.

  Args:
    workdir: Directory of the run.

  Returns:
    The records of the rounds 0, 1, ...; empty if there is no file.
  """
  return _parse(storage.read_if_exists(path_in(workdir)) or b"")


def truncate(workdir: epath.PathLike, num_rounds: int) -> None:
  """Drops the records of later rounds.

  Args:
    workdir: Directory of the run.
    num_rounds: Rounds to keep.
  """
  path = path_in(workdir)
  found = storage.read_if_exists(path) or b""
  kept = b"".join(map(_line, _parse(found)[:num_rounds]))
  if kept != found:
    storage.write_atomically(path, kept)


def append(workdir: epath.PathLike, record: Record) -> None:
  """Writes the record of a round, and returns when it is durable.

  Args:
    workdir: Directory of the run.
    record: The record; holds the number of its round as "round".
  """
  storage.append(path_in(workdir), _line(record))


def _parse(content: bytes) -> list[Record]:
  """Returns the records that stand before the first line that is none."""
  records = []
  for line in content.split(b"\n"):
    try:
      record = json.loads(line)
    except ValueError:
      break
    if not isinstance(record, dict) or record.get("round") != len(records):
      break
    records.append(record)
  return records


def _line(record: Record) -> bytes:
  # As ASCII: the name of a file, and so an id, may be no valid text.
  return (json.dumps(record, allow_nan=False) + "\n").encode("ascii")
