"""Writes the TensorBoard events and the pictures of a run."""

from collections.abc import Callable, Iterator
import contextlib
import socket
import time
from typing import NamedTuple

from etils import epath

from decern_jax.io import storage
from decern_jax.report import figures
from decern_jax.runs import experiment, records, runner
from decern_jax.runs.records import Record

FOLDER = "tensorboard"

_SPLITS = ("test", "val")
_METRICS = (
  *("accuracy", "balanced_accuracy", "loss"),
  *("macro_f1", "micro_f1", "macro_ap", "micro_ap"),
  *("hamming_loss", "ranking_loss", "rarest_f1"),
)


class Scalar(NamedTuple):
  """One point of a curve.

  Attributes:
    tag: Name of the curve.
    step: The round, or the epoch counted over all rounds.
    value: Value at this step.
  """

  tag: str
  step: int
  value: float


def scalars(record: Record) -> list[Scalar]:
  """Returns the points that a record adds to the curves.

  Returns:
    At the step of the round: the metrics of each held-out split, the last
    training loss, the number of labels and the seconds of each stage. At the
    steps `round · num_epochs + epoch`: the training loss of every epoch.
  """
  round_num, train = record["round"], record["train"]
  values = {
    f"{split}/{metric}": record[split][metric]
    for split in _SPLITS
    for metric in _METRICS
    if split in record and record[split].get(metric) is not None
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
def open_writer(workdir: epath.PathLike) -> Iterator[Callable[[Record], None]]:
  """Opens a new file of TensorBoard events for a run.

  All events of the run are written again, so that a run that was killed and
  resumed has one event per tag and step. Events depend only on the records:
  their time is the sum of the seconds of all stages so far, as if the run had
  started in 1970 and never paused.

  Args:
    workdir: Directory of the run. Existing events are removed.

  Yields:
    A function that adds the events of a record. It must be called with every
    record of the run in order. Events are on the disk when it returns; in an
    object store they appear up to a second later.
  """
  # Imported here, as it imports PyTorch where that is installed. This takes
  # seconds, and must not load GPU libraries before JAX has loaded its own.
  import tensorboardX
  from tensorboardX.proto import event_pb2, summary_pb2

  with (
    storage.local_output(_make_path(workdir)) as (path, publish),
    # Not a `SummaryWriter`: its thread hangs when the disk is full.
    contextlib.closing(tensorboardX.RecordWriter(path)) as file,
  ):
    elapsed = 0.0

    # Protobuf defines these classes at import, unseen by type checkers.
    event_type = getattr(event_pb2, "Event")  # noqa: B009
    summary_type = getattr(summary_pb2, "Summary")  # noqa: B009

    def write(**content) -> None:
      event = event_type(wall_time=elapsed, **content)
      file.write(event.SerializeToString())

    def add(record: Record) -> None:
      nonlocal elapsed
      elapsed += sum(record["seconds"].values())
      for tag, step, value in scalars(record):
        point = summary_type.Value(tag=tag, simple_value=value)
        write(step=step, summary=summary_type(value=[point]))
      file.flush()
      publish()

    write(file_version="brain.Event:2")
    yield add


def _make_path(workdir: epath.PathLike) -> epath.Path:
  """Returns the path of a new file of events, and removes older files.

  TensorBoard looks for "tfevents" in the name. If it is running, it continues
  with a file of a later name.
  """
  folder = storage.as_path(workdir) / FOLDER
  storage.make_folder(folder)
  for path in folder.glob("events.out.tfevents.*"):
    path.unlink()
  now = time.time_ns()
  return folder / f"events.out.tfevents.{now}.{socket.gethostname()}"


@contextlib.contextmanager
def write_run(
  config, assets: experiment.Assets, folder: epath.Path
) -> Iterator[Callable[[records.Record], None]]:
  """Writes TensorBoard events during a run, and its pictures after it.

  Args:
    config: The configuration.
    assets: The data and model from `experiment.load`.
    folder: Folder of the run.

  Yields:
    A function that must be called with the record of each round.
  """
  with open_writer(folder) as add_events:
    yield add_events
  done = records.read(folder)
  train = assets.dataset.train
  index_of = {id_: index for index, id_ in enumerate(train.ids)}
  figures.contact_sheet(
    done, lambda id_: train.read(index_of[id_]), folder / "selected.png"
  )
  figures.learning_curve(
    {config.selection.strategy: [done]}, folder / runner.CURVE_FILE
  )
