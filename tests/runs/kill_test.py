"""Test that a run killed at random moments ends as one that was not."""

import pathlib
import signal
import subprocess
import time

import numpy as np
import pytest

from decern_jax.runs import records
from tests import tiny
from tests.cli import commands

NUM_KILLS = 10
NUM_ROUNDS = 40
SEED = 7


def start(folder: pathlib.Path, workdir: str) -> subprocess.Popen:
  """Starts a run whose rounds take some tenths of a second each."""
  return commands.start(
    folder,
    "main",
    "image_folder",
    f"--workdir={workdir}",
    num_rounds=NUM_ROUNDS,
    selection__budget=4,
    train__num_epochs=5000,
    **commands.TINY,
  )


def finish(folder: pathlib.Path, workdir: str) -> None:
  with start(folder, workdir) as process:
    output, _ = process.communicate(timeout=600)
  assert process.returncode == 0, output


def kill(
  folder: pathlib.Path, workdir: str, num_rounds: int, delay: float
) -> None:
  """Starts a run, and kills it a while after so many rounds are shown."""
  with start(folder, workdir) as process:
    shown = -1  # the line before the rounds
    assert process.stdout is not None
    for line in process.stdout:
      shown += line.startswith(("Seed ", "round "))
      if shown == num_rounds:
        break
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
  assert process.returncode == -signal.SIGKILL


@pytest.mark.slow
class TestKill:
  def test_run_killed_ten_times_equals_the_uninterrupted(self, tmp_path):
    tiny.write_image_folder(tmp_path / "data", num_train=40)
    tiny.write_weights(tmp_path / "weights.safetensors")
    finish(tmp_path, "whole")
    expected = tiny.without_costs(records.read(tmp_path / "whole"))
    assert len(expected) == NUM_ROUNDS
    seconds = np.median(
      [sum(r["seconds"].values()) for r in records.read(tmp_path / "whole")]
    )
    rng = np.random.default_rng(SEED)
    reached = [0]
    for _ in range(NUM_KILLS):
      # A start with no round of its own traces its programs before the first.
      num_new = int(rng.integers(0, 4))
      delay = rng.uniform(0, 2 * seconds if num_new else 3)
      kill(tmp_path, "killed", reached[-1] + num_new, delay)
      # Whatever a kill left is the beginning of the right run.
      found = tiny.without_costs(records.read(tmp_path / "killed"))
      assert found == expected[: len(found)]
      reached.append(len(found))
    assert reached[-1] < NUM_ROUNDS
    assert len(set(reached)) >= NUM_KILLS // 2
    finish(tmp_path, "killed")
    assert tiny.without_costs(records.read(tmp_path / "killed")) == expected
    for name in ("learning_curve.png", "selected.png"):
      assert (tmp_path / "killed" / name).stat().st_size > 1000
