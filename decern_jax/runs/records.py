"""The records of a run: one JSON line per round."""

import dataclasses
import json
from typing import Any

from etils import epath

from decern_jax.io import storage

FILE_NAME = "records.jsonl"

Record = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Metric:
  """The main metric of a run, and a secondary one shown next to it.

  Attributes:
    name: Name of the metric in the records.
    title: Name of the metric for readers.
    second: Name of the second metric in the records.
    second_title: Name of the second metric for readers.
  """

  name: str
  title: str
  second: str
  second_title: str


METRICS = (
  Metric("accuracy", "accuracy", "balanced_accuracy", "balanced accuracy"),
  Metric("macro_f1", "macro F1", "macro_ap", "mAP"),
)
"""The metric for one label per example, and the one for several."""


def metric_of(record: Record) -> Metric:
  """Returns the main metric of a record.

  Raises:
    ValueError: If the record has none of `METRICS`.
  """
  held_out = record.get("test") or record.get("val", {})
  for metric in METRICS:
    if metric.name in held_out:
      return metric
  raise ValueError(
    f"Expected one of {[metric.name for metric in METRICS]} in a record, got"
    f" {sorted(held_out)}."
  )


def describe(record: Record) -> str:
  """Summarizes a round in one line: number of labels, metric and seconds."""
  line = f"round {record['round']}: {record['num_labeled']} labeled"
  for split in ("test", "val"):
    if split in record:
      metric = metric_of(record)
      title = f"{split} {metric.title}" if split == "test" else split
      line += f", {title} {100 * record[split][metric.name]:.1f} %"
  seconds = sum(record["seconds"].values())
  return f"{line}, {len(record['selected'])} selected, {seconds:.1f} s"


def path_in(workdir: epath.PathLike) -> epath.Path:
  """Returns the path of a run's records."""
  return storage.as_path(workdir) / FILE_NAME


def read(workdir: epath.PathLike) -> list[Record]:
  """Reads the records of a run's rounds, from the first one on.

  Stops at the first line that is incomplete or out of order. A process that is
  killed while writing leaves such a line.

  Returns:
    The records of the rounds 0, 1, ...; empty if there is no file.
  """
  return _parse(storage.read_if_exists(path_in(workdir)) or b"")


def truncate(workdir: epath.PathLike, num_rounds: int) -> None:
  """Removes all records after the first `num_rounds`."""
  path = path_in(workdir)
  found = storage.read_if_exists(path) or b""
  kept = b"".join(map(_line, _parse(found)[:num_rounds]))
  if kept != found:
    storage.write_atomically(path, kept)


def append(workdir: epath.PathLike, record: Record) -> None:
  """Appends the record of a round; it is durable when this returns."""
  storage.append(path_in(workdir), _line(record))


def _parse(content: bytes) -> list[Record]:
  """Returns the records before the first line that is not a record."""
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
  # ASCII, because file names, and therefore ids, may not be valid Unicode.
  return (json.dumps(record, allow_nan=False) + "\n").encode("ascii")
