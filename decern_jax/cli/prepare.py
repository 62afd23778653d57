"""Downloads a data set of tfds in a format that runs can read.

  decern-jax prepare caltech_birds2011 --data_dir=DIR

The only command that needs TensorFlow: pip install 'decern_jax[prepare]'.
"""

from collections.abc import Sequence
import importlib.util
import os
import shlex
import sys
from typing import TYPE_CHECKING

from absl import flags, logging

from decern_jax.cli import command
from decern_jax.data import tfds_builder
from decern_jax.data.sources import DATASETS

if TYPE_CHECKING:
  import tensorflow_datasets as tfds

COMMAND = command.Command()

_DATA_DIR = flags.DEFINE_string(
  "data_dir", None, "Where tfds keeps prepared data; its default if not given."
)


def prepare(
  name: str, *, data_dir: str | os.PathLike[str] | None = None
) -> None:
  """Downloads and prepares a data set, unless it is prepared already.

  Args:
    name: Name in tfds, with its config if it has one.
    data_dir: Where tfds keeps prepared data; None for its default.

  Raises:
    ValueError: If tfds does not know the name, or the data are prepared in a
      format that cannot be read without TensorFlow.
  """
  builder = _open_builder(name, data_dir)
  if not tfds_builder.is_prepared(builder):
    builder.download_and_prepare(file_format=tfds_builder.FILE_FORMAT)
  tfds_builder.check_prepared(builder)
  logging.info("%s is ready in %s.", name, builder.data_path)


def _open_builder(
  name: str, data_dir: str | os.PathLike[str] | None
) -> "tfds.core.DatasetBuilder":
  """Finds a data set of tfds by its name there or in the table."""
  check_can_be_prepared(name)
  source = DATASETS.get(name)
  return tfds_builder.open_builder(
    source.tfds_name if source else name, data_dir
  )


def check_can_be_prepared(name: str) -> None:
  """Refuses a data set of the table that tfds does not have.

  Raises:
    ValueError: If there is nothing to prepare. The message shows what to do
      instead.
  """
  source = DATASETS.get(name)
  if source is not None and not source.tfds_name:
    raise ValueError(
      f"Expected a data set of tfds, got {name!r}, which needs no preparation: "
      f"{source.preparation}."
    )


def main(argv: Sequence[str]) -> None:
  """Runs the command."""
  if len(argv) != 2:
    sys.exit(f"error: Expected one data set, got {list(argv[1:])}.")
  from tensorflow_datasets.core.download.util import DownloadError

  try:
    builder = _open_builder(argv[1], _DATA_DIR.value)
    _check_installed(builder)
    prepare(argv[1], data_dir=_DATA_DIR.value)
  except ValueError as error:
    sys.exit(f"error: {error}")
  except (OSError, DownloadError) as error:
    reason = " ".join(str(error).split())
    sys.exit(
      f"error: {argv[1]} was not prepared: {type(error).__name__}: {reason}"
    )


def _check_installed(builder: "tfds.core.DatasetBuilder") -> None:
  """Refuses a preparation whose packages are missing, before any download."""
  import tensorflow_datasets as tfds

  if tfds_builder.is_prepared(builder):
    return
  missing = {"tensorflow": "decern_jax[prepare]"}
  if isinstance(builder, tfds.core.BeamBasedBuilder):
    missing["apache_beam"] = "apache_beam"
  for package, wanted in missing.items():
    if importlib.util.find_spec(package) is None:
      raise ValueError(
        f"Preparing {builder.name} needs the package {package}, which is not"
        f" installed: pip install {shlex.quote(wanted)}"
      )
