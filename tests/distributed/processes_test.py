"""Tests of decern_jax/distributed/processes.py."""

import concurrent.futures
import contextlib
import functools
import itertools
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time

from hypothesis import given, settings
from hypothesis import strategies as st
import jax
import numpy as np
import pytest

from decern_jax.distributed import processes
from decern_jax.runs import records
from tests import tiny
from tests.table import each

NUM_ROUNDS = 3
TIMEOUT = 480


class TestCheck:
  @each("coordinator", ["host:1", "10.0.0.1:65535", "[::1]:8476"])
  def test_takes_a_host_and_a_port(self, coordinator):
    processes.check(processes.Address(coordinator, 1, 0))
    processes.check(processes.Address(coordinator, 3, 2))

  @each(
    "coordinator",
    [None, "", "host", ":1", "host:", "h:x", "h:0", "h:65536", "h:²", "h:٣"],
  )
  def test_refuses_what_is_no_address(self, coordinator):
    with pytest.raises(ValueError, match="`--coordinator` as HOST:PORT, got"):
      processes.check(processes.Address(coordinator, 2, 0))

  @each("count, number", [(2, 2), (2, -1), (0, 0), (None, 0), (2, None)])
  def test_refuses_a_number_that_is_not_of_a_process(self, count, number):
    with pytest.raises(ValueError, match=f"got {number} and {count}"):
      processes.check(processes.Address("localhost:1", count, number))

  @settings(max_examples=50, deadline=None, derandomize=True)
  @given(st.text("ab:.-[]0193²\n", max_size=12))
  def test_every_port_that_is_taken_is_a_number(self, coordinator):
    with contextlib.suppress(ValueError):
      processes.check(processes.Address(coordinator, 2, 0))
      host, port = coordinator.rsplit(":", 1)
      assert host
      assert 1 <= int(port) <= 65535


class TestInitialize:
  @pytest.fixture
  def options(self, monkeypatch):
    """What JAX is initialized with."""
    options = {}
    monkeypatch.setattr(
      jax.distributed, "initialize", lambda **given: options.update(given)
    )
    return options

  def test_passes_the_address(self, options):
    processes.initialize(processes.Address("host:1", 3, 2))
    assert options == {
      "coordinator_address": "host:1",
      "num_processes": 3,
      "process_id": 2,
      "heartbeat_timeout_seconds": processes.HEARTBEAT_SECONDS,
    }

  def test_leaves_it_to_the_cluster(self, options):
    processes.initialize(None)
    assert [*options] == ["heartbeat_timeout_seconds"]

  def test_refuses_a_wrong_address_before_it_waits(self, options):
    with pytest.raises(ValueError, match="HOST:PORT"):
      processes.initialize(processes.Address("host", 3, 2))
    assert options == {}


class TestOneProcess:
  """What every function does where there is one process."""

  def test_leads_and_agrees_with_itself(self):
    assert processes.is_process_zero()
    assert not processes.are_several()
    assert (processes.index(), processes.count()) == (0, 1)
    assert processes.all_agree(True)
    assert not processes.all_agree(False)
    assert processes.from_process_zero(np.array(7)) == 7
    processes.check_same("settings", b"x" * 32)
    processes.wait_for_all("here")

  def test_process_zero_works_and_its_errors_are_raised(self):
    done = []
    processes.on_process_zero(lambda: done.append(1))
    assert processes.process_zero_first(lambda: len(done)) == 1
    with pytest.raises(ZeroDivisionError):
      processes.on_process_zero(lambda: 1 / 0)

  def test_sigterm_is_a_request(self, monkeypatch):
    monkeypatch.setattr(processes, "_stop_signals", [])
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

  def test_sigterm_is_left_alone_in_a_thread(self):
    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=processes.stop_on_sigterm)
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGTERM) == before


class World:
  """Processes that are threads: what JAX offers several processes.

  Attributes:
    places: What the processes waited at, in order.
  """

  def __init__(self, num_processes: int):
    self._num_processes = num_processes
    self._barrier = threading.Barrier(num_processes, timeout=30)
    self._values: list = [None] * num_processes
    self._self = threading.local()
    self.places: list = []

  def install(self, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(jax.distributed, "is_initialized", lambda: True)
    patch.setattr(jax, "process_count", lambda: self._num_processes)
    patch.setattr(jax, "process_index", lambda: self._self.number)
    utils = processes.multihost_utils
    patch.setattr(utils, "process_allgather", self._gather)
    patch.setattr(utils, "broadcast_one_to_all", lambda x: self._gather(x)[0])
    patch.setattr(utils, "sync_global_devices", self._gather)
    patch.setattr(utils, "reached_preemption_sync_point", self._reach)

  def run(self, work) -> list:
    """Returns what the work returned, or raised, in each process."""

    def start(number):
      self._self.number = number
      try:
        return work(number)
      except Exception as error:  # noqa: BLE001 (compared by the tests)
        return error

    with concurrent.futures.ThreadPoolExecutor(self._num_processes) as pool:
      return [*pool.map(start, range(self._num_processes))]

  def _gather(self, value) -> np.ndarray:
    self._values[self._self.number] = value
    self._barrier.wait()
    values = np.array(self._values)
    if self._self.number == 0:
      self.places.append(value)
    self._barrier.wait()
    return values

  def _reach(self, number) -> bool:
    assert len(set(self._gather(number))) == 1
    return number == 2


class TestSeveralProcesses:
  """What every function does where there are three, here as threads."""

  @pytest.fixture
  def world(self, monkeypatch):
    world = World(3)
    world.install(monkeypatch)
    return world

  def test_each_knows_its_number(self, world):
    numbers = world.run(lambda _: (processes.index(), processes.count()))
    assert numbers == [(0, 3), (1, 3), (2, 3)]
    assert world.run(lambda _: processes.is_process_zero()) == [
      True,
      False,
      False,
    ]

  def test_all_agree_if_none_differs(self, world):
    assert world.run(lambda _: processes.all_agree(True)) == [True] * 3
    for other in range(3):
      found = world.run(lambda i, other=other: processes.all_agree(i != other))
      assert found == [False] * 3

  def test_all_get_the_value_of_process_zero(self, world):
    found = world.run(lambda i: processes.from_process_zero(np.array([i, 5])))
    np.testing.assert_array_equal(found, [[0, 5]] * 3)

  def test_what_differs_is_an_error_in_all(self, world):
    digest = bytes(range(224, 256))
    same = world.run(lambda _: processes.check_same("settings", digest))
    assert same == [None] * 3
    other = bytes([*digest[:-1], 0])
    errors = world.run(
      lambda i: processes.check_same("settings", other if i == 2 else digest)
    )
    for error in errors:
      assert isinstance(error, ValueError)
      assert "the same settings in all 3 processes" in str(error)

  def test_waits_at_a_place(self, world):
    world.run(lambda _: processes.wait_for_all("features"))
    assert world.places == ["features"]

  def test_process_zero_works_before_the_others_go_on(self, world):
    done = []

    def work(number):
      processes.on_process_zero(lambda: done.append(number))
      return [*done]

    assert world.run(work) == [[0]] * 3

  def test_failure_on_process_zero_is_known_to_all(self, world):
    first, *others = world.run(
      lambda _: processes.on_process_zero(lambda: 1 / 0)
    )
    assert isinstance(first, ZeroDivisionError)
    for error in others:
      assert isinstance(error, RuntimeError)
      assert "Process 0 has failed" in str(error)

  def test_others_find_what_process_zero_has_made(self, world):
    made = []

    def work(number):
      def make():
        made.append(number)
        return made[0], number

      return processes.process_zero_first(make)

    assert world.run(work) == [(0, 0), (0, 1), (0, 2)]
    assert made[0] == 0
    assert sorted(made) == [0, 1, 2]

  def test_sigterm_is_left_to_jax(self, world):
    before = signal.getsignal(signal.SIGTERM)
    world.run(lambda _: processes.stop_on_sigterm())
    assert signal.getsignal(signal.SIGTERM) == before

  def test_only_process_zero_speaks(self, world, capsys):
    world.run(lambda i: processes.say(f"process {i}"))
    assert capsys.readouterr().out == "process 0\n"


class TestStoppingOfSeveral:
  def test_every_check_has_a_number_of_its_own(self, monkeypatch):
    world = World(1)
    world.install(monkeypatch)
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(processes, "_num_checks", itertools.count(1))
    (found,) = world.run(lambda _: [processes.is_stopping() for _ in range(3)])
    assert found == [False, True, False]
    assert world.places == [1, 2, 3]


class TestLeave:
  def test_flushes_and_ends_at_once(self, monkeypatch, capsys):
    statuses = []
    monkeypatch.setattr(os, "_exit", statuses.append)
    processes.leave(75)
    assert statuses == [75]


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
    return tiny.without_costs(records.read(self.folder / name))


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


@pytest.mark.slow
class TestTwoProcesses:
  def test_select_what_one_selects(self, runs, expected):
    runs.finish("two", runs.start("two", num_processes=2))
    assert_equal(runs.results("two"), expected())
    assert "round 0" in runs.log("two", 0)
    assert "round 0" not in runs.log("two", 1)
    assert (runs.folder / "two" / "selected.png").exists()

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

  def test_fine_tune_as_one_does(self, runs, expected):
    runs.finish("tuned", runs.start("tuned", *FINE_TUNING, num_processes=2))
    assert_equal(runs.results("tuned"), expected(*FINE_TUNING))

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
