"""Tests of decern_jax/runs/driver.py, with an experiment that only counts."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from decern_jax.io import checkpoint
from decern_jax.runs import driver, records
from decern_jax.runs.driver import Experiment
from decern_jax.training.rounds import RoundState, make_state
from tests.table import each

NUM_ROUNDS = 6
POOL = 40
BUDGET = 5


class Stop(Exception):
  """Stands in for a kill."""


class Counter:
  """An experiment without model and data, that notes what is asked of it.

  Attributes:
    experiment: The experiment.
    asked: The rounds that were run.
    shown: The records that were told of.
  """

  def __init__(self, workdir, *, fail_in: int | None = None):
    self.experiment = Experiment(self._init, self._advance)
    self.asked: list[int] = []
    self.shown: list[records.Record] = []
    self.lines_before: list[int] = []
    self._workdir = workdir
    self._fail_in = fail_in

  def run(self, num_rounds: int = NUM_ROUNDS) -> RoundState:
    return driver.run(
      self.experiment,
      num_rounds=num_rounds,
      workdir=self._workdir,
      on_round=self.shown.append,
    )

  def _init(self) -> RoundState:
    return make_state(0, np.where(np.arange(POOL) < BUDGET, 0, -1))

  def _advance(self, state: RoundState) -> tuple[RoundState, records.Record]:
    round_num = int(state.round)
    self.asked.append(round_num)
    self.lines_before.append(len(records.read(self._workdir)))
    if round_num == self._fail_in:
      raise Stop
    free = np.flatnonzero(np.asarray(state.labeled_at) < 0)
    rng = np.random.default_rng(round_num)
    selected = rng.choice(free, BUDGET, replace=False)
    record = {
      "round": round_num,
      "num_labeled": int(state.labeled.sum()),
      "selected": [f"ü/{position}" for position in selected],
    }
    return state.label(selected), record


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
  """The workdir and the last state of a run that nobody stopped."""
  workdir = tmp_path_factory.mktemp("uninterrupted")
  return workdir, Counter(workdir).run()


@pytest.fixture
def finished(uninterrupted, tmp_path):
  """A copy of that workdir."""
  return shutil.copytree(uninterrupted[0], tmp_path / "finished")


def lines(workdir) -> bytes:
  return (workdir / records.FILE_NAME).read_bytes()


def assert_same_end(workdir, state: RoundState, uninterrupted) -> None:
  assert checkpoint.digest(state) == checkpoint.digest(uninterrupted[1])
  assert lines(workdir) == lines(uninterrupted[0])
  with checkpoint.open_manager(workdir / "checkpoints") as manager:
    assert manager.latest_step() == NUM_ROUNDS


class TestRun:
  def test_runs_and_shows_every_round_once_and_labels_in_it(self, tmp_path):
    counter = Counter(tmp_path)
    state = counter.run()
    assert counter.asked == list(range(NUM_ROUNDS))
    assert int(state.round) == NUM_ROUNDS
    rounds, counts = np.unique(state.labeled_at, return_counts=True)
    assert rounds.tolist() == [-1, *range(NUM_ROUNDS + 1)]
    assert (counts[1:] == BUDGET).all()

    assert counter.lines_before == list(range(NUM_ROUNDS))
    assert records.read(tmp_path) == counter.shown
    assert [record["round"] for record in counter.shown] == counter.asked

  def test_makes_the_workdir_and_works_without_a_listener(self, tmp_path):
    workdir = tmp_path / "a" / "b"
    driver.run(Counter(workdir).experiment, num_rounds=1, workdir=workdir)
    assert len(records.read(workdir)) == 1

  def test_finished_run_does_nothing(self, finished, uninterrupted):
    counter = Counter(finished)
    state = counter.run()
    assert counter.asked == []
    assert [record["round"] for record in counter.shown] == [*range(NUM_ROUNDS)]
    assert_same_end(finished, state, uninterrupted)

  def test_goes_on_when_there_are_more_rounds(self, tmp_path, uninterrupted):
    Counter(tmp_path).run(2)
    counter = Counter(tmp_path)
    assert_same_end(tmp_path, counter.run(), uninterrupted)
    assert counter.asked == [2, 3, 4, 5]


class TestFinish:
  """When a run tells its experiment that all rounds are saved."""

  def run(self, workdir, **options) -> list[list[int]]:
    """Returns the steps on the disk at each call."""
    told = []

    def finish():
      with checkpoint.open_manager(workdir / "checkpoints") as manager:
        told.append(list(manager.all_steps()))

    experiment = dataclasses.replace(
      Counter(workdir, **options).experiment, finish=finish
    )
    try:
      driver.run(experiment, num_rounds=4, workdir=workdir)
    except Stop:
      told.append([])
    return told

  def test_is_once_after_the_last_save(self, tmp_path):
    assert self.run(tmp_path) == [[2, 3, 4]]

  def test_is_not_while_rounds_are_left(self, tmp_path):
    assert self.run(tmp_path, fail_in=3) == [[]]

  def test_is_again_for_a_finished_run(self, tmp_path):
    """The run before may have been killed just then."""
    for _ in range(2):
      assert self.run(tmp_path) == [[2, 3, 4]]


class TestResume:
  def resume(self, workdir, uninterrupted) -> Counter:
    """Runs to the end, checks that it is the right one."""
    counter = Counter(workdir)
    state = counter.run()
    assert_same_end(workdir, state, uninterrupted)
    assert [record["round"] for record in counter.shown] == [*range(NUM_ROUNDS)]
    assert counter.lines_before == counter.asked
    return counter

  @each("round_num", [0, 3, NUM_ROUNDS - 1])
  def test_after_a_stop_before_the_record(
    self, tmp_path, uninterrupted, round_num
  ):
    with pytest.raises(Stop):
      Counter(tmp_path, fail_in=round_num).run()
    counter = self.resume(tmp_path, uninterrupted)
    assert counter.asked == list(range(round_num, NUM_ROUNDS))

  @each("round_num", [0, 3, NUM_ROUNDS - 1])
  def test_after_a_stop_within_the_record(
    self, tmp_path, uninterrupted, round_num, monkeypatch
  ):
    append = records.append

    def append_half(workdir, record):
      append(workdir, record)
      if record["round"] == round_num:
        path = records.path_in(workdir)
        # Within the last line, and within the escaped letter of an id.
        path.write_bytes(path.read_bytes()[:-20])
        raise Stop

    with monkeypatch.context() as patch:
      patch.setattr(records, "append", append_half)
      with pytest.raises(Stop):
        Counter(tmp_path).run()
    counter = self.resume(tmp_path, uninterrupted)
    assert counter.asked == list(range(round_num, NUM_ROUNDS))

  @each("round_num", [0, 3, NUM_ROUNDS - 1])
  def test_after_a_stop_between_record_and_save(
    self, tmp_path, uninterrupted, round_num, monkeypatch
  ):
    save = checkpoint.save

    def save_until(manager, step, state):
      if step == round_num + 1:
        raise Stop
      save(manager, step, state)

    with monkeypatch.context() as patch:
      patch.setattr(checkpoint, "save", save_until)
      with pytest.raises(Stop):
        Counter(tmp_path).run()
    assert len(records.read(tmp_path)) == round_num + 1
    counter = self.resume(tmp_path, uninterrupted)
    assert counter.asked == list(range(round_num, NUM_ROUNDS))

  @each("round_num", [0, 3, NUM_ROUNDS - 1])
  def test_after_a_stop_of_the_listener(
    self, tmp_path, uninterrupted, round_num
  ):
    def show(record):
      if record["round"] == round_num:
        raise Stop

    with pytest.raises(Stop):
      driver.run(
        Counter(tmp_path).experiment,
        num_rounds=NUM_ROUNDS,
        workdir=tmp_path,
        on_round=show,
      )
    counter = self.resume(tmp_path, uninterrupted)
    assert counter.asked == list(range(round_num + 1, NUM_ROUNDS))

  def test_after_a_stop_in_every_round(self, tmp_path, uninterrupted):
    for round_num in range(NUM_ROUNDS):
      counter = Counter(tmp_path, fail_in=round_num)
      with pytest.raises(Stop):
        counter.run()
      assert counter.asked[-1] == round_num
    self.resume(tmp_path, uninterrupted)


class TestFallback:
  resume = TestResume.resume

  def test_to_an_older_step_drops_the_later_lines(
    self, finished, uninterrupted, caplog
  ):
    shutil.rmtree(finished / "checkpoints" / "6")
    meta = finished / "checkpoints" / "5" / "meta" / "metadata"
    meta.write_text(json.dumps({"digest": "of something else"}))
    counter = self.resume(finished, uninterrupted)
    assert counter.asked == [4, 5]
    assert counter.lines_before == [4, 5]
    assert "Step 5 cannot be restored" in caplog.text

  def test_to_the_beginning_drops_all_lines(self, finished, uninterrupted):
    shutil.rmtree(finished / "checkpoints")
    counter = self.resume(finished, uninterrupted)
    assert counter.asked == list(range(NUM_ROUNDS))

  @each("num_lines, first", [(5, 5), (4, 4), (3, 0), (0, 0)])
  def test_to_the_last_step_that_has_its_records(
    self, finished, uninterrupted, num_lines, first
  ):
    """Steps 4, 5 and 6 are kept, so that fewer lines mean a fresh start."""
    kept = lines(finished).splitlines(keepends=True)[:num_lines]
    (finished / records.FILE_NAME).write_bytes(b"".join(kept))
    counter = self.resume(finished, uninterrupted)
    assert counter.asked == list(range(first, NUM_ROUNDS))

  def test_without_records_starts_again(self, finished, uninterrupted):
    (finished / records.FILE_NAME).unlink()
    counter = self.resume(finished, uninterrupted)
    assert counter.asked == list(range(NUM_ROUNDS))

  def test_past_a_damaged_line(self, finished, uninterrupted):
    found = lines(finished).splitlines(keepends=True)
    found[4] = b"\0" * len(found[4])
    (finished / records.FILE_NAME).write_bytes(b"".join(found))
    counter = self.resume(finished, uninterrupted)
    assert counter.asked == [4, 5]

  def test_past_what_a_kill_leaves(self, tmp_path, uninterrupted):
    with pytest.raises(Stop):
      Counter(tmp_path, fail_in=3).run()
    (tmp_path / "checkpoints" / "4.orbax-checkpoint-tmp").mkdir()
    (tmp_path / "checkpoints" / "9").mkdir()
    (tmp_path / "records.tmp").write_text("{")
    counter = self.resume(tmp_path, uninterrupted)
    assert counter.asked == [3, 4, 5]
