"""TensorBoard's events of a run: its records once more, as curves."""

from collections.abc import Callable, Iterator
import contextlib
import socket
import time
from typing import NamedTuple

from etils import epath

from decern_jax.io import storage
from decern_jax.runs.records import Record

FOLDER = "tensorboard"

_PARTS = ("test", "val")
_METRICS = (
  *("accuracy", "balanced_accuracy", "loss"),
  *("macro_f1", "micro_f1", "macro_ap", "micro_ap"),
  *("hamming_loss", "ranking_loss", "rarest_f1"),
)


class Scalar(NamedTuple):
  """One point of a curve.

  Attributes:
    tag: Name of the curve.
    step: Where the point lies: the round, or the epoch counted over all rounds.
    value: Its height.
  """

  tag: str
  step: int
  value: float


def scalars(record: Record) -> list[Scalar]:
  """Returns the points that a record adds to the curves.

  Args:
    record: Record of a round.

  Returns:
    A point per metric of each held-out part, the last training loss, the number
    of labels and the seconds of each stage, all at the round; and the training
    loss of every epoch, at `round · num_epochs + epoch`.
  """
  round_num, train = record["round"], record["train"]
  values = {
    f"{part}/{metric}": record[part][metric]
    for part in _PARTS
    for metric in _METRICS
    if part in record and record[part].get(metric) is not None
  }
  values |= {"train/loss": train["loss"], "num_labeled": record["num_labeled"]}
  values |= {f"seconds/{k}": v for k, v in record["seconds"].items()}
  losses = train["epoch_losses"]
  first = round_num * len(losses)
  return [Scalar(tag, round_num, value) for tag, value in values.items()] + [
    Scalar("train/epoch_loss", first + epoch, loss)
    for epoch, loss in enumerate(losses)
  ]


@contextlib.contextmanager
def open_writer(
  workdir: epath.PathLike,
) -> Iterator[Callable[[Record], None]]:
  """Opens a run's events, which are written anew from the first record on.

  So a run that was killed and goes on has one event per tag and step. What
  follows from the records alone is all there is in an event: its time is the
  sum of the seconds of all stages so far, as if the run had begun in 1970 and
  never paused.

  Args:
    workdir: Directory of the run. The events that it holds are removed.

  Yields:
    Adds the events of a record, to be called with every record of the run in
    order. They are on the disk when it returns; in a store a second later, or
    at the end.
  """
  # Not at the top: it imports PyTorch where that is installed, which takes
  # seconds, and must not load its GPU libraries before JAX has its own.
  import tensorboardX
  from tensorboardX.proto import event_pb2, summary_pb2

  with (
    storage.local_output(_make_path(workdir)) as (path, publish),
    # `SummaryWriter` writes in a thread, and hangs when the disk is full.
    contextlib.closing(tensorboardX.RecordWriter(path)) as file,
  ):
    elapsed = 0.0

    def write(**content) -> None:
      event = event_pb2.Event(wall_time=elapsed, **content)
      file.write(event.SerializeToString())

    def add(record: Record) -> None:
      nonlocal elapsed
      elapsed += sum(record["seconds"].values())
      for tag, step, value in scalars(record):
        point = summary_pb2.Summary.Value(tag=tag, simple_value=value)
        write(step=step, summary=summary_pb2.Summary(value=[point]))
      file.flush()
      publish()

    write(file_version="brain.Event:2")
    yield add


def _make_path(workdir: epath.PathLike) -> epath.Path:
  """Returns the path of the events in a folder without others.

  TensorBoard looks for "tfevents" in the name, and one that is running reads on
  in a file of a later name.
  """
  folder = storage.as_path(workdir) / FOLDER
  storage.make_folder(folder)
  for path in folder.glob("events.out.tfevents.*"):
    path.unlink()
  now = time.time_ns()
  return folder / f"events.out.tfevents.{now}.{socket.gethostname()}"
