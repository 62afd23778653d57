"""Runs an experiment, or asks people for its next labels.

  decern-jax run --config=NAME

NAME is a configuration that ships, such as quickstart, or a file.

The same command again continues an interrupted run, and prints the result of a
finished one. If people give the labels, it runs the rounds whose images have
been answered, and says what to do next.
"""

from collections.abc import Sequence

from absl import flags
from etils import epath
import numpy as np

from decern_jax.annotation.run import run_with_people
from decern_jax.cli import command, config_files, config_flag
from decern_jax.data import sources
from decern_jax.distributed import processes
from decern_jax.report import figures, run_report
from decern_jax.runs import records, runner
from decern_jax.runs.config import Config

COMMAND = command.Command(
  required=("config",), configurations={"config": config_files.RUN}
)

_GO_ON = flags.DEFINE_bool(
  "go_on",
  False,
  "Where labels come from people: whether a round may begin before all images"
  " of its query are answered or skipped.",
)


def run(
  config: Config, parent: epath.Path | None, *, go_on: bool = False
) -> None:
  """Runs every seed of a configuration, then shows the results.

  Args:
    config: The configuration.
    parent: Folder of the runs; None for the default.
    go_on: As in `run_with_people`.

  Raises:
    ValueError: If the configuration, the data or the folder is invalid.
  """
  folders = _folders(config, parent)
  if sources.is_unlabeled(config.dataset.name):
    run_with_people(config, folders[config.seeds[0]], go_on=go_on)
    return
  runner.run(config, folders, report=run_report.write_run)
  _show_results(config, folders)


def _folders(
  config: Config, parent: epath.Path | None
) -> dict[int, epath.Path]:
  """Returns the folder of each seed."""
  seeds = config.seeds
  if parent is not None and len(seeds) == 1:
    return {seeds[0]: parent}
  parent = parent or config_flag.default_folder(config)
  return {seed: parent / f"seed{seed}" for seed in seeds}


def _show_results(config: Config, folders: dict[int, epath.Path]) -> None:
  """Prints the metric over all seeds, and where the pictures are."""
  runs = [records.read(folder) for folder in folders.values()]
  metric = records.metric_of(runs[0][0])
  reached = 100 * np.array(
    [[record["test"][metric.name] for record in run] for run in runs]
  )
  if len(runs) == 1:
    (folder,) = folders.values()
  else:
    folder = next(iter(folders.values())).parent
    curve = {config.selection.strategy: runs}
    processes.on_process_zero(
      lambda: figures.learning_curve(curve, folder / runner.CURVE_FILE)
    )
    processes.say(f"Test {metric.title} (%) over {len(runs)} seeds:")
    for record, column in zip(runs[0], reached.T, strict=True):
      processes.say(
        f"  {record['num_labeled']} labeled: {column.mean():.1f}"
        f" ± {column.std(ddof=1):.1f}"
      )
  processes.say(
    f"Final test {metric.title} {reached[:, -1].mean():.1f} %. Results in"
    f" {folder}."
  )


def main(argv: Sequence[str]) -> None:
  """Runs the experiment that the flags name."""

  def work() -> None:
    config_flag.join_processes()
    run(
      config_flag.CONFIG.value,
      config_flag.parent_folder(),
      go_on=_GO_ON.value,
    )

  command.run(
    argv, work, if_interrupted="Interrupted; the same command continues."
  )
