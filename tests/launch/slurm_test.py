import pathlib
import signal
import subprocess
import sys
import time

import pytest

from tests.launch import scripts

# Ends as scripted, in turn: "hang" until a file appears, then 75.
SRUN = f"""#!{sys.executable} -IS
import json, os, pathlib, sys, time
folder = pathlib.Path(os.environ["FAKE"])
with (folder / "srun.jsonl").open("a") as calls:
  environment = {{k: os.environ.get(k) for k in ("DATA", "DISTRIBUTED")}}
  calls.write(json.dumps([environment, *sys.argv[1:]]) + "\\n")
plan = (folder / "statuses").read_text().split()
(folder / "statuses").write_text(" ".join(plan[1:]))
if plan[0] == "hang":
  (folder / "hangs").touch()
  while not (folder / "stop").exists():
    time.sleep(0.05)
  sys.exit(75)
sys.exit(int(plan[0]))
"""
SCONTROL = """#!/bin/sh
echo "[\\"$1\\", \\"$2\\"]" >>"$FAKE/scontrol.jsonl"
exit "${SCONTROL_STATUS:-0}"
"""


class Cluster:
  """A cluster whose steps end as scripted."""

  def __init__(self, folder: pathlib.Path):
    self.folder = folder
    scripts.install(folder / "bin", "srun", SRUN)
    scripts.install(folder / "bin", "scontrol", SCONTROL)

  def environment(self, statuses: str, **more: str) -> dict[str, str]:
    (self.folder / "statuses").write_text(statuses)
    variables = {
      "FAKE": str(self.folder),
      "SLURM_SUBMIT_DIR": str(scripts.ROOT),
      "SLURM_JOB_ID": "17",
      "SLURM_NNODES": "2",
      "SLURM_NTASKS": "8",
      "WORKDIR": "/shared/run",
      "DATA": "/shared/tfds",
    }
    return scripts.clean_environment(self.folder / "bin") | variables | more

  def submit(self, statuses: str, *arguments: str, **more: str):
    return scripts.run(
      "slurm.sh", arguments, self.environment(statuses, **more)
    )

  def steps(self) -> list[list]:
    return scripts.lines(self.folder / "srun.jsonl")

  def requeued(self) -> list[list[str]]:
    return scripts.lines(self.folder / "scontrol.jsonl")


@pytest.fixture
def cluster(tmp_path):
  return Cluster(tmp_path)


class TestStep:
  def test_runs_the_worker_in_every_task(self, cluster):
    done = cluster.submit("0", "--config.seeds=(1, 11)")
    assert done.returncode == 0, done.stderr
    (step,) = cluster.steps()
    assert step == [
      {"DATA": "/shared/tfds", "DISTRIBUTED": "1"},
      "--kill-on-bad-exit=0",
      "bash",
      "launch/worker.sh",
      "--config.seeds=(1, 11)",
    ]
    assert cluster.requeued() == []

  def test_of_one_task_is_not_distributed(self, cluster):
    cluster.submit("0", SLURM_NTASKS="1")
    assert cluster.steps()[0][0]["DISTRIBUTED"] == "0"

  def test_brings_data_of_a_bucket_once_to_each_node(self, cluster):
    cluster.submit("0 0", DATA="gs://b/tfds", STAGE_DIR="/local/data")
    stage, work = cluster.steps()
    assert stage[1:3] == ["--ntasks=2", "--ntasks-per-node=1"]
    assert stage[-3:] == ["launch/stage.py", "gs://b/tfds", "/local/data"]
    assert work[0]["DATA"] == "/local/data"

  def test_does_not_run_without_the_data(self, cluster):
    assert cluster.submit("1", DATA="gs://b/tfds").returncode == 1
    assert len(cluster.steps()) == 1

  def test_names_all_missing_variables(self, cluster):
    done = cluster.submit("0", WORKDIR="", DATA="")
    assert done.returncode == 64
    assert "Expected these variables to be set: WORKDIR DATA." in done.stderr
    assert cluster.steps() == []

  def test_rejects_another_folder_than_the_checkout(self, cluster, tmp_path):
    done = cluster.submit("0", SLURM_SUBMIT_DIR=str(tmp_path))
    assert done.returncode == 64
    assert f"run in the checkout, got {tmp_path}" in done.stderr


class TestEnd:
  def test_stopped_and_saved_goes_back_to_the_queue(self, cluster):
    assert cluster.submit("75").returncode == 0
    assert cluster.requeued() == [["requeue", "17"]]

  def test_stopped_too_often_ends(self, cluster):
    done = cluster.submit("75", SLURM_RESTART_COUNT="3", MAX_RESTARTS="3")
    assert done.returncode == 75
    assert "stopped again after 3 restarts" in done.stderr
    assert cluster.requeued() == []

  def test_failure_ends_the_job_and_says_so(self, cluster):
    done = cluster.submit("1")
    assert done.returncode == 1
    assert "the run failed with status 1" in done.stderr
    assert cluster.requeued() == []

  def test_says_so_if_the_queue_does_not_take_it(self, cluster):
    done = cluster.submit("75", SCONTROL_STATUS="1")
    assert done.returncode == 75
    assert "the same sbatch continues" in done.stderr

  def test_cancelled_job_waits_for_its_tasks_and_stays_out(self, cluster):
    process = subprocess.Popen(
      ["bash", str(scripts.LAUNCH / "slurm.sh")],
      env=cluster.environment("hang"),
      stderr=subprocess.PIPE,
      text=True,
    )
    deadline = time.monotonic() + 30
    while not (cluster.folder / "hangs").exists():
      assert time.monotonic() < deadline
      time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    assert process.poll() is None
    (cluster.folder / "stop").touch()
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 75
    assert "as the job was ended" in stderr
    assert cluster.requeued() == []


class TestDirectives:
  def directives(self) -> dict[str, str]:
    text = (scripts.LAUNCH / "slurm.sh").read_text()
    marked = [line for line in text.splitlines() if line.startswith("#SBATCH")]
    pairs = [line.removeprefix("#SBATCH --").partition("=") for line in marked]
    return {name: value for name, _, value in pairs}

  def test_one_task_per_gpu_as_jax_expects(self):
    found = self.directives()
    assert found["ntasks-per-node"] == found["gpus-per-node"]

  def test_tasks_and_not_the_script_are_told_to_stop(self):
    assert self.directives()["signal"] == "TERM@120"

  def test_log_goes_on_after_a_restart(self):
    found = self.directives()
    assert found["open-mode"] == "append"
    assert "requeue" in found

  def test_come_before_the_first_command(self):
    lines = (scripts.LAUNCH / "slurm.sh").read_text().splitlines()
    first = next(i for i, x in enumerate(lines) if x and x[0] != "#")
    last = max(i for i, x in enumerate(lines) if x.startswith("#SBATCH"))
    assert last < first
