"""The runs of a configuration: one folder per seed."""

from collections.abc import Callable, Iterator, Mapping
import contextlib
import functools
import hashlib
import json
from typing import Any

from etils import epath
import tqdm

from decern_jax.data import sources
from decern_jax.distributed import processes
from decern_jax.runs import check, driver, experiment, records, workdir
from decern_jax.runs.config import Config

# A run writes this file last, so its presence means that the run is finished.
CURVE_FILE = "learning_curve.png"

Report = Callable[
  [Config, experiment.Assets, epath.Path],
  contextlib.AbstractContextManager[Callable[[records.Record], None]],
]
"""Opens the report of a run, given a configuration, its assets and the folder.

The context manager yields a function that is called with the record of each
round, and writes the remaining files on exit.
"""


@contextlib.contextmanager
def no_report(
  config: Config, assets: experiment.Assets, folder: epath.Path
) -> Iterator[Callable[[records.Record], None]]:
  """Writes nothing, so that a run leaves only its records."""
  del config, assets, folder
  yield lambda record: None


def run(
  config: Config,
  folders: Mapping[int, epath.Path],
  *,
  assets: experiment.Assets | None = None,
  report: Report = no_report,
) -> experiment.Assets | None:
  """Runs the remaining rounds of all seeds, and prints each round.

  Args:
    config: The configuration.
    folders: The run folder of each seed.
    assets: What `experiment.load` returned for this configuration, or for one
      that differs only in the strategy. None to load it when needed.
    report: Writes pictures and events of each run, on process zero.

  Returns:
    The assets, or None if all runs were already finished.

  Raises:
    ValueError: If the configuration, the data or a folder is invalid.
  """
  check.check(config)
  if sources.is_unlabeled(config.dataset.name):
    raise ValueError(
      "Expected a data set with labels to compare strategies on, got"
      f" {config.dataset.name!r}, whose labels come from people:"
      " `decern-jax run` asks for them."
    )
  settings = {
    seed: workdir.identity(config.to_dict(), seed) for seed in folders
  }
  _check_same(
    "configuration",
    [[seed, str(folders[seed]), settings[seed]] for seed in folders],
  )
  for seed, folder in folders.items():
    check_free = functools.partial(
      workdir.check_free, folder, settings[seed], file_name=workdir.CONFIG_FILE
    )
    processes.on_process_zero(check_free)
  for seed, folder in folders.items():
    if is_finished(config, folder):
      processes.say(f"{folder} holds a finished run:")
      for record in records.read(folder):
        processes.say(records.describe(record))
      continue
    # Load before claiming the folder, so that after an error in the data the
    # user can correct it and use the same folder.
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


def is_finished(config: Config, folder: epath.Path) -> bool:
  """Returns whether a run has all its rounds and its last file."""
  is_complete = len(records.read(folder)) == config.num_rounds
  return is_complete and (folder / CURVE_FILE).exists()


def _check_same(name: str, value: Any) -> None:
  """Checks that a value is the same in all processes."""
  content = json.dumps(value, sort_keys=True, default=str).encode()
  processes.check_same(name, hashlib.sha256(content).digest())


def _claim(
  folder: epath.Path, settings: dict[str, Any], digest: dict[str, Any]
) -> None:
  """Assigns a folder to a run."""
  workdir.claim(folder, settings, file_name=workdir.CONFIG_FILE)
  workdir.claim(folder, digest, file_name=workdir.DATA_FILE)


def _run_seed(
  config: Config,
  assets: experiment.Assets,
  seed: int,
  folder: epath.Path,
  report: Report,
) -> None:
  """Runs the remaining rounds of one seed, and writes its report."""
  processes.say(f"Seed {seed}, in {folder}:")
  write = report if processes.is_process_zero() else no_report
  # `disable=None` shows the bar only in a terminal.
  with (
    write(config, assets, folder) as add_record,
    tqdm.tqdm(
      total=config.num_rounds, desc="rounds", unit="round", disable=None
    ) as bar,
  ):

    def show(record: records.Record) -> None:
      processes.say(records.describe(record))
      add_record(record)
      bar.update()

    driver.run(
      experiment.build(config, assets, seed=seed, workdir=folder),
      num_rounds=config.num_rounds,
      workdir=folder,
      on_round=show,
    )
