"""The flags of the commands that run experiments, and their folders."""

from collections.abc import Sequence
import runpy
import sys
from typing import Any

from absl import app, flags
from etils import epath
from ml_collections import config_flags

from decern_jax.distributed import processes
from decern_jax.io import storage
from decern_jax.runs import workdir
from decern_jax.runs.config import Config

CONFIG = config_flags.DEFINE_config_file(
  "config", None, "File of the configuration.", lock_config=True
)
WORKDIR = flags.DEFINE_string(
  "workdir",
  None,
  "Folder of the run; with several seeds, of their folders seed<seed>. Default:"
  " runs/<config>/<strategy>-<hash of the changed settings>/seed<seed>.",
)

DISTRIBUTED = flags.DEFINE_bool(
  "distributed",
  False,
  "Whether this is one of several processes that the cluster knows: Cloud TPU,"
  " GKE, Slurm.",
)
COORDINATOR = flags.DEFINE_string(
  "coordinator", None, "HOST:PORT of process 0, where the cluster has none."
)
NUM_PROCESSES = flags.DEFINE_integer(
  "num_processes", None, "Number of processes, with --coordinator."
)
PROCESS_ID = flags.DEFINE_integer(
  "process_id", None, "Index of this process, with --coordinator."
)


def parse(argv: Sequence[str]) -> list[str]:
  """Parses flags; an unknown field of the configuration is named.

  Returns:
    The arguments that are not flags.

  Raises:
    SystemExit: If a flag or a field is unknown; holds a line for the user.
  """
  try:
    return app.parse_flags_with_usage(list(argv))
  except (AttributeError, KeyError) as error:
    # A misspelled field is an AttributeError that holds the KeyError.
    missing = error if isinstance(error, KeyError) else error.args[0]
    if not isinstance(missing, KeyError):
      raise
    sys.exit(f"error: No such field of the configuration: {missing.args[0]}")


def join_processes() -> None:
  """Connects to the other processes of a multi-process run.

  Raises:
    ValueError: If the flags contradict each other.
    RuntimeError: If the other processes cannot be reached.
  """
  address = processes.Address(
    COORDINATOR.value, NUM_PROCESSES.value, PROCESS_ID.value
  )
  is_given = any(value is not None for value in address)
  if DISTRIBUTED.value and is_given:
    raise ValueError(
      "Expected `--distributed`, or `--coordinator` with `--num_processes` and"
      f" `--process_id`, got both: {address}."
    )
  if DISTRIBUTED.value or is_given:
    processes.initialize(address if is_given else None)
  processes.stop_on_sigterm()


def parent_folder() -> epath.Path | None:
  """Returns the folder of `--workdir`, or None if the flag was not given.

  Raises:
    ValueError: If it is in an object store that cannot be reached.
  """
  return reachable_folder(WORKDIR.value)


def reachable_folder(name: str | None) -> epath.Path | None:
  """Returns the folder that a flag names, or None if the flag was not given.

  Raises:
    ValueError: If it is in an object store that cannot be reached.
  """
  if not name:
    return None
  storage.check_reachable(name)
  return storage.as_path(name)


def default_folder(config: Config) -> epath.Path:
  """Returns the default folder of the runs of a configuration."""
  file = config_flags.get_config_filename(flags.FLAGS["config"])
  return workdir.default_path(name_of(file), config.to_dict(), _defaults(file))


def name_of(file: str) -> str:
  """Returns the name of a configuration, including its argument if any."""
  path, _, argument = file.partition(":")
  parts = [epath.Path(path).stem, *argument.split("/")]
  return "-".join(part for part in parts if part)


def _defaults(file: str) -> dict[str, Any]:
  """Returns the settings of a configuration file, without flags."""
  path, _, argument = file.partition(":")
  get_config = runpy.run_path(path)["get_config"]
  return get_config(*[argument] if argument else []).to_dict()
