"""The flags of the commands that run experiments, and their folders."""

from absl import flags
from etils import epath
from ml_collections import config_flags

from decern_jax.cli import config_files
from decern_jax.distributed import processes
from decern_jax.io import storage
from decern_jax.runs import workdir
from decern_jax.runs.config import Config


def define(name: str, meaning: str, kind: str) -> flags.FlagHolder:
  """Defines a flag that names a configuration file.

  Args:
    name: Name of the flag.
    meaning: What it is, for the help.
    kind: `config_files.RUN` or `config_files.PRETRAINING`.

  Returns:
    The holder of the configuration.
  """
  holder = config_flags.DEFINE_config_file(name, None, meaning)
  flags.FLAGS[name].parser = config_files.FileParser(kind)
  return holder


CONFIG = define(
  "config",
  "Configuration: a name, such as quickstart or cub:resnet50, or a file.",
  config_files.RUN,
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
  value = config_flags.get_config_filename(flags.FLAGS["config"])
  defaults = config_files.load(value, config_files.RUN).to_dict()
  name = config_files.name_of(value)
  return workdir.default_path(name, config.to_dict(), defaults)
