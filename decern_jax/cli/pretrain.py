"""Pre-trains a backbone without labels, on the training images.

  decern-jax pretrain --config=pretrain_NAME --workdir=DIR

Running the same command again continues an interrupted run. A finished folder
has `backbone.safetensors`, for `--config.model.weights` of any configuration.
"""

from collections.abc import Sequence
from typing import cast

from etils import epath

from decern_jax.cli import command, config_files, config_flag
from decern_jax.distributed import processes
from decern_jax.models import pretrained
from decern_jax.pretraining import journal, loop
from decern_jax.report import figures
from decern_jax.runs import pretraining, workdir

COMMAND = command.Command(
  required=("config", "workdir"),
  configurations={"config": config_files.PRETRAINING},
)

WEIGHTS_FILE = "backbone.safetensors"


def run(config, folder: epath.Path) -> None:
  """Runs the remaining steps of a configuration.

  Raises:
    ValueError: If the configuration or the data are not valid, or the folder
      belongs to another run.
    RuntimeError: If the loss is not finite.
  """
  pretraining.check(config)
  settings = workdir.identity(config.to_dict(), config.seed)
  workdir.check_free(folder, settings, file_name=workdir.CONFIG_FILE)
  if is_finished(folder):
    processes.say(f"{folder} holds a finished run:")
    for record in journal.read(folder):
      processes.say(journal.describe(record))
  else:
    # Load before claiming the folder, so that errors in the data can be
    # corrected.
    setup, digest = pretraining.build(config)
    _claim(folder, settings, digest)
    _train(setup, folder)
  processes.say(
    "Weights for --config.model.weights, and the loss curve, in"
    f" {folder / WEIGHTS_FILE} and {figures.PRETRAINING_FILE}."
  )


def is_finished(folder: epath.Path) -> bool:
  """Returns whether a run is finished: its weights are written last."""
  return (folder / WEIGHTS_FILE).exists()


def _claim(folder: epath.Path, settings, digest) -> None:
  def claim() -> None:
    workdir.claim(folder, settings, file_name=workdir.CONFIG_FILE)
    workdir.claim(folder, digest, file_name=workdir.DATA_FILE)

  processes.on_process_zero(claim)


def _train(setup: loop.Setup, folder: epath.Path) -> None:
  """Runs the remaining steps, and writes the results."""
  processes.say(
    f"{setup.options.objective} of {setup.backbone.name} on"
    f" {len(setup.train.ids)} images, in {folder}:"
  )
  state = loop.run(
    setup,
    folder,
    on_epoch=lambda record: processes.say(journal.describe(record)),
  )

  def finish() -> None:
    figures.pretraining_curve(
      journal.read(folder), folder / figures.PRETRAINING_FILE
    )
    pretrained.save_safetensors(folder / WEIGHTS_FILE, loop.variables_of(state))
    (folder / loop.FOLDER).rmtree()

  processes.on_process_zero(finish)


def main(argv: Sequence[str]) -> None:
  """Runs the pre-training that the flags name."""

  def work() -> None:
    config_flag.join_processes()
    folder = cast(epath.Path, config_flag.parent_folder())  # a required flag
    run(config_flag.CONFIG.value, folder)

  command.run(
    argv, work, if_interrupted="Interrupted; the same command continues."
  )
