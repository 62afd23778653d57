"""Commands of the package as processes, to be killed and started again."""

import os
import pathlib
import subprocess
import sys
from typing import IO

from tests import tiny

# Small images for a small model, whose files the folder of a test holds.
TINY = {
  "dataset.path": "data",
  "dataset.resize_size": tiny.SIZE,
  "dataset.image_size": tiny.SIZE,
  "model.name": "small_cnn",
  "model.weights": "weights.safetensors",
}


def start(
  folder: pathlib.Path,
  command: str,
  config: str,
  *flags: str,
  stdout: int | IO[str] = subprocess.PIPE,
  environment: dict[str, str] | None = None,
  **values,
) -> subprocess.Popen:
  """Starts a command whose programs are compiled once for all starts.

  Args:
    folder: Where it works, and keeps the programs.
    command: Such as "main".
    config: Name of the configuration's file.
    *flags: Other flags.
    stdout: Where it writes to.
    environment: Other variables.
    **values: Fields of the configuration, `.` as `__`.
  """
  fields = {name.replace("__", "."): value for name, value in values.items()}
  return subprocess.Popen(
    [
      *(sys.executable, "-m", f"decern_jax.{command}"),
      f"--config={tiny.ROOT / 'configs' / config}.py",
      *flags,
      *(f"--config.{name}={value}" for name, value in fields.items()),
    ],
    cwd=folder,
    env={
      **os.environ,
      **(environment or {}),
      "JAX_PLATFORMS": "cpu",
      "PYTHONPATH": os.fspath(tiny.ROOT),
      "JAX_COMPILATION_CACHE_DIR": os.fspath(folder / "programs"),
      "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    },
    stdout=stdout,
    stderr=subprocess.STDOUT,
    text=True,
  )
