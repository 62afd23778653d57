"""Runs an experiment: `python -m decern_jax.main --config=configs/NAME.py`.

The same command again continues an interrupted run, and prints the result of a
finished one.
"""

from collections.abc import Sequence
import importlib.util
import sys

from absl import app, flags
from etils import epath
from ml_collections import config_dict, config_flags
import numpy as np
import tqdm

from decern_jax import command, driver, experiment, workdir
from decern_jax.report import events, figures, records

CURVE_FILE = "learning_curve.png"

_CONFIG = config_flags.DEFINE_config_file(
  "config", None, "File of the configuration.", lock_config=True
)
_WORKDIR = flags.DEFINE_string(
  "workdir",
  None,
  "Folder of the run; with several seeds, of their folders seed<seed>. Default:"
  " runs/<config>/<strategy>-<hash of the changed settings>/seed<seed>.",
)


def run(config: config_dict.ConfigDict, parent: epath.Path | None) -> None:
  """Runs every seed of a configuration, then shows the results.

  Args:
    config: The configuration.
    parent: Folder of the runs; None: by default.

  Raises:
    ValueError: If the configuration, the data or the folder are not as they
      should be.
  """
  experiment.check(config)
  folders = _folders(config, parent)
  settings = {
    seed: workdir.identity(config.to_dict(), seed) for seed in folders
  }
  for seed, folder in folders.items():
    workdir.check_free(folder, settings[seed], file_name=workdir.CONFIG_FILE)
  assets = None
  for seed, folder in folders.items():
    if _is_finished(config, folder):
      command.say(f"{folder} holds a finished run:")
      for record in records.read(folder):
        command.say(describe(record))
      continue
    # Before anything is claimed: what is wrong with the data can be put right.
    assets = experiment.load(config) if assets is None else assets
    workdir.claim(folder, settings[seed], file_name=workdir.CONFIG_FILE)
    workdir.claim(folder, assets.digest, file_name=workdir.DATA_FILE)
    _run_seed(config, assets, seed, folder)
  _show_results(config, folders)


def _is_finished(config: config_dict.ConfigDict, folder: epath.Path) -> bool:
  """Says whether nothing of a run is left to do; its curve comes last."""
  complete = len(records.read(folder)) == config.num_rounds
  return complete and (folder / CURVE_FILE).exists()


def _folders(
  config: config_dict.ConfigDict, parent: epath.Path | None
) -> dict[int, epath.Path]:
  """Returns the folder of each seed."""
  seeds = config.seeds
  if parent is not None and len(seeds) == 1:
    return {seeds[0]: parent}
  if parent is None:
    file = config_flags.get_config_filename(flags.FLAGS["config"])
    parent = workdir.default_path(
      _name_of(file), config.to_dict(), _defaults(file)
    )
  return {seed: parent / f"seed{seed}" for seed in seeds}


def _name_of(file: str) -> str:
  """Returns the name of a configuration, with its argument if it has one."""
  path, _, argument = file.partition(":")
  parts = [epath.Path(path).stem, *argument.split("/")]
  return "-".join(part for part in parts if part)


def _defaults(file: str) -> dict:
  """Returns the settings of a configuration file as it stands."""
  path, _, argument = file.partition(":")
  spec = importlib.util.spec_from_file_location("default_config", path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  config = module.get_config(argument) if argument else module.get_config()
  return config.to_dict()


def _run_seed(
  config: config_dict.ConfigDict,
  assets: experiment.Assets,
  seed: int,
  folder: epath.Path,
) -> None:
  """Runs the rounds that are left of one seed, and draws its pictures."""
  command.say(f"Seed {seed}, in {folder}:")
  # `disable=None` keeps the bar out of files and pipes.
  with (
    tqdm.tqdm(
      total=config.num_rounds, desc="rounds", unit="round", disable=None
    ) as bar,
    events.open_writer(folder) as add_events,
  ):

    def show(record: records.Record) -> None:
      command.say(describe(record))
      add_events(record)
      bar.update()

    driver.run(
      experiment.build(config, assets, seed=seed, workdir=folder),
      num_rounds=config.num_rounds,
      workdir=folder,
      on_round=show,
    )
  done = records.read(folder)
  train = assets.dataset.train
  position = {id_: index for index, id_ in enumerate(train.ids)}
  figures.contact_sheet(
    done, lambda id_: train.read(position[id_]), folder / "selected.png"
  )
  figures.learning_curve(
    {config.selection.strategy: [done]}, folder / CURVE_FILE
  )


def describe(record: records.Record) -> str:
  """Returns a line that tells how a round went.

  Args:
    record: Record of the round.
  """
  test = record["test"]
  line = (
    f"round {record['round']}: {record['num_labeled']} labeled, test accuracy"
    f" {100 * test['accuracy']:.1f} %"
  )
  if "val" in record:
    line += f", val {100 * record['val']['accuracy']:.1f} %"
  seconds = sum(record["seconds"].values())
  return f"{line}, {len(record['selected'])} selected, {seconds:.1f} s"


def _show_results(
  config: config_dict.ConfigDict, folders: dict[int, epath.Path]
) -> None:
  """Prints accuracies over all seeds, and where the pictures are."""
  runs = [records.read(folder) for folder in folders.values()]
  accuracy = 100 * np.array(
    [[record["test"]["accuracy"] for record in run] for run in runs]
  )
  if len(runs) == 1:
    (folder,) = folders.values()
  else:
    folder = next(iter(folders.values())).parent
    figures.learning_curve(
      {config.selection.strategy: runs}, folder / CURVE_FILE
    )
    command.say(f"Test accuracy (%) over {len(runs)} seeds:")
    for record, column in zip(runs[0], accuracy.T, strict=True):
      command.say(
        f"  {record['num_labeled']} labeled: {column.mean():.1f}"
        f" ± {column.std(ddof=1):.1f}"
      )
  command.say(
    f"Final test accuracy {accuracy[:, -1].mean():.1f} %. Results in {folder}."
  )


def main(argv: Sequence[str]) -> None:
  """Runs the experiment that the flags name."""
  parent = epath.Path(_WORKDIR.value) if _WORKDIR.value else None
  command.run(
    argv,
    lambda: run(_CONFIG.value, parent),
    if_interrupted="Interrupted; the same command continues.",
  )


def parse_flags(argv: Sequence[str]) -> list[str]:
  """Parses flags, and names a field that the configuration does not have.

  Args:
    argv: The command line.

  Returns:
    What is no flag.
  """
  try:
    return app.parse_flags_with_usage(list(argv))
  except (AttributeError, KeyError) as error:
    # A misspelled field is an AttributeError that holds the KeyError.
    missing = error if isinstance(error, KeyError) else error.args[0]
    if not isinstance(missing, KeyError):
      raise
    sys.exit(f"error: No such field of the configuration: {missing.args[0]}")


if __name__ == "__main__":
  flags.mark_flag_as_required("config")
  app.run(main, flags_parser=parse_flags)
