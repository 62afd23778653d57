import subprocess

import pytest

from tests.launch import cloud as fakes
from tests.launch import scripts
from tests.table import each


@pytest.fixture(scope="module")
def run_once(tmp_path_factory):
  """A run on four hosts that succeeds at once, and how the script ended."""
  with fakes.Cloud(tmp_path_factory.mktemp("cloud")) as cloud:
    cloud.plan(lives=[["ACTIVE"]], runs=[[0]])
    done = cloud.launch(
      "--config.seeds=(1, 11)",
      "--x=a'b $HOME",
      SPOT="1",
      CREATE_FLAGS="--network=n --tags=t",
    )
    yield cloud, done


class TestArguments:
  def test_all_missing_variables_are_named_before_anything_is_done(self, cloud):
    cloud.plan()
    done = cloud.launch(ZONE="", DATA="", TPU_NAME="")
    assert done.returncode == 64
    assert "Expected these variables to be set: TPU_NAME ZONE DATA." in (
      done.stderr
    )
    assert cloud.calls() == []

  @each("name", ["WORKDIR", "DATA"])
  def test_rejects_what_is_on_a_disk_that_is_deleted(self, cloud, name):
    cloud.plan()
    done = cloud.launch(**{name: "/data/cub"})
    assert done.returncode == 64
    assert f"Expected `{name}` to begin with gs://" in done.stderr
    assert "got /data/cub" in done.stderr
    assert cloud.calls() == []

  def test_flags_reach_the_program_as_they_are(self, run_once):
    (command,) = run_once[0].runs()
    assert command[-2:] == ["--config.seeds=(1, 11)", "--x=a'b $HOME"]
    assert command[0] == "env"
    assert "WORKDIR=gs://bucket/runs/cub" in command
    assert "DATA=gs://bucket/tfds" in command

  def test_several_hosts_are_distributed(self, run_once):
    assert "DISTRIBUTED=1" in run_once[0].runs()[0]

  def test_spot_and_further_flags_are_for_the_request(self, run_once):
    (call,) = [call for call in run_once[0].calls() if call[3] == "create"]
    assert call[-3:] == ["--network=n", "--tags=t", "--spot"]


class TestRun:
  def test_runs_at_once_if_ready(self, run_once):
    cloud, done = run_once
    assert done.returncode == 0, done.stderr
    assert cloud.summary() == (1, 1, 1)
    assert cloud.is_empty()
    assert "deleted cub. The run is in gs://bucket/runs/cub." in done.stderr

  def test_installs_on_all_workers_before_it_runs(self, run_once):
    work = [call for call in run_once[0].calls() if call[3] in ("scp", "ssh")]
    assert [call[3] for call in work] == ["scp", "ssh", "ssh"]
    assert all("--worker=all" in call for call in work)
    assert "launch/install.sh" in work[1][-1]

  def test_sends_what_is_committed(self, cloud):
    (cloud.bin / "git").unlink()
    cloud.plan(lives=[["ACTIVE"]], runs=[[0]])
    done = cloud.launch()
    assert done.returncode == 0, done.stderr
    assert len(cloud.sent()) == 1
    assert "launch/worker.sh" in cloud.sent()[0]

  def test_one_host_that_is_not_spot_waits_until_the_request_is_active(
    self, cloud
  ):
    states = ["CREATING", "ACCEPTED", "WAITING_FOR_RESOURCES", "PROVISIONING"]
    cloud.plan(lives=[[*states, "ACTIVE"]], runs=[[0]], hosts=1)
    done = cloud.launch()
    assert done.returncode == 0, done.stderr
    assert cloud.summary() == (1, 1, 1)
    for state in states:
      assert f"cub is {state}; waiting." in done.stderr
    assert "DISTRIBUTED=0" in cloud.runs()[0]
    assert not any("--spot" in call for call in cloud.calls())

  def test_continues_on_what_an_earlier_command_kept(self, cloud):
    cloud.plan(states=["ACTIVE"], runs=[[0]])
    assert cloud.launch().returncode == 0
    assert cloud.summary() == (0, 1, 1)


class TestPreemption:
  def test_is_no_failure_and_it_creates_and_runs_again(self, cloud):
    cloud.plan(
      lives=[["ACTIVE"], ["PROVISIONING", "ACTIVE"]],
      runs=[fakes.PREEMPTED, [0]],
    )
    done = cloud.launch(MAX_FAILURES="1")
    assert done.returncode == 0, done.stderr
    assert cloud.summary() == (2, 2, 2)
    assert cloud.runs()[0] == cloud.runs()[1]
    assert cloud.count("tpu-vm", "scp") == 2
    assert cloud.is_empty()

  def test_is_seen_in_the_node_before_the_request_shows_it(self, cloud):
    cloud.plan(
      lives=[["ACTIVE"], ["ACTIVE"]], runs=[[134, "ACTIVE", "PREEMPTED"], [0]]
    )
    assert cloud.launch(MAX_FAILURES="1").returncode == 0
    assert cloud.summary() == (2, 2, 2)

  def test_comes_to_an_end(self, cloud):
    cloud.plan(lives=[["ACTIVE"]] * 4, runs=[fakes.PREEMPTED] * 4)
    done = cloud.launch(MAX_PREEMPTIONS="1")
    assert done.returncode == 1
    assert "preempted more than 1 times" in done.stderr
    assert cloud.summary() == (2, 2, 2)

  def test_of_the_program_alone_runs_it_again_where_it_is(self, cloud):
    cloud.plan(lives=[["ACTIVE"]], runs=[[75], [75], [0]])
    done = cloud.launch(MAX_FAILURES="1")
    assert done.returncode == 0, done.stderr
    assert cloud.summary() == (1, 3, 1)
    assert cloud.count("tpu-vm", "scp") == 1

  def test_of_the_program_alone_comes_to_an_end(self, cloud):
    cloud.plan(lives=[["ACTIVE"]], runs=[[75]] * 3)
    done = cloud.launch(MAX_PREEMPTIONS="1")
    assert done.returncode == 75
    assert cloud.summary() == (1, 2, 1)

  def test_waits_for_a_slice_under_repair(self, cloud):
    cloud.plan(lives=[["ACTIVE"]], runs=[[255, "ACTIVE", "REPAIRING"]])
    environment = cloud.environment(POLL_SECONDS="0.1")
    script = scripts.LAUNCH / "tpu.sh"
    with subprocess.Popen(
      ["bash", str(script)],
      env=environment,
      stderr=subprocess.PIPE,
      text=True,
    ) as process:
      assert process.stderr
      for line in process.stderr:
        if "cub is REPAIRING; waiting." in line:
          break
      process.terminate()
      process.stderr.read()
    assert process.returncode == 130
    assert cloud.summary() == (1, 1, 1)


class TestFailure:
  def test_of_the_program_is_retried_a_few_times_and_said(self, cloud):
    cloud.plan(lives=[["ACTIVE"]], runs=[[1], [1], [42], [1]])
    done = cloud.launch()
    assert done.returncode == 42
    assert cloud.summary() == (1, 3, 1)
    assert "the run failed 3 times, with status 42" in done.stderr
    assert "This is no preemption" in done.stderr
    assert cloud.is_empty()

  def test_of_connections_is_counted_too(self, cloud):
    cloud.plan(lives=[["ACTIVE"]], fail={"tpu-vm scp": 99})
    done = cloud.launch()
    assert done.returncode == 1
    assert cloud.summary() == (1, 0, 1)

  def test_of_the_request_ends_with_its_reason(self, cloud):
    cloud.plan(lives=[["ACCEPTED", "FAILED"]])
    done = cloud.launch()
    assert done.returncode == 1
    assert "the request for cub failed" in done.stderr
    assert "error: no quota" in done.stderr
    assert cloud.summary() == (1, 0, 1)
    assert cloud.is_empty()

  def test_of_creating_ends_and_leaves_nothing(self, cloud):
    cloud.plan(fail={"queued-resources create": 1})
    done = cloud.launch()
    assert done.returncode == 1
    assert "could not create cub" in done.stderr
    assert "nothing of cub is left that costs money" in done.stderr
    assert cloud.summary() == (1, 0, 0)

  def test_of_gcloud_may_pass(self, cloud):
    fail = {"queued-resources list": 2, "tpu-vm list": 1}
    cloud.plan(lives=[["ACTIVE"]], runs=[[0]], fail=fail)
    assert cloud.launch().returncode == 0
    assert cloud.summary() == (1, 1, 1)

  def test_of_gcloud_that_does_not_pass_ends(self, cloud):
    fail = {"queued-resources list": 99, "queued-resources delete": 99}
    cloud.plan(fail=fail)
    done = cloud.launch(MAX_GCLOUD_ERRORS="3")
    assert done.returncode == 1
    assert "gcloud failed 3 times in a row" in done.stderr
    assert cloud.count("queued-resources", "list") == 3
    assert "may still exist and cost money" in done.stderr
