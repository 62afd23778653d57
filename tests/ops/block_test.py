"""Tests of decern_jax/ops/block.py."""

import jax
import jax.numpy as jnp
import numpy as np

from decern_jax.ops import block
from tests.table import each


class TestFoldBlocks:
  @each("block_size", [1, 3, 4, 10, 64])
  def test_every_row_that_counts_is_fresh_once(self, block_size):
    def step(visits, start, fresh):
      old = block.rows_at(visits, start, len(fresh))
      return block.set_rows_at(visits, old + fresh.astype(jnp.int32), start)

    @jax.jit
    def count_visits(num_rows):
      return block.fold_blocks(
        step,
        jnp.zeros(10, jnp.int32),
        num_rows=num_rows,
        max_rows=10,
        block_size=block_size,
      )

    for num_rows in range(11):
      expected = np.arange(10) < num_rows
      np.testing.assert_array_equal(count_visits(num_rows), expected)

  @each("num_rows, steps", [(0, 0), (30, 3), (31, 4), (100, 10)])
  def test_only_blocks_with_rows_cost_a_step(self, num_rows, steps):
    def count_steps(num_rows):
      return block.fold_blocks(
        lambda steps, start, fresh: steps + 1,
        jnp.asarray(0),
        num_rows=num_rows,
        max_rows=100,
        block_size=10,
      )

    assert int(jax.jit(count_steps)(num_rows)) == steps


class TestRowsAt:
  def test_set_rows_are_read_back(self):
    array = jnp.arange(12.0).reshape(6, 2)
    rows = -jnp.ones((2, 2))
    changed = block.set_rows_at(array, rows, jnp.asarray(3))
    np.testing.assert_array_equal(
      block.rows_at(changed, jnp.asarray(3), 2), rows
    )
    np.testing.assert_array_equal(changed[:3], array[:3])
    np.testing.assert_array_equal(changed[5:], array[5:])


class TestCompaction:
  def test_keeps_the_order_on_both_sides(self):
    keep = jnp.array([False, True, True, False, True])
    np.testing.assert_array_equal(block.compaction(keep), [1, 2, 4, 0, 3])


class TestPairwiseSum:
  @each("rows", [1, 2, 5, 8])
  def test_adds_all_rows(self, rows):
    values = np.arange(2.0 * rows, dtype=np.float32).reshape(rows, 2)
    found = block.pairwise_sum(jnp.asarray(values))
    np.testing.assert_array_equal(found, values.sum(axis=0))


class TestSlotsOf:
  def test_is_the_inverse_of_an_order(self):
    order = jnp.array([2, 0, 3, 1])
    np.testing.assert_array_equal(block.slots_of(order)[order], np.arange(4))
