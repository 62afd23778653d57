import importlib.util
import json
import os
import subprocess
import sys

import pytest

from tests.launch import scripts
from tests.table import each

# SkyPilot does not install beside our packages, so it may have its own Python.
PYTHON = os.environ.get("SKY_PYTHON") or (
  sys.executable if importlib.util.find_spec("sky") else None
)
READ = """
import json, sys, sky
try:
  task = sky.Task.from_yaml_config(json.load(sys.stdin))
except Exception as error:
  sys.exit(f"{type(error).__name__}: {error}")
(resources,) = task.resources
recovery = resources.job_recovery
print(json.dumps([resources.use_spot, recovery]))
"""
FILLED = {"WORKDIR": "gs://b/run", "DATA": "gs://b/tfds"}


@pytest.fixture
def task():
  """The file as data, with its required variables."""
  yaml = pytest.importorskip("yaml")
  found = yaml.safe_load((scripts.LAUNCH / "sky.yaml").read_text())
  found["envs"] |= FILLED
  return found


@pytest.fixture
def read(tmp_path):
  """Reads a task as SkyPilot does."""
  python = PYTHON
  if python is None:
    pytest.skip("no SkyPilot; SKY_PYTHON may name a Python that has it")

  def run(task):
    return subprocess.run(
      [python, "-c", READ],
      input=json.dumps(task),
      env={"HOME": str(tmp_path), "PATH": os.environ["PATH"]},
      capture_output=True,
      text=True,
      timeout=120,
      check=False,
    )

  return run


class TestSchema:
  def test_task_is_valid(self, read, task):
    done = read(task)
    assert done.returncode == 0, done.stderr
    is_spot, recovery = json.loads(done.stdout.splitlines()[-1])
    assert is_spot
    assert recovery["recover_on_exit_codes"] == [75]
    assert recovery["max_restarts_on_errors"] == 2

  def test_rejects_a_misspelled_field(self, read, task):
    task["numnodes"] = 1
    assert "did you mean 'num_nodes'" in read(task).stderr

  def test_rejects_a_misspelled_resource(self, read, task):
    task["resources"]["spot"] = task["resources"].pop("use_spot")
    assert "did you mean 'use_spot'" in read(task).stderr

  def test_rejects_an_impossible_status(self, read, task):
    task["resources"]["job_recovery"]["recover_on_exit_codes"] = [300]
    assert "300 is greater than the maximum" in read(task).stderr

  @each("name", FILLED)
  def test_rejects_a_missing_variable(self, read, task, name):
    task["envs"][name] = None
    assert f"Environment variable '{name}' is None" in read(task).stderr


class TestRun:
  @each("nodes, value", [("1", "0"), ("4", "1")])
  def test_becomes_the_worker(self, task, tmp_path, nodes, value):
    log = 'echo "$DISTRIBUTED $*" >"$FAKE/worker"; exit 75'
    scripts.install(tmp_path / "launch", "worker.sh", log)
    environment = {
      "PATH": os.environ["PATH"],
      "FAKE": str(tmp_path),
      "SKYPILOT_NUM_NODES": nodes,
      "FLAGS": "--a=1 --b=2",
    }
    done = subprocess.run(
      ["bash", "-c", task["run"]], cwd=tmp_path, env=environment, check=False
    )
    assert done.returncode == 75
    assert (tmp_path / "worker").read_text() == f"{value} --a=1 --b=2\n"

  def test_installs_with_the_script(self, task):
    *variables, bash, script = task["setup"].split()
    assert variables == ["EXTRA=tpu"]
    assert bash == "bash"
    assert (scripts.ROOT / script).is_file()
