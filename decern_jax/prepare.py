"""Downloads a data set of tfds and writes it in the format that is read here.

  python -m decern_jax.prepare caltech_birds2011 --data_dir=DIR

The only command that needs TensorFlow: pip install 'decern_jax[prepare]'.
"""

from collections.abc import Sequence
import importlib.util
import os
import sys

from absl import app, flags, logging

from decern_jax.data import tfds_source

_DATA_DIR = flags.DEFINE_string(
  "data_dir", None, "Where tfds keeps prepared data; its default if not given."
)


def prepare(
  name: str, *, data_dir: str | os.PathLike[str] | None = None
) -> None:
  """Downloads and prepares a data set, unless that is done already.

  Args:
    name: Name in tfds, with its config if it has one.
    data_dir: Where tfds keeps prepared data; None for its default.

  Raises:
    ValueError: If tfds does not know the name, or the data are there in a
      format that cannot be read without TensorFlow.
  """
  builder = tfds_source.open_builder(name, data_dir)
  if not builder.is_prepared():
    builder.download_and_prepare(file_format=tfds_source.FILE_FORMAT)
  tfds_source.check_prepared(builder)
  logging.info("%s is ready in %s.", name, builder.data_path)


def main(argv: Sequence[str]) -> None:
  """Runs the command."""
  if len(argv) != 2:
    raise app.UsageError(f"Expected one data set, got {list(argv[1:])}.")
  if importlib.util.find_spec("tensorflow") is None:
    sys.exit(
      "Preparing data needs TensorFlow, which is not installed: "
      "pip install 'decern_jax[prepare]'"
    )
  prepare(argv[1], data_dir=_DATA_DIR.value)


if __name__ == "__main__":
  app.run(main)
