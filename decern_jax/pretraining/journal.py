"""The records of a pre-training: one JSON line per epoch."""

import json
from typing import Any

from etils import epath

from decern_jax.io import storage

FILE_NAME = "epochs.jsonl"

# Record 0 is written before the first step, and record e after epoch e. Each
# has "epoch", "seconds" by kind of work and, if the epoch was probed, "probe"
# with metrics by name. All but record 0 also have "loss", "learning_rate" and
# "images_per_second".
EpochRecord = dict[str, Any]


def read(workdir: epath.PathLike) -> list[EpochRecord]:
  """Reads the records of a run.

  Returns:
    The records of the epochs 0, 1, ...; empty if there is no file.

  Raises:
    ValueError: If the file holds anything else.
  """
  path = epath.Path(workdir) / FILE_NAME
  content = storage.read_if_exists(path) or b""
  try:
    records = [json.loads(line) for line in content.splitlines()]
    are_in_order = [record["epoch"] for record in records] == [
      *range(len(records))
    ]
  except (ValueError, TypeError, KeyError) as error:
    raise ValueError(f"Expected records in {path}, got {error!r}.") from None
  if not are_in_order:
    raise ValueError(f"Expected the epochs 0, 1, ... in {path}, got others.")
  return records


def write(workdir: epath.PathLike, records: list[EpochRecord]) -> None:
  """Writes all records of a run; a kill leaves the old file or the new one."""
  lines = [json.dumps(record, allow_nan=False) + "\n" for record in records]
  storage.write_atomically(
    epath.Path(workdir) / FILE_NAME, "".join(lines).encode()
  )


def describe(record: EpochRecord) -> str:
  """Describes an epoch in a line."""
  parts = []
  if "loss" in record:
    parts += [
      f"loss {record['loss']:.4f}",
      f"{record['images_per_second']:.0f} images/s",
    ]
  for name, value in record.get("probe", {}).items():
    parts.append(f"{name.replace('_', ' ')} {100 * value:.1f} %")
  parts.append(f"{sum(record['seconds'].values()):.1f} s")
  return f"epoch {record['epoch']}: {', '.join(parts)}"
