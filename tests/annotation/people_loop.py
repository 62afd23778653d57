"""The command that a run with people is, as a process of its own."""

import pathlib
import subprocess

import pytest

from decern_jax.annotation import query
from tests.annotation import hidden
from tests.cli import commands

NUM_ROUNDS, BUDGET, NUM_POOL = 8, 4, 40


def start(folder: pathlib.Path, where: str) -> subprocess.Popen:
  """Starts a run, whose images are in `folder / "images"`."""
  return commands.start(
    folder,
    "main",
    "my_images",
    f"--workdir={where}",
    num_rounds=NUM_ROUNDS,
    selection__strategy="margin",
    selection__initial_budget=BUDGET,
    selection__budget=BUDGET,
    labels__formats="('csv', 'label_studio')",
    **{**commands.TINY, "dataset.path": "images"},
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
