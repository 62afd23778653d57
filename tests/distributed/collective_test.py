"""Tests of decern_jax/distributed/collective.py."""

import functools

import jax.numpy as jnp
from jax.sharding import PartitionSpec
import numpy as np

from decern_jax.distributed import collective
from tests.oracle import on_shards
from tests.table import each

AXIS = "pool"
VALUES = np.random.default_rng(0).normal(size=16).astype(np.float32)


class TestReductions:
  @each("num_devices", [1, 2, 8])
  def test_psum_pmin_and_pmax_cover_all_shards(self, num_devices):
    def reduce(values):
      return (
        collective.psum(values.sum(), AXIS),
        collective.pmin(values.min(), AXIS),
        collective.pmax(values.max(), AXIS),
      )

    found = on_shards(reduce, num_devices, VALUES)
    expected = VALUES.sum(), VALUES.min(), VALUES.max()
    np.testing.assert_allclose(found, expected, rtol=1e-6)

  def test_no_axis_changes_nothing(self):
    value = jnp.asarray(VALUES)
    for function in (
      collective.psum,
      collective.pmin,
      collective.pmax,
      collective.gather_rows,
      collective.varying,
    ):
      assert function(value, None) is value


class TestGatherRows:
  @each("num_devices", [1, 2, 8])
  def test_keeps_the_order(self, num_devices):
    gather = functools.partial(collective.gather_rows, axis_name=AXIS)
    np.testing.assert_array_equal(
      on_shards(gather, num_devices, VALUES), VALUES
    )


class TestRowOffset:
  @each("num_devices", [1, 2, 8])
  def test_counts_the_rows_of_earlier_shards(self, num_devices):
    def positions(values):
      offset = collective.row_offset(len(values), AXIS)
      return jnp.arange(len(values)) + offset

    found = on_shards(positions, num_devices, VALUES, out=PartitionSpec(AXIS))
    np.testing.assert_array_equal(found, np.arange(16))

  def test_is_zero_without_axis(self):
    assert collective.row_offset(7, None) == 0


class TestTakeRows:
  @each("position", [0, 7, 8, 15])
  def test_finds_the_row_wherever_it_lies(self, position):
    def take(values):
      return collective.take_rows(values, jnp.asarray([position]), AXIS)[0]

    assert on_shards(take, 4, VALUES) == VALUES[position]
    values = jnp.asarray(VALUES)
    at = jnp.asarray(position)
    assert collective.take_rows(values, at[None], None)[0] == VALUES[position]


class TestTopRows:
  @each("num_devices", [1, 2, 8])
  @each("count", [1, 2, 3, 16])
  def test_matches_a_sort_of_the_whole(self, num_devices, count):
    def top(values):
      return collective.top_rows(values, count, AXIS)

    best, where = on_shards(top, num_devices, VALUES)
    order = np.argsort(-VALUES)[:count]
    np.testing.assert_array_equal(where, order)
    np.testing.assert_array_equal(best, VALUES[order])

  @each("num_devices", [1, 2, 8])
  def test_lowest_position_comes_first_among_equal_values(self, num_devices):
    values = np.tile(np.array([0.0, 1.0], np.float32), 8)

    def top(values):
      return collective.top_rows(values, 10, AXIS)

    _, where = on_shards(top, num_devices, values)
    np.testing.assert_array_equal(where, [*range(1, 16, 2), 0, 2])
