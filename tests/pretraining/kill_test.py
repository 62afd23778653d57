"""Test that a pre-training killed in its epochs ends as one that was not."""

import pathlib
import signal
import subprocess
import time

import numpy as np
import pytest

from decern_jax.cli import pretrain
from decern_jax.pretraining import journal, loop
from tests import tiny
from tests.cli import commands

NUM_KILLS = 5
NUM_EPOCHS = 40
SEED = 7
CONTINUES = "Continues after step"


def start(folder: pathlib.Path, workdir: str) -> subprocess.Popen:
  """Starts a run that saves every step, and writes what it says to a file."""
  data = {k: v for k, v in commands.TINY.items() if k != "model.weights"}
  with (folder / "said.txt").open("w") as said:
    return commands.start(
      folder,
      "pretrain",
      "pretrain_image_folder",
      *(f"--workdir={workdir}", "--verbosity=0"),
      stdout=said,
      pretrain__objective="moco_v2",
      pretrain__projector="(16, 8)",
      pretrain__queue_size=16,
      train__batch_size=8,
      train__num_epochs=NUM_EPOCHS,
      system__checkpoint_seconds=0,
      **data,
    )


def finish(folder: pathlib.Path, workdir: str) -> str:
  with start(folder, workdir) as process:
    process.wait(timeout=600)
  said = (folder / "said.txt").read_text()
  assert process.returncode == 0, said
  return said


def last_saved(workdir: pathlib.Path) -> int:
  folder = workdir / loop.FOLDER
  names = [path.name for path in folder.iterdir()] if folder.exists() else []
  return max((int(name) for name in names if name.isdigit()), default=-1)


def kill_after(folder: pathlib.Path, workdir: str, num_steps: int) -> str:
  """Starts a run, and kills it when it has saved so many steps more."""
  before = last_saved(folder / workdir)
  with start(folder, workdir) as process:
    while last_saved(folder / workdir) < before + num_steps:
      assert process.poll() is None, (folder / "said.txt").read_text()
      time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
  assert process.returncode == -signal.SIGKILL
  return (folder / "said.txt").read_text()


@pytest.mark.slow
class TestKill:
  def test_run_killed_inside_epochs_equals_the_uninterrupted(self, tmp_path):
    tiny.write_image_folder(tmp_path / "data", num_train=8)
    assert CONTINUES not in finish(tmp_path, "whole")
    expected = tiny.without_costs(journal.read(tmp_path / "whole"))
    assert len(expected) == NUM_EPOCHS + 1
    rng = np.random.default_rng(SEED)
    num_continued = 0
    for _ in range(NUM_KILLS):
      # Fewer than the 160 steps in all five.
      said = kill_after(tmp_path, "killed", int(rng.integers(2, 20)))
      num_continued += CONTINUES in said
      found = tiny.without_costs(journal.read(tmp_path / "killed"))
      assert found == expected[: len(found)]
      assert len(found) <= NUM_EPOCHS
    assert CONTINUES in finish(tmp_path, "killed")
    assert num_continued == NUM_KILLS - 1
    assert tiny.without_costs(journal.read(tmp_path / "killed")) == expected
    first, other = (
      (tmp_path / name / pretrain.WEIGHTS_FILE).read_bytes()
      for name in ("whole", "killed")
    )
    assert first == other
