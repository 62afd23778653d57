"""Test that a fine-tuning killed inside its rounds ends as one that was not."""

import pathlib
import signal
import subprocess
import time

import numpy as np
import pytest

from decern_jax.runs import model_file, records
from decern_jax.training import finetune
from tests import tiny
from tests.cli import commands

NUM_KILLS = 5
NUM_ROUNDS, NUM_EPOCHS = 3, 60
SEED = 7
CONTINUES = "continues after epoch"


def start(folder: pathlib.Path, workdir: str) -> subprocess.Popen:
  """Starts a run that writes what it says into a file."""
  with (folder / "said.txt").open("w") as said:
    return commands.start(
      folder,
      "main",
      "image_folder",
      *(f"--workdir={workdir}", "--verbosity=0"),
      stdout=said,
      num_rounds=NUM_ROUNDS,
      selection__budget=8,
      selection__initial_budget=8,
      train__scope="published",
      train__augment=True,
      train__num_epochs=NUM_EPOCHS,
      train__batch_size=8,
      system__checkpoint_seconds=0,
      **commands.TINY,
    )


def finish(folder: pathlib.Path, workdir: str) -> str:
  with start(folder, workdir) as process:
    process.wait(timeout=600)
  said = (folder / "said.txt").read_text()
  assert process.returncode == 0, said
  return said


def saved(workdir: pathlib.Path) -> list[tuple[int, int]]:
  """Returns the rounds and epochs whose states are on the disk."""
  return [
    (int(path.parent.name), int(path.name))
    for path in (workdir / finetune.FOLDER).glob("*/*")
    if path.name.isdigit()
  ]


def kill_after(folder: pathlib.Path, workdir: str, delay: float) -> str:
  """Starts a run, and kills it a while after it saved another epoch."""
  before = max(saved(folder / workdir), default=(0, 0))
  with start(folder, workdir) as process:
    while max(saved(folder / workdir), default=(0, 0)) <= before:
      assert process.poll() is None, (folder / "said.txt").read_text()
      time.sleep(0.01)
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
  assert process.returncode == -signal.SIGKILL
  return (folder / "said.txt").read_text()


@pytest.mark.slow
class TestKill:
  def test_run_killed_inside_rounds_equals_the_uninterrupted(self, tmp_path):
    tiny.write_image_folder(tmp_path / "data", num_train=20)
    tiny.write_weights(tmp_path / "weights.safetensors")
    said = finish(tmp_path, "whole")
    assert CONTINUES not in said
    expected = tiny.without_costs(records.read(tmp_path / "whole"))
    assert len(expected) == NUM_ROUNDS
    round_seconds = np.median(
      [r["seconds"]["train"] for r in records.read(tmp_path / "whole")]
    )
    rng = np.random.default_rng(SEED)
    num_continued = 0
    killed = tmp_path / "killed"
    for _ in range(NUM_KILLS):
      # Five kills in three rounds: less than a round each.
      said = kill_after(tmp_path, "killed", rng.uniform(0, round_seconds / 2))
      num_continued += CONTINUES in said
      # Whatever a kill left is the beginning of the right run.
      found = tiny.without_costs(records.read(killed))
      assert found == expected[: len(found)]
      assert len(found) < NUM_ROUNDS
    num_continued += CONTINUES in finish(tmp_path, "killed")
    # A kill may hit the moment between two rounds.
    assert num_continued > NUM_KILLS // 2
    assert tiny.without_costs(records.read(killed)) == expected
    assert not (killed / finetune.FOLDER).exists()
    models = [
      tmp_path / name / model_file.FILE_NAME for name in ("whole", "killed")
    ]
    first, other = (path.read_bytes() for path in models)
    assert first == other
