"""Files that a finished run leaves: events, learning curve, selected images."""

from collections.abc import Callable, Iterator
import contextlib

from etils import epath

from decern_jax.report import events, figures
from decern_jax.runs import experiment, records, runner


@contextlib.contextmanager
def write_run(
  config, assets: experiment.Assets, folder: epath.Path
) -> Iterator[Callable[[records.Record], None]]:
  """Writes TensorBoard events during a run, and its pictures after it.

  Args:
    config: The configuration.
    assets: What `experiment.load` returned.
    folder: Folder of the run.

  Yields:
    A function that takes the record of each round.
  """
  with events.open_writer(folder) as add_events:
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
