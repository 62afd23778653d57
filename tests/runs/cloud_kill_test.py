"""Test that a run on gs://, killed as it writes, ends as one on a disk."""

import json
import os
import pathlib
import signal
import subprocess
import urllib.request

from etils import epath
import pytest

from decern_jax.io import storage
from decern_jax.runs import model_file, records
from tests import event_file, tiny
from tests.cli import commands
from tests.io import fake_store, gcs_emulator

RUN = "gs://bucket/run"
NUM_ROUNDS = 4

# Objects are written some 30 times in a round. A start is killed before it
# writes the next one: its records, a part of a checkpoint, what marks it whole.
KILLED_BEFORE = (3, 4, 9, 19, 32, 47, 1)


def start(
  root: str, folder: pathlib.Path, environment: dict[str, str]
) -> subprocess.Popen:
  """Starts a run whose files are all below a folder or a bucket."""
  places = {
    "system.cache_dir": f"{root}/cache",
    "dataset.path": f"{root}/data",
    "model.weights": f"{root}/weights.safetensors",
  }
  return commands.start(
    folder,
    "main",
    "image_folder",
    f"--workdir={root}/run",
    environment=environment,
    num_rounds=NUM_ROUNDS,
    selection__budget=4,
    **{**commands.TINY, **places},
  )


def finish(*where) -> None:
  with start(*where) as process:
    output, _ = process.communicate(timeout=300)
  assert process.returncode == 0, output


def kill_before_write(number: int, emulator, *where) -> None:
  """Starts a run, and kills it before it writes so many objects."""
  written = 0

  def on_write() -> None:
    nonlocal written
    written += 1
    if written == number:
      process.send_signal(signal.SIGKILL)
      process.wait()

  with start(*where) as process:
    emulator.on_write = on_write
    output, _ = process.communicate(timeout=300)
  emulator.on_write = lambda: None
  assert process.returncode == -signal.SIGKILL, output


# gcsfs hands aiohttp bytes, which it warns of from 1 MB on.
@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
@pytest.mark.slow
class TestEmulator:
  def test_run_killed_again_and_again_equals_a_local_one(self, tmp_path):
    tiny.write_image_folder(tmp_path / "data", num_train=40)
    tiny.write_weights(tmp_path / "weights.safetensors")
    finish(os.fspath(tmp_path), tmp_path, {})
    expected = tiny.without_costs(records.read(tmp_path / "run"))
    assert len(expected) == NUM_ROUNDS

    with gcs_emulator.running() as emulator:
      fake_store.upload(tmp_path / "data", "gs://bucket/data")
      weights = (tmp_path / "weights.safetensors").read_bytes()
      storage.write_atomically("gs://bucket/weights.safetensors", weights)
      where = "gs://bucket", tmp_path, emulator.environment
      reached = [0]
      for number in KILLED_BEFORE:
        kill_before_write(number, emulator, *where)
        found = tiny.without_costs(records.read(RUN))
        assert found == expected[: len(found)]
        reached.append(len(found))
      assert len(set(reached)) >= 3
      assert max(reached) < NUM_ROUNDS
      finish(*where)
      assert tiny.without_costs(records.read(RUN)) == expected
      assert model_file.load(RUN).class_names == tiny.CLASSES
      for name in ("learning_curve.png", "selected.png"):
        assert len(storage.read_bytes(f"{RUN}/{name}")) > 1000
      steps = {step for _, step, _ in event_file.read_scalars(epath.Path(RUN))}
      assert set(range(NUM_ROUNDS)) <= steps
      local = {path.name for path in (tmp_path / "run").iterdir()}
      # A store has no locks.
      assert {each.name for each in storage.scan(RUN)} == local - {"lock"}

  def test_what_others_write_is_seen_at_once(self):
    with gcs_emulator.running() as emulator:
      folder = storage.as_path("gs://bucket/folder")
      storage.write_atomically(folder / "a", b"")
      assert [path.name for path in folder.iterdir()] == ["a"]
      url = emulator.environment["STORAGE_EMULATOR_HOST"]
      request = urllib.request.Request(
        f"{url}/upload/storage/v1/b/bucket/o?uploadType=media&name=folder/b",
        data=b"foreign",
      )
      with urllib.request.urlopen(request) as answer:
        assert json.load(answer)["size"] in (7, "7")
      assert (folder / "b").exists()
      assert sorted(path.name for path in folder.iterdir()) == ["a", "b"]
      assert storage.read_if_exists(folder / "b") == b"foreign"
