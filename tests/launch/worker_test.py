import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from tests.launch import scripts
from tests.table import each

# Logs its arguments and answers SIGTERM as the program does; what is no module
# goes to the real Python.
PROGRAM = f"""#!{sys.executable} -IS
import json, os, signal, sys, time
if sys.argv[1] != "-m":
  os.execv({sys.executable!r}, [{sys.executable!r}, *sys.argv[1:]])
with open(os.environ["FAKE"] + "/calls.jsonl", "a") as calls:
  calls.write(json.dumps(sys.argv[1:]) + "\\n")
signal.signal(signal.SIGTERM, lambda *_: os._exit(75))
if os.environ.get("HANG") == "1":
  open(os.environ["FAKE"] + "/hangs", "w").close()
  time.sleep(60)
sys.exit(int(os.environ.get("STATUS", "0")))
"""


class Host:
  """A host with a Python of the tests."""

  def __init__(self, folder: pathlib.Path):
    self.folder = folder
    scripts.install(folder / "bin", "python", PROGRAM)

  def environment(self, **more: str) -> dict[str, str]:
    variables = scripts.clean_environment(self.folder / "bin")
    variables |= {"FAKE": str(self.folder), "PYTHON": "python"}
    return variables | {"WORKDIR": "gs://b/run", "DATA": "none"} | more

  def run(self, *arguments: str, **more: str):
    return scripts.run("worker.sh", arguments, self.environment(**more))

  def start(self, **more: str) -> subprocess.Popen:
    """Starts a run that goes on until it is stopped."""
    process = subprocess.Popen(
      ["bash", str(scripts.LAUNCH / "worker.sh")],
      env=self.environment(HANG="1", **more),
    )
    deadline = time.monotonic() + 30
    while not (self.folder / "hangs").exists():
      assert time.monotonic() < deadline
      time.sleep(0.05)
    return process

  def command(self) -> list[str]:
    (call,) = scripts.lines(self.folder / "calls.jsonl")
    return call


@pytest.fixture
def host(tmp_path):
  return Host(tmp_path)


class TestCommand:
  def test_is_the_program_on_the_configuration(self, host):
    assert host.run("--config.seeds=(1, 11)").returncode == 0
    assert host.command() == [
      "-m",
      "decern_jax.main",
      "--config=configs/cub.py",
      "--workdir=gs://b/run",
      "--config.system.cache_dir=gs://b/run/cache",
      "--config.seeds=(1, 11)",
    ]

  def test_uses_local_data_where_they_are(self, host):
    host.run(DATA="/shared/tfds")
    assert "--config.dataset.path=/shared/tfds" in host.command()

  @each("value", ["0", "1"])
  def test_is_distributed_if_asked(self, tmp_path, value):
    host = Host(tmp_path)
    host.run(DISTRIBUTED=value)
    assert ("--distributed" in host.command()) == (value == "1")

  def test_names_all_missing_variables(self, host):
    done = host.run(WORKDIR="", DATA="")
    assert done.returncode == 64
    assert "Expected these variables to be set: WORKDIR DATA." in done.stderr

  def test_brings_data_of_a_bucket_to_the_disk(self, host, tmp_path):
    pytest.importorskip("fsspec")
    source = tmp_path / "bucket"
    (source / "birds/1.0.0").mkdir(parents=True)
    (source / "birds/1.0.0/train.array_record").write_bytes(b"images")
    stage = tmp_path / "stage"
    done = host.run(DATA=f"file://{source}", STAGE_DIR=str(stage))
    assert done.returncode == 0, done.stderr
    assert f"--config.dataset.path={stage}" in host.command()
    assert (stage / "birds/1.0.0/train.array_record").read_bytes() == b"images"

  def test_does_not_run_without_the_data(self, host, tmp_path):
    pytest.importorskip("fsspec")
    done = host.run(DATA=f"file://{tmp_path}/absent", STAGE_DIR="/tmp/x/none")
    assert done.returncode == 1
    assert "absent" in done.stderr
    assert scripts.lines(tmp_path / "calls.jsonl") == []


class TestEnd:
  @each("status", [1, 75])
  def test_has_the_status_of_the_program(self, host, status):
    assert host.run(STATUS=str(status)).returncode == status

  def test_sigterm_reaches_the_program(self, host):
    process = host.start()
    process.terminate()
    assert process.wait(timeout=30) == 75


class TestEarlierRun:
  def test_is_stopped_before_the_next(self, host, tmp_path):
    pid_file = str(tmp_path / "pid")
    earlier = host.start(PID_FILE=pid_file)
    done = host.run(PID_FILE=pid_file)
    assert done.returncode == 0
    assert f"stopping the earlier run, process {earlier.pid}" in done.stderr
    assert earlier.wait(timeout=30) == 75

  def test_that_does_not_stop_is_killed(self, host, tmp_path):
    pid_file = str(tmp_path / "pid")
    earlier = host.start(PID_FILE=pid_file)
    os.kill(earlier.pid, signal.SIGSTOP)
    assert host.run(PID_FILE=pid_file, STOP_SECONDS="1").returncode == 0
    assert earlier.wait(timeout=30) == -signal.SIGKILL

  def test_that_is_another_program_by_now_is_left_alone(self, host, tmp_path):
    other = subprocess.Popen(["sleep", "60"])
    (tmp_path / "pid").write_text(json.dumps(other.pid))
    assert host.run(PID_FILE=str(tmp_path / "pid")).returncode == 0
    assert other.poll() is None
    other.kill()
    other.wait()
