r"""Compares strategies over several seeds, and writes a report.

  decern-jax compare --config=NAME --config.seeds="(1, 11)" \
    --config.strategies="('decern', 'margin', 'random')"

Runs every strategy with every seed, each in the folder that `decern-jax run`
would use, and writes a report on all runs. Finished runs are not repeated, and
the same command resumes interrupted ones. `--pretrain=pretrain_NAME`
first pre-trains a backbone, unless this has been done already. All runs then
start from it.
"""

from collections.abc import Sequence
from typing import Any

from absl import flags
from etils import epath
import jax
from ml_collections import config_flags
import numpy as np

from decern_jax.cli import command, config_files, config_flag, pretrain
from decern_jax.distributed import processes
from decern_jax.distributed.sharding import to_host
from decern_jax.report import comparison, document, gallery, run_report
from decern_jax.runs import check, experiment, runner
from decern_jax.runs.config import Config
from decern_jax.runs.pretraining import Config as PretrainingConfig
from decern_jax.strategies import STRATEGIES

REPORT_FOLDER = "report"

COMMAND = command.Command(
  required=("config",),
  configurations={
    "config": config_files.RUN,
    "pretrain": config_files.PRETRAINING,
  },
)

_PHOTOS = flags.DEFINE_bool(
  "photos", True, "Whether the report shows the images that were selected."
)
_PRETRAIN = config_flag.define(
  "pretrain",
  "Configuration of a pre-training that all runs start from: a name or a file.",
  config_files.PRETRAINING,
)
_PRETRAIN_WORKDIR = flags.DEFINE_string(
  "pretrain_workdir",
  None,
  "Folder of the pre-training. Default: runs/<name of its configuration>.",
)


def compare(
  config: Config, parent: epath.Path | None, *, photos: bool
) -> epath.Path:
  """Runs every strategy with every seed, and writes the report.

  Args:
    config: The configuration.
    parent: Folder for the strategies' folders and the report; None for the
      default.
    photos: Whether the report shows the selected images.

  Returns:
    The page of the report.

  Raises:
    ValueError: If the configuration, the data or a folder is invalid.
  """
  check.check(config)
  settings = {
    name: _with_value(config, "selection.strategy", name)
    for name in config.strategies
  }
  folders = {name: _folders(settings[name], parent) for name in settings}
  report = _report_folder(config, parent)
  processes.on_process_zero(lambda: document.check_folder(report))
  assets = None
  for name, of_strategy in settings.items():
    processes.say(f"Strategy {name}:")
    assets = runner.run(
      of_strategy,
      folders[name],
      assets=assets,
      report=run_report.write_run,
    )
  pool = _view(assets or experiment.load(config), photos=photos)
  every = [folder for seeds in folders.values() for folder in seeds.values()]
  processes.on_process_zero(lambda: _write(every, report, pool))
  return report / document.PAGE_FILE


def pretrained_config(
  config: Config, pretraining: PretrainingConfig, folder: epath.Path
) -> Config:
  """Pre-trains the backbone that all runs start from, if not done already.

  Args:
    config: The configuration of the comparison, without weights.
    pretraining: The configuration of the pre-training.
    folder: Folder of the pre-training.

  Raises:
    ValueError: If the configurations do not fit together, or as in
      `pretrain.run`.
  """
  names = config.model.name, pretraining.model.name
  if len(set(names)) > 1:
    raise ValueError(
      "Expected one `model.name` in `--config` and `--pretrain`, got"
      f" {names[0]!r} and {names[1]!r}."
    )
  weights = str(folder / pretrain.WEIGHTS_FILE)
  changed = _with_value(config, "model.weights", weights)
  # Checked first, because pre-training may take hours.
  check.check(changed)
  pretrain.run(pretraining, folder)
  return changed


def _write(
  folders: list[epath.Path], report: epath.Path, pool: gallery.PoolView
) -> None:
  """Writes the report of finished runs."""
  runs = comparison.collect(
    folders,
    options={name: row.option_names for name, row in STRATEGIES.items()},
  )
  page = document.write(runs, report, pool=pool)
  processes.say(f"Report in {page}.")


def _report_folder(config: Config, parent: epath.Path | None) -> epath.Path:
  """Returns the folder of the report: by default one per configuration."""
  if parent is not None:
    return parent / REPORT_FOLDER
  folder = config_flag.default_folder(config)
  digest = folder.name.rpartition("-")[2]
  return folder.parent / f"{REPORT_FOLDER}-{digest}"


def _view(assets: experiment.Assets, *, photos: bool) -> gallery.PoolView:
  """Returns the part of the pool that the report shows."""
  train = assets.dataset.train
  index_of = {id_: index for index, id_ in enumerate(train.ids)}
  features = None
  if assets.splits is not None:
    rows = assets.splits["train"].features
    # A pool that is too large for the devices has too many points to draw.
    if isinstance(rows, jax.Array):
      features = to_host(rows)[: len(train.ids)]
  return gallery.PoolView(
    ids=train.ids,
    labels=np.asarray(train.labels),
    features=features,
    read=(lambda id_: train.read(index_of[id_])) if photos else None,
  )


def _with_value(config: Config, field: str, value: str) -> Config:
  """Returns a copy of a configuration with one field changed."""
  # `Any`, because a type checker does not see the methods of a `ConfigDict`.
  changed: Any = config
  changed = changed.copy_and_resolve_references()
  with changed.unlocked():
    changed.update_from_flattened_dict({field: value})
  return changed


def _folders(
  config: Config, parent: epath.Path | None
) -> dict[int, epath.Path]:
  """Returns the folder of each seed of a strategy."""
  folder = (
    parent / config.selection.strategy
    if parent
    else config_flag.default_folder(config)
  )
  return {seed: folder / f"seed{seed}" for seed in config.seeds}


def _pretrain_folder() -> epath.Path:
  value = config_flags.get_config_filename(flags.FLAGS["pretrain"])
  default = epath.Path("runs") / config_files.name_of(value)
  return config_flag.reachable_folder(_PRETRAIN_WORKDIR.value) or default


def main(argv: Sequence[str]) -> None:
  """Runs the comparison that the flags name."""

  def work() -> None:
    config_flag.join_processes()
    config, parent = config_flag.CONFIG.value, config_flag.parent_folder()
    if _PRETRAIN.value is not None:
      config = pretrained_config(config, _PRETRAIN.value, _pretrain_folder())
    compare(config, parent, photos=_PHOTOS.value)

  command.run(
    argv, work, if_interrupted="Interrupted; the same command continues."
  )
