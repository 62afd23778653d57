"""The runs of a configuration, each seed in a folder of its own."""

from collections.abc import Callable, Iterator, Mapping
import contextlib
import functools
import hashlib
import json
from typing import Any

from etils import epath
import tqdm

from decern_jax.data import specs
from decern_jax.distributed import processes
from decern_jax.runs import driver, experiment, records, workdir

# The last file of a run: its presence tells that nothing is left to do.
CURVE_FILE = "learning_curve.png"

Report = Callable[
  [Any, "experiment.Assets", epath.Path],
  contextlib.AbstractContextManager[Callable[[records.Record], None]],
]
"""Maps a configuration, its assets and the folder of a run to a context, which
is given the record of every round and completes its files when it ends."""


@contextlib.contextmanager
def no_report(
  config, assets: "experiment.Assets", folder: epath.Path
) -> Iterator[Callable[[records.Record], None]]:
  """Leaves nothing beside the records."""
  del config, assets, folder
  yield lambda record: None


def run(
  config,
  folders: Mapping[int, epath.Path],
  *,
  assets: experiment.Assets | None = None,
  report: Report = no_report,
) -> experiment.Assets | None:
  """Runs what the folders do not hold yet, and tells how it goes.

  Args:
    config: The configuration.
    folders: Folder of the run of each seed.
    assets: What `experiment.load` returned for this configuration, or for one
      with another strategy; None: loaded when it is needed.
    report: Writes pictures and events of each run, on process zero.

  Returns:
    The assets, or None if they were not needed: all runs are finished.

  Raises:
    ValueError: If the configuration, the data or a folder are not as they
      should be.
  """
  experiment.check(config)
  if specs.is_unlabeled(config.dataset.name):
    raise ValueError(
      "Expected a data set with labels to compare strategies on, got"
      f" {config.dataset.name!r}, whose labels come from people:"
      " `decern_jax.main` asks for them."
    )
  settings = {
    seed: workdir.identity(config.to_dict(), seed) for seed in folders
  }
  _check_same(
    "configuration",
    [[seed, str(folders[seed]), settings[seed]] for seed in folders],
  )
  for seed, folder in folders.items():
    processes.on_process_zero(
      functools.partial(
        workdir.check_free,
        folder,
        settings[seed],
        file_name=workdir.CONFIG_FILE,
      )
    )
  for seed, folder in folders.items():
    if is_finished(config, folder):
      processes.say(f"{folder} holds a finished run:")
      for record in records.read(folder):
        processes.say(describe(record))
      continue
    # Before anything is claimed: what is wrong with the data can be put right.
    if assets is None:
      assets = experiment.load(config)
      _check_same("data and model", assets.digest)
    with contextlib.ExitStack() as stack:
      lock = functools.partial(workdir.lock, folder)
      processes.on_process_zero(lambda: stack.enter_context(lock()))  # noqa: B023
      processes.on_process_zero(
        functools.partial(_claim, folder, settings[seed], assets.digest)
      )
      _run_seed(config, assets, seed, folder, report)
  return assets


def _check_same(name: str, value: Any) -> None:
  """Checks that all processes run the same."""
  content = json.dumps(value, sort_keys=True, default=str).encode()
  processes.check_same(name, hashlib.sha256(content).digest())


def _claim(
  folder: epath.Path, settings: dict[str, Any], digest: dict[str, Any]
) -> None:
  """Makes a folder that of a run."""
  workdir.claim(folder, settings, file_name=workdir.CONFIG_FILE)
  workdir.claim(folder, digest, file_name=workdir.DATA_FILE)


def is_finished(config, folder: epath.Path) -> bool:
  """Says whether nothing of a run is left to do; its curve comes last."""
  complete = len(records.read(folder)) == config.num_rounds
  return complete and (folder / CURVE_FILE).exists()


def _run_seed(
  config,
  assets: experiment.Assets,
  seed: int,
  folder: epath.Path,
  report: Report,
) -> None:
  """Runs the rounds that are left of one seed, and reports on them."""
  processes.say(f"Seed {seed}, in {folder}:")
  write = report if processes.is_process_zero() else no_report
  # `disable=None` keeps the bar out of files and pipes.
  with (
    write(config, assets, folder) as add_record,
    tqdm.tqdm(
      total=config.num_rounds, desc="rounds", unit="round", disable=None
    ) as bar,
  ):

    def show(record: records.Record) -> None:
      processes.say(describe(record))
      add_record(record)
      bar.update()

    driver.run(
      experiment.build(config, assets, seed=seed, workdir=folder),
      num_rounds=config.num_rounds,
      workdir=folder,
      on_round=show,
    )


def describe(record: records.Record) -> str:
  """Returns a line that tells how a round went.

  Args:
    record: Record of the round.
  """
  line = f"round {record['round']}: {record['num_labeled']} labeled"
  for part in ("test", "val"):
    if part in record:
      metric = records.metric_of(record)
      title = f"{part} {metric.title}" if part == "test" else part
      line += f", {title} {100 * record[part][metric.name]:.1f} %"
  seconds = sum(record["seconds"].values())
  return f"{line}, {len(record['selected'])} selected, {seconds:.1f} s"
