"""Tests of decern_jax/distributed/processes.py."""

import functools
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import pytest

from decern_jax.distributed import processes
from decern_jax.runs import records
from tests import tiny
from tests.table import each

NUM_ROUNDS = 3
TIMEOUT = 480


class TestCheck:
  @each("coordinator", [None, "", "host", ":1", "host:", "h:x"])
  def test_refuses_what_is_no_address(self, coordinator):
    with pytest.raises(ValueError, match="`--coordinator` as HOST:PORT, got"):
      processes.check(processes.Address(coordinator, 2, 0))

  @each("count, number", [(2, 2), (2, -1), (None, 0), (2, None)])
  def test_refuses_a_number_that_is_not_of_a_process(self, count, number):
    with pytest.raises(ValueError, match=f"got {number} and {count}"):
      processes.check(processes.Address("localhost:1", count, number))


class TestAlone:
  """What every function does where there is one process."""

  def test_leads_and_agrees_with_itself(self):
    assert processes.is_process_zero()
    assert not processes.are_several()
    assert (processes.index(), processes.count()) == (0, 1)
    assert processes.all_agree(True)
    assert not processes.all_agree(False)
    assert processes.from_process_zero(7) == 7
    processes.check_same("settings", b"x" * 32)
    processes.wait_for_all("here")

  def test_lead_works_and_its_errors_are_raised(self):
    done = []
    processes.on_process_zero(lambda: done.append(1))
    assert processes.process_zero_first(lambda: len(done)) == 1
    with pytest.raises(ZeroDivisionError):
      processes.on_process_zero(lambda: 1 / 0)

  def test_sigterm_is_a_request(self, monkeypatch):
    monkeypatch.setattr(processes, "_stop", processes._Stop())
    before = signal.getsignal(signal.SIGTERM)
    try:
      processes.stop_on_sigterm()
      assert not processes.is_stopping()
      processes.end_if_stopping()
      os.kill(os.getpid(), signal.SIGTERM)
      assert processes.is_stopping()
      with pytest.raises(processes.PreemptedError):
        processes.end_if_stopping()
    finally:
      signal.signal(signal.SIGTERM, before)


def free_port() -> int:
  with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    return probe.getsockname()[1]


class Runs:
  """Starts `decern_jax.main` on tiny data, as one process or several."""

  def __init__(self, folder: pathlib.Path):
    self.folder = folder
    tiny.write_image_folder(folder / "data")
    tiny.write_weights(folder / "weights.safetensors")

  def start(self, name, *options, num_processes=1) -> list[subprocess.Popen]:
    """Starts the processes of a run; 8 devices in all."""
    config = {
      "dataset.path": self.folder / "data",
      "dataset.image_size": tiny.SIZE,
      "dataset.resize_size": tiny.SIZE,
      "model.name": "small_cnn",
      "model.weights": self.folder / "weights.safetensors",
      "num_rounds": NUM_ROUNDS,
      "train.num_epochs": 10,
      "train.batch_size": 8,
      "system.cache_dir": self.folder / f"cache{num_processes}",
    }
    command = [
      *(sys.executable, "-m", "decern_jax.main"),
      "--config=configs/image_folder.py",
      f"--workdir={self.folder / name}",
      *(f"--config.{name}={value}" for name, value in config.items()),
      *options,
    ]
    if num_processes == 1:
      return [self._start(name, command, 8, 0)]
    command += [
      f"--coordinator=127.0.0.1:{free_port()}",
      f"--num_processes={num_processes}",
    ]
    return [
      self._start(name, [*command, f"--process_id={i}"], 8 // num_processes, i)
      for i in range(num_processes)
    ]

  def _start(self, name, command, num_devices, number) -> subprocess.Popen:
    flag = f"--xla_force_host_platform_device_count={num_devices}"
    environment = {**os.environ, "XLA_FLAGS": flag, "JAX_PLATFORMS": "cpu"}
    # Into a file: a pipe that nobody reads would stop the process.
    with open(self.folder / f"{name}.{number}.log", "ab") as log:
      return subprocess.Popen(
        command, cwd=tiny.ROOT, env=environment, stdout=log, stderr=log
      )

  def log(self, name: str, number: int = 0) -> str:
    return (self.folder / f"{name}.{number}.log").read_text(errors="replace")

  def finish(self, name, started) -> None:
    statuses = wait(started)
    assert statuses == [0] * len(started), self.log(name)[-3000:]

  def results(self, name) -> list[dict]:
    """What does not depend on the machine, of every round."""
    return [
      {k: v for k, v in record.items() if k not in tiny.COSTS}
      for record in records.read(self.folder / name)
    ]


def wait(started: list[subprocess.Popen]) -> list[int]:
  """Returns the statuses of processes, none of which outlives the test."""
  deadline = time.monotonic() + TIMEOUT
  try:
    return [p.wait(max(1.0, deadline - time.monotonic())) for p in started]
  finally:
    for process in started:
      process.kill()
      process.wait()


def assert_equal(found: list[dict], expected: list[dict]) -> None:
  """The same ids; what is computed may differ by the rounding of sums."""
  assert len(found) == NUM_ROUNDS
  for ours, theirs in zip(found, expected, strict=True):
    assert ours["selected"] == theirs["selected"]
    assert ours["test"]["accuracy"] == theirs["test"]["accuracy"]
    loss = theirs["train"]["loss"]
    assert ours["train"]["loss"] == pytest.approx(loss, rel=1e-3, abs=1e-3)


FINE_TUNING = ("--config.train.scope=all", "--config.train.augment=True")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
  return Runs(tmp_path_factory.mktemp("processes"))


@functools.cache
def _reference(runs: Runs, options: tuple[str, ...]) -> str:
  name = f"one{len(options)}"
  runs.finish(name, runs.start(name, *options))
  return name


@pytest.fixture
def expected(runs):
  """What one process with eight devices finds."""
  return lambda *options: runs.results(_reference(runs, options))


class TestTwoProcesses:
  def test_select_what_one_selects(self, runs, expected):
    runs.finish("two", runs.start("two", num_processes=2))
    assert_equal(runs.results("two"), expected())
    assert "round 0" in runs.log("two", 0)
    assert "round 0" not in runs.log("two", 1)
    assert (runs.folder / "two" / "selected.png").exists()

  @pytest.mark.slow
  def test_refuse_different_settings(self, runs):
    name = "differing"
    first = runs.start(name, num_processes=2)
    second = []
    try:
      command = [*first[1].args, "--config.train.num_epochs=11"]
      first[1].kill()
      second = [runs._start(name, command, 4, 1)]
      statuses = wait([first[0], *second])
    finally:
      wait([*first, *second])
    assert all(statuses)
    assert "the same configuration in all 2 processes" in runs.log(name)

  @pytest.mark.slow
  def test_fine_tune_as_one_does(self, runs, expected):
    runs.finish("tuned", runs.start("tuned", *FINE_TUNING, num_processes=2))
    assert_equal(runs.results("tuned"), expected(*FINE_TUNING))

  @pytest.mark.slow
  @each("number", [0, 1])
  def test_sigterm_to_one_saves_all_and_another_number_goes_on(
    self, runs, expected, number
  ):
    name = f"preempted{number}"
    options = (*FINE_TUNING, "--config.train.num_epochs=120")
    started = runs.start(name, *options, num_processes=2)
    wait_for(lambda: (runs.folder / name / "training" / "0").exists(), started)
    time.sleep(5)
    started[number].send_signal(signal.SIGTERM)
    assert wait(started) == [processes.PREEMPTED] * 2, runs.log(name)[-3000:]
    saved = list((runs.folder / name / "training").glob("*/*"))
    assert saved
    runs.finish(name, runs.start(name, *options))
    assert_equal(runs.results(name), expected(*options))

  @pytest.mark.slow
  @each("number", [0, 1])
  def test_a_kill_of_one_ends_all_within_a_minute_and_two_go_on(
    self, runs, expected, number
  ):
    name = f"killed{number}"
    options = (*FINE_TUNING, "--config.train.num_epochs=60")
    started = runs.start(name, *options, num_processes=2)
    wait_for(lambda: (runs.folder / name / "training" / "0").exists(), started)
    time.sleep(5)
    started[number].kill()
    started[number].wait()
    begin = time.monotonic()
    other = started[1 - number].wait(TIMEOUT)
    assert time.monotonic() - begin < 60
    assert other not in (0, processes.PREEMPTED)
    runs.finish(name, runs.start(name, *options, num_processes=2))
    assert_equal(runs.results(name), expected(*options))


def wait_for(happened, started) -> None:
  deadline = time.monotonic() + TIMEOUT
  while not happened():
    assert all(process.poll() is None for process in started)
    assert time.monotonic() < deadline
    time.sleep(0.2)
