"""The records of a pre-training: one JSON line per epoch, and their picture."""

import json
from typing import Any

from etils import epath
from matplotlib import figure

from decern_jax import storage
from decern_jax.report import figures

FILE_NAME = "epochs.jsonl"
PICTURE_NAME = "loss_curve.png"

# One of epoch 0, before the first step, then one after each epoch: "epoch",
# "seconds" by kind of work and, where it was due, "probe", the metrics by name;
# after an epoch also "loss", "learning_rate" and "images_per_second".
Record = dict[str, Any]


def read(workdir: epath.PathLike) -> list[Record]:
  """Reads the records of a run.

  Args:
    workdir: Folder of the run.

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


def write(workdir: epath.PathLike, records: list[Record]) -> None:
  """Writes all records of a run; a kill leaves these, or those before.

  Args:
    workdir: Folder of the run.
    records: The records.
  """
  lines = [json.dumps(record, allow_nan=False) + "\n" for record in records]
  storage.write_atomically(
    epath.Path(workdir) / FILE_NAME, "".join(lines).encode()
  )


def draw(workdir: epath.PathLike, records: list[Record]) -> None:
  """Draws the loss over the epochs and, if there is a probe, its metric.

  Args:
    workdir: Folder of the run, where the picture is written.
    records: The records, at least of one epoch.
  """
  picture = figure.Figure(figsize=(6.4, 4.2), layout="constrained")
  axes = picture.subplots()
  trained = [record for record in records if "loss" in record]
  axes.plot(*_series(trained, "loss"), color="C0")
  axes.set_xlabel("epoch")
  axes.set_ylabel("loss", color="C0")
  axes.grid(alpha=0.3)
  axes.spines["top"].set_visible(False)
  probed = [record for record in records if "probe" in record]
  if probed:
    (name,) = probed[0]["probe"]
    other = axes.twinx()
    other.plot(
      [record["epoch"] for record in probed],
      [100.0 * record["probe"][name] for record in probed],
      color="C1",
      marker="o",
      markersize=4,
    )
    other.set_ylabel(f"{name.replace('_', ' ')} (%)", color="C1")
    other.spines["top"].set_visible(False)
  figures.save(picture, epath.Path(workdir) / PICTURE_NAME)


def describe(record: Record) -> str:
  """Returns a line that tells of an epoch.

  Args:
    record: Its record.
  """
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


def _series(records: list[Record], name: str) -> tuple[list, list]:
  """Returns the epochs, and a value of each."""
  return (
    [record["epoch"] for record in records],
    [record[name] for record in records],
  )
