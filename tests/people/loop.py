"""The command that a run with people is, as a process of its own."""

import os
import pathlib
import subprocess
import sys

import pytest

from decern_jax.labeling import query
from tests import tiny
from tests.people import hidden

NUM_ROUNDS, BUDGET, NUM_POOL = 8, 4, 40


def start(folder: pathlib.Path, where: str) -> subprocess.Popen:
  flags = [
    f"--config={tiny.ROOT / 'configs' / 'my_images.py'}",
    f"--workdir={where}",
    "--config.dataset.path=images",
    f"--config.dataset.resize_size={tiny.SIZE}",
    f"--config.dataset.image_size={tiny.SIZE}",
    "--config.model.name=small_cnn",
    "--config.model.weights=weights.safetensors",
    f"--config.num_rounds={NUM_ROUNDS}",
    "--config.selection.strategy=margin",
    f"--config.selection.initial_budget={BUDGET}",
    f"--config.selection.budget={BUDGET}",
    "--config.labels.formats=('csv', 'label_studio')",
  ]
  environment = {
    **os.environ,
    "JAX_PLATFORMS": "cpu",
    "PYTHONPATH": os.fspath(tiny.ROOT),
    "JAX_COMPILATION_CACHE_DIR": os.fspath(folder / "programs"),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
  }
  return subprocess.Popen(
    [sys.executable, "-m", "decern_jax.main", *flags],
    cwd=folder,
    env=environment,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )


def finish(folder: pathlib.Path, where: str, class_of: dict[str, str]) -> None:
  """Answers truly until all rounds are done."""
  for _ in range(NUM_ROUNDS + 1):
    if (folder / where / query.FOLDER).exists():
      hidden.respond_truly(folder / where, class_of)
    with start(folder, where) as process:
      output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    if "All rounds are done" in output:
      return
  pytest.fail(f"It did not end: {output}")
