import json
import os
import pathlib
import shlex
import shutil
import signal
import subprocess
import time

import pytest

from tests import interruptible
from tests.launch import cloud as fakes
from tests.launch import scripts
from tests.table import each


class TestEnd:
  def test_keep_keeps_and_says_what_costs(self, cloud):
    cloud.plan(lives=[["ACTIVE"]], runs=[[0]])
    done = cloud.launch(KEEP="1")
    assert done.returncode == 0
    assert cloud.summary() == (1, 1, 0)
    assert (
      "to delete: gcloud compute tpus queued-resources delete cub"
      " --zone=us-west4-a --force --quiet"
    ) in done.stderr

  def test_says_so_if_deleting_fails(self, cloud):
    fail = {"queued-resources delete": 1}
    cloud.plan(lives=[["ACTIVE"]], runs=[[0]], fail=fail)
    done = cloud.launch()
    assert done.returncode == 0
    assert "could not delete cub" in done.stderr
    assert "may still exist and cost money" in done.stderr

  def start(self, cloud, **more: str) -> subprocess.Popen[str]:
    """Starts the script as the leader of the processes of a terminal."""
    return subprocess.Popen(
      interruptible.command("bash", str(scripts.LAUNCH / "tpu.sh")),
      env=cloud.environment(**more),
      stderr=subprocess.PIPE,
      text=True,
      start_new_session=True,
    )

  def wait_until(self, cloud, what: str) -> None:
    deadline = time.monotonic() + 30
    while not (cloud.folder / what).exists():
      assert time.monotonic() < deadline
      time.sleep(0.05)

  def interrupt(self, cloud, number: int, **more: str) -> tuple[int, str]:
    """Sends a signal to all processes of the terminal while the run hangs."""
    cloud.plan(lives=[["ACTIVE"]], runs=["hang"])
    process = self.start(cloud, **more)
    self.wait_until(cloud, "run_hangs")
    os.killpg(process.pid, number)
    _, stderr = process.communicate(timeout=30)
    return process.returncode, stderr

  @each("number", [signal.SIGINT, signal.SIGTERM])
  def test_a_signal_deletes_and_says_so(self, tmp_path, number):
    with fakes.Cloud(tmp_path) as cloud:
      status, stderr = self.interrupt(cloud, number)
    assert status == 130
    assert "costs money until it is deleted, which happens now" in stderr
    assert "The same command again continues the run." in stderr
    assert "deleted cub." in stderr
    assert cloud.summary() == (1, 1, 1)

  def test_ctrl_c_with_keep_says_what_costs(self, cloud):
    status, stderr = self.interrupt(cloud, signal.SIGINT, KEEP="1")
    assert status == 130
    assert "which KEEP=1 forbids" in stderr
    assert "queued-resources delete cub" in stderr
    assert cloud.summary() == (1, 1, 0)

  def test_second_ctrl_c_ends_at_once_and_says_what_costs(self, cloud):
    cloud.plan(states=["STUCK"])
    with self.start(cloud, POLL_SECONDS="60") as process:
      assert process.stderr
      assert any("cub is STUCK; waiting." in x for x in process.stderr)
      os.killpg(process.pid, signal.SIGINT)
      self.wait_until(cloud, "delete_hangs")
      os.killpg(process.pid, signal.SIGINT)
      assert any("may still exist and cost" in x for x in process.stderr)
      assert process.wait(timeout=30) == 130
      os.killpg(process.pid, signal.SIGKILL)  # the deletion, which goes on


class TestCommands:
  def test_gcloud_knows_every_flag(self, cloud, tmp_path):
    """The real gcloud checks the commands, and finds a misspelled flag."""
    if shutil.which("gcloud") is None:
      pytest.skip("no gcloud")
    cloud.plan(lives=[["ACTIVE"], ["FAILED"]], runs=[fakes.PREEMPTED])
    cloud.launch(SPOT="1")
    calls = {tuple(call[2:4]): call for call in cloud.calls()}
    assert len(calls) == 7
    commands = [
      shlex.join(["gcloud", *(a for a in call if "--command" not in a)])
      for call in calls.values()
    ]
    delete = "gcloud compute tpus queued-resources delete n --zone=z"
    *results, misspelled = self.lint(
      [*commands, f"{delete} --forced"], tmp_path
    )
    assert len(results) == len(commands)
    for result in results:
      assert result["success"], result["error_message"]
    assert not misspelled["success"]
    assert "--forced" in misspelled["error_message"]

  def lint(self, commands: list[str], folder: pathlib.Path) -> list[dict]:
    """Returns what gcloud says about commands, which it does not run."""
    file = folder / "commands.json"
    file.write_text(json.dumps([{"command_string": c} for c in commands]))
    done = subprocess.run(
      ["gcloud", "meta", "lint-gcloud-commands", f"--commands-file={file}"],
      env=os.environ | {"CLOUDSDK_CONFIG": str(folder / "config")},
      capture_output=True,
      text=True,
      timeout=60,
      check=False,
    )
    if done.returncode:
      pytest.skip("this gcloud does not check commands")
    return json.loads(done.stdout)
