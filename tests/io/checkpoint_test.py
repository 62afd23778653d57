"""Tests of decern_jax/io/checkpoint.py."""

import gc
import pathlib
import shutil
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from decern_jax.distributed import processes
from decern_jax.io import checkpoint
from decern_jax.training.rounds import RoundState, make_state
from tests.table import each

POOL = 20_000
PER_ROUND = 2_000
INITIAL = make_state(0, np.where(np.arange(POOL) < PER_ROUND, 0, -1))

# Orbax drops its coroutines when it gives up on an array, and they complain
# when they are collected.
pytestmark = pytest.mark.filterwarnings(
  "ignore::pytest.PytestUnraisableExceptionWarning"
)


@pytest.fixture(autouse=True, scope="module")
def collect_before_the_next_module():
  yield
  gc.collect()


def states(num_rounds: int) -> list[RoundState]:
  """Returns the states before the rounds 0 ... num_rounds of some run."""
  rng = np.random.default_rng(0)
  found = [INITIAL]
  for _ in range(num_rounds):
    free = np.flatnonzero(np.asarray(found[-1].labeled_at) < 0)
    found.append(found[-1].label(rng.choice(free, PER_ROUND, replace=False)))
  return found


STATES = states(5)


def save(manager, state: RoundState) -> None:
  checkpoint.save(manager, int(state.round), state)


@pytest.fixture(scope="module")
def saved_once(tmp_path_factory) -> pathlib.Path:
  directory = tmp_path_factory.mktemp("saved") / "checkpoints"
  with checkpoint.open_manager(directory) as manager:
    for state in STATES[1:4]:
      save(manager, state)
  return directory


def copy(saved_once, folder) -> pathlib.Path:
  return pathlib.Path(shutil.copytree(saved_once, folder / "checkpoints"))


@pytest.fixture
def saved(saved_once, tmp_path) -> pathlib.Path:
  """A directory with the states before the rounds 1, 2 and 3."""
  return copy(saved_once, tmp_path)


def restore(directory, max_step=99) -> RoundState:
  with checkpoint.open_manager(directory) as manager:
    return checkpoint.restore_latest(manager, INITIAL, max_step=max_step)


def steps(directory: pathlib.Path) -> list[str]:
  return sorted(path.name for path in directory.iterdir())


def assert_same(actual: RoundState, expected: RoundState) -> None:
  assert int(actual.round) == int(expected.round)
  for ours, theirs in zip(
    jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True
  ):
    assert isinstance(ours, jax.Array)
    assert ours.dtype == theirs.dtype
    np.testing.assert_array_equal(ours, theirs)


def files(directory: pathlib.Path) -> list[pathlib.Path]:
  return sorted(path for path in directory.rglob("*") if path.is_file())


def array_file(step: pathlib.Path) -> pathlib.Path:
  """Returns the file of a step that the arrays are in: the largest."""
  return max(files(step), key=lambda path: path.stat().st_size)


def flip(path: pathlib.Path, position: int) -> None:
  data = bytearray(path.read_bytes())
  data[position] ^= 0x10
  path.write_bytes(data)


class TestOpenManager:
  def test_makes_the_directory(self, tmp_path):
    with checkpoint.open_manager(tmp_path / "a" / "b") as manager:
      assert manager.all_steps() == []
    assert (tmp_path / "a" / "b").is_dir()

  def test_takes_a_relative_path(self, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with checkpoint.open_manager("here") as manager:
      save(manager, STATES[1])
    assert_same(restore(tmp_path / "here"), STATES[1])

  def test_waits_for_saves_on_leaving(self, tmp_path):
    with checkpoint.open_manager(tmp_path / "c") as manager:
      save(manager, STATES[1])
    assert steps(tmp_path / "c") == ["1"]

  def test_waits_for_saves_when_a_round_fails(self, tmp_path):
    def fail_after_saving():
      with checkpoint.open_manager(tmp_path / "c") as manager:
        save(manager, STATES[1])
        raise RuntimeError("round failed")

    with pytest.raises(RuntimeError, match="round failed"):
      fail_after_saving()
    assert_same(restore(tmp_path / "c"), STATES[1])

  def test_removes_what_a_kill_left(self, saved):
    leftover = saved / "4.orbax-checkpoint-tmp"
    (leftover / "state").mkdir(parents=True)
    assert_same(restore(saved), STATES[3])
    assert steps(saved) == ["1", "2", "3"]


class TestDigest:
  def test_is_the_same_for_equal_states(self):
    again = make_state(2, np.array(STATES[2].labeled_at))
    assert checkpoint.digest(again) == checkpoint.digest(STATES[2])

  @each(
    "round_num, labeled_at",
    [(1, [0, -1]), (0, [0, 1]), (0, [-1, 0]), (0, [0, -1, -1]), (0, [[0, -1]])],
  )
  def test_differs_when_an_array_does(self, round_num, labeled_at):
    state = make_state(0, np.array([0, -1]))
    other = make_state(round_num, np.array(labeled_at))
    assert checkpoint.digest(other) != checkpoint.digest(state)

  def test_differs_when_a_type_does(self):
    array = np.array([0, 1], np.int32)
    other = checkpoint.digest([array.view(np.float32)])
    assert other != checkpoint.digest([array])


class TestSave:
  def test_restores_bit_equal(self, tmp_path):
    with checkpoint.open_manager(tmp_path) as manager:
      save(manager, STATES[1])
    assert_same(restore(tmp_path), STATES[1])

  def test_keeps_the_newest(self, tmp_path):
    with checkpoint.open_manager(tmp_path) as manager:
      for state in STATES[1:]:
        save(manager, state)
    assert steps(tmp_path) == ["3", "4", "5"]
    assert checkpoint.NUM_KEPT == 3

  @each("round_num", [2, 3])
  def test_refuses_a_round_that_is_not_later(self, saved, round_num):
    with (
      checkpoint.open_manager(saved) as manager,
      pytest.raises(RuntimeError, match=rf"to save step {round_num}, .*3\]"),
    ):
      save(manager, STATES[round_num])


class TestSavable:
  """The state of one of several processes."""

  @pytest.fixture(autouse=True)
  def several(self, monkeypatch):
    monkeypatch.setattr(processes, "are_several", lambda: True)

  def test_arrays_of_one_process_are_numpys(self):
    found = checkpoint._savable({"a": STATES[1].labeled_at, "b": 3})
    assert isinstance(found["a"], np.ndarray)
    np.testing.assert_array_equal(found["a"], STATES[1].labeled_at)
    assert found["b"] == 3

  def test_arrays_that_all_share_stay(self, monkeypatch):
    array = STATES[1].labeled_at
    shared = property(lambda self: False)
    monkeypatch.setattr(type(array), "is_fully_addressable", shared)
    assert checkpoint._savable({"a": array})["a"] is array


class TestRestoreLatest:
  def test_returns_initial_where_nothing_is_saved(self, tmp_path):
    assert restore(tmp_path / "none") is INITIAL

  def test_returns_the_newest(self, saved):
    assert_same(restore(saved), STATES[3])
    assert steps(saved) == ["1", "2", "3"]

  def test_says_nothing_when_all_is_well(self, saved, caplog):
    restore(saved)
    assert not caplog.records

  def test_deletes_later_rounds_than_asked_for(self, saved, caplog):
    assert_same(restore(saved, max_step=1), STATES[1])
    assert steps(saved) == ["1"]
    assert "Dropped step 3: its records are missing" in caplog.text
    assert "Dropped step 2: its records are missing" in caplog.text

  def test_returns_initial_when_all_are_later(self, saved):
    assert restore(saved, max_step=0) is INITIAL
    assert steps(saved) == []

  def test_skips_and_deletes_an_empty_directory(self, saved, caplog):
    (saved / "7").mkdir()
    assert_same(restore(saved), STATES[3])
    assert steps(saved) == ["1", "2", "3"]
    assert "Step 7 cannot be restored" in caplog.text

  def test_skips_arrays_that_differ_from_their_digest(self, tmp_path, caplog):
    with checkpoint.open_manager(tmp_path) as manager:
      save(manager, STATES[1])
      changed = np.array(STATES[2].labeled_at)
      changed[7] = 2
      manager.save(
        2,
        args=ocp.args.Composite(
          state=ocp.args.StandardSave(make_state(2, changed)),
          meta=ocp.args.JsonSave({"digest": checkpoint.digest(STATES[2])}),
        ),
      )
    assert_same(restore(tmp_path), STATES[1])
    assert "Step 2 cannot be restored: its digest differs" in caplog.text

  def test_skips_a_checkpoint_without_digest(self, tmp_path, caplog):
    with checkpoint.open_manager(tmp_path) as manager:
      manager.save(
        1,
        args=ocp.args.Composite(
          state=ocp.args.StandardSave(STATES[1]), meta=ocp.args.JsonSave({})
        ),
      )
    assert restore(tmp_path) is INITIAL
    assert "its digest differs" in caplog.text

  @each("seed", range(4))
  def test_skips_a_flipped_byte_in_the_arrays(self, saved_once, tmp_path, seed):
    saved = copy(saved_once, tmp_path)
    path = array_file(saved / "3")
    rng = np.random.default_rng(seed)
    flip(path, int(rng.integers(path.stat().st_size)))
    state = restore(saved)
    # A few bytes of the file are padding, which says nothing.
    if int(state.round) == 3:
      assert_same(state, STATES[3])
    else:
      assert_same(state, STATES[2])
      assert steps(saved) == ["1", "2"]

  def test_notices_a_flipped_byte_that_orbax_restores(self, saved):
    """Without the digest, the run would go on from other labels."""
    path = array_file(saved / "3")
    original = path.read_bytes()
    template = jax.tree.map(ocp.utils.to_shape_dtype_struct, INITIAL)
    for position in range(0, len(original), 97):
      path.write_bytes(original)
      flip(path, position)
      with checkpoint.open_manager(saved) as manager:
        try:
          found: Any = manager.restore(
            3, args=ocp.args.Composite(state=ocp.args.StandardRestore(template))
          )
        except Exception:  # noqa: BLE001 (this byte is one that Orbax minds)
          continue
      if not np.array_equal(found.state.labeled_at, STATES[3].labeled_at):
        break
    else:
      pytest.fail("Orbax noticed every flipped byte: the digest can go.")
    assert_same(restore(saved), STATES[2])

  @each("damage", ["flip", "truncate", "delete"])
  def test_survives_damage_to_any_file(self, saved_once, damage, tmp_path):
    for path in files(saved_once / "3"):
      saved = copy(saved_once, tmp_path)
      victim = saved / path.relative_to(saved_once)
      if damage == "flip":
        flip(victim, victim.stat().st_size // 2)
      elif damage == "truncate":
        victim.write_bytes(victim.read_bytes()[: victim.stat().st_size // 2])
      else:
        victim.unlink()
      state = restore(saved)
      assert_same(state, STATES[int(state.round)])
      assert int(state.round) in (2, 3), path
      shutil.rmtree(saved)

  @each("item", ["meta", "state"])
  def test_skips_a_step_with_an_item_missing(self, saved_once, tmp_path, item):
    saved = copy(saved_once, tmp_path)
    shutil.rmtree(saved / "3" / item)
    assert_same(restore(saved), STATES[2])

  def test_falls_back_as_far_as_it_must(self, saved, caplog):
    for step in ("2", "3"):
      array_file(saved / step).write_bytes(b"")
    assert_same(restore(saved), STATES[1])
    assert steps(saved) == ["1"]
    assert caplog.text.count("cannot be restored") == 2

  def test_warns_in_one_line(self, saved, caplog):
    array_file(saved / "3").write_bytes(b"")
    restore(saved)
    (message,) = (record.getMessage() for record in caplog.records)
    assert "\n" not in message
    assert len(message) < 300

  def test_returns_initial_when_none_verifies(self, saved):
    for step in steps(saved):
      array_file(saved / step).write_bytes(b"")
    assert restore(saved) is INITIAL

  def test_skips_a_state_of_another_pool(self, saved):
    other = make_state(0, np.zeros(POOL + 1, int))
    with checkpoint.open_manager(saved) as manager:
      state = checkpoint.restore_latest(manager, other, max_step=99)
    assert state is other

  def test_a_deleted_round_is_saved_again(self, saved):
    path = array_file(saved / "3")
    path.write_bytes(b"")
    with checkpoint.open_manager(saved) as manager:
      state = checkpoint.restore_latest(manager, INITIAL, max_step=99)
      assert int(state.round) == 2
      for later in STATES[3:]:
        save(manager, later)
    assert_same(restore(saved), STATES[5])
