"""The flags of the commands that run experiments, and where they run."""

from collections.abc import Sequence
import importlib.util
import sys
from typing import Any

from absl import app, flags
from etils import epath
from ml_collections import config_flags

from decern_jax import workdir

CONFIG = config_flags.DEFINE_config_file(
  "config", None, "File of the configuration.", lock_config=True
)
WORKDIR = flags.DEFINE_string(
  "workdir",
  None,
  "Folder of the run; with several seeds, of their folders seed<seed>. Default:"
  " runs/<config>/<strategy>-<hash of the changed settings>/seed<seed>.",
)


def parse(argv: Sequence[str]) -> list[str]:
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


def default_folder(config) -> epath.Path:
  """Returns the folder of the runs of a configuration, below `runs`.

  Args:
    config: The configuration of the flag, maybe with other values.
  """
  file = config_flags.get_config_filename(flags.FLAGS["config"])
  return workdir.default_path(_name_of(file), config.to_dict(), _defaults(file))


def _name_of(file: str) -> str:
  """Returns the name of a configuration, with its argument if it has one."""
  path, _, argument = file.partition(":")
  parts = [epath.Path(path).stem, *argument.split("/")]
  return "-".join(part for part in parts if part)


def _defaults(file: str) -> dict[str, Any]:
  """Returns the settings of a configuration file as it stands."""
  path, _, argument = file.partition(":")
  spec = importlib.util.spec_from_file_location("default_config", path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  config = module.get_config(argument) if argument else module.get_config()
  return config.to_dict()
