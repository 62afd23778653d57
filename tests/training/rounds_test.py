"""Tests of decern_jax/training/rounds.py."""

import dataclasses
import itertools

import jax
import numpy as np
import pytest

from decern_jax.ops.keys import host_seed, round_key, seed_key
from decern_jax.runs import driver
from decern_jax.training import rounds
from decern_jax.training.rounds import make_state
from tests.table import each

# What `jax.random.permutation(seed_key(1, "initial"), 8)` gave at first.
GOLDEN_PERMUTATION = [1, 0, 4, 6, 7, 3, 5, 2]
# And `permutation(8)` of a generator on `(*host_seed(1, "epochs", 0), 3)`.
GOLDEN_HOST_PERMUTATION = [2, 6, 7, 4, 5, 3, 1, 0]


def bits(key: jax.Array) -> tuple[int, ...]:
  return tuple(np.asarray(jax.random.key_data(key)).tolist())


class TestLabeled:
  def test_holds_initial_set_in_round_0(self):
    state = make_state(0, np.array([-1, 0, -1, 0]))
    assert state.labeled.tolist() == [False, True, False, True]

  def test_holds_what_was_labeled_up_to_this_round(self):
    state = make_state(2, np.array([-1, 0, 1, 2, 3]))
    assert state.labeled.tolist() == [False, True, True, True, False]

  def test_is_one_bool_per_example(self):
    labeled = make_state(0, np.full(5, rounds.NOT_LABELED)).labeled
    assert labeled.dtype == bool
    assert labeled.shape == (5,)


class TestLabel:
  @pytest.fixture
  def state(self):
    return make_state(1, np.array([0, -1, 1, -1, -1]))

  def test_marks_selected_with_the_next_round(self, state):
    after = state.label(np.array([4, 1]))
    assert int(after.round) == 2
    assert after.labeled_at.tolist() == [0, 2, 1, -1, 2]

  def test_next_round_trains_on_selected(self, state):
    after = state.label(np.array([3]))
    assert after.labeled.tolist() == [True, False, True, True, False]

  def test_nothing_selected_advances_the_round_alone(self, state):
    after = state.label(np.zeros(0, int))
    assert int(after.round) == 2
    assert after.labeled_at.tolist() == state.labeled_at.tolist()

  def test_takes_positions_from_a_device(self, state):
    after = state.label(jax.numpy.array([1, 3], jax.numpy.int32))
    assert after.labeled_at.tolist() == [0, 2, 1, 2, -1]

  def test_leaves_its_state_alone(self, state):
    state.label(np.array([1, 3, 4]))
    assert int(state.round) == 1
    assert state.labeled_at.tolist() == [0, -1, 1, -1, -1]

  def test_state_cannot_be_assigned(self, state):
    with pytest.raises(dataclasses.FrozenInstanceError):
      state.round = 3

  def test_keeps_types_for_the_checkpoint(self, state):
    after = state.label(np.array([1], np.int64))
    for leaf in jax.tree.leaves(after):
      assert isinstance(leaf, jax.Array)
      assert leaf.dtype == np.int32

  def test_rejects_repeated_position(self, state):
    with pytest.raises(ValueError, match=r"distinct `selected`, got \[3 1 3\]"):
      state.label(np.array([3, 1, 3]))

  @each("outside", [-1, 5])
  def test_rejects_position_outside(self, state, outside):
    with pytest.raises(ValueError, match=rf"`selected` < 5, got \[{outside}\]"):
      state.label(np.array([1, outside]))

  @each(
    "selected, shown",
    [
      (np.array([1.0, 3.0]), r"float64 \[1\. 3\.\]"),
      (np.array([False, True, False]), "bool"),
      (np.array(["img/1"]), "<U5"),
    ],
  )
  def test_rejects_what_is_no_position(self, state, selected, shown):
    """A mask in place of positions would label the examples 0 and 1."""
    with pytest.raises(ValueError, match=f"integer `selected`, got {shown}"):
      state.label(selected)

  def test_rejects_labeled_positions(self, state):
    with pytest.raises(ValueError, match=r"without labels, got \[2, 0\]"):
      state.label(np.array([2, 1, 0]))


class TestWithAnswers:
  def test_what_has_no_label_goes_back_and_what_is_late_is_of_this_round(self):
    state = make_state(2, np.array([0, 2, 2, -1, 1]))
    after = state.with_answers(np.array([True, True, False, True, True]))
    assert int(after.round) == 2
    assert after.labeled_at.tolist() == [0, 2, -1, 2, 1]

  def test_changes_nothing_where_all_was_answered(self):
    state = make_state(1, np.array([0, 1, -1]))
    after = state.with_answers(state.labeled)
    np.testing.assert_array_equal(after.labeled_at, state.labeled_at)
    assert after.labeled_at.dtype == np.int32


class TestMakeState:
  def test_makes_int32_arrays_on_the_device(self):
    state = make_state(3, np.array([0, -1], np.int64))
    assert state.round.shape == ()
    assert state.labeled_at.shape == (2,)
    for leaf in jax.tree.leaves(state):
      assert isinstance(leaf, jax.Array)
      assert leaf.dtype == np.int32


class TestExperiment:
  def test_has_nothing_to_finish_by_default(self):
    state = make_state(0, np.array([0]))
    experiment = driver.Experiment(lambda: state, lambda state: (state, {}))
    assert experiment.finish() is None


class TestSeedKey:
  def test_is_the_same_every_time(self):
    assert bits(seed_key(11, "initial")) == bits(seed_key(11, "initial"))

  def test_differs_by_seed_and_purpose(self):
    cases = itertools.product((0, 1, 11, 2**32 - 1), ("initial", "params", ""))
    keys = [bits(seed_key(seed, purpose)) for seed, purpose in cases]
    assert len(set(keys)) == len(keys)

  def test_draws_are_those_of_earlier_releases(self):
    """A run resumes with the same draws after an update of this package."""
    drawn = jax.random.permutation(seed_key(1, "initial"), 8)
    assert drawn.tolist() == GOLDEN_PERMUTATION


class TestRoundKey:
  def test_is_the_same_every_time(self):
    assert bits(round_key(1, "query", 2)) == bits(round_key(1, "query", 2))

  def test_differs_by_seed_purpose_and_round(self):
    cases = list(itertools.product((1, 11), ("query", "order"), range(5)))
    keys = [bits(round_key(*case)) for case in cases]
    keys += [bits(seed_key(1, "query")), bits(seed_key(1, "order"))]
    assert len(set(keys)) == len(keys)

  def test_draws_of_two_purposes_are_uncorrelated(self):
    first, second = (
      np.asarray(jax.random.normal(round_key(1, purpose, 0), (4096,)))
      for purpose in ("query", "order")
    )
    correlation = np.corrcoef(first, second)[0, 1]
    # Five standard errors of the correlation of independent draws.
    assert abs(correlation) < 5 / np.sqrt(4096)


class TestHostSeed:
  def test_is_the_same_every_time(self):
    assert host_seed(1, "epochs", 2) == host_seed(1, "epochs", 2)

  def test_differs_by_seed_purpose_and_round(self):
    cases = itertools.product((0, 1, 2**32 - 1), ("epochs", "other"), range(5))
    draws = [np.random.default_rng(host_seed(*case)).random() for case in cases]
    assert len(set(draws)) == len(draws) == 30

  def test_takes_further_numbers(self):
    seed = host_seed(2**32 - 1, "epochs", 7)
    draws = [np.random.default_rng((*seed, i)).random() for i in range(100)]
    assert len(set(draws)) == 100
    assert all(0 <= number < 2**32 for number in seed)

  def test_draws_are_those_of_earlier_releases(self):
    """An interrupted training goes on alike after an update."""
    rng = np.random.default_rng((*host_seed(1, "epochs", 0), 3))
    assert rng.permutation(8).tolist() == GOLDEN_HOST_PERMUTATION
