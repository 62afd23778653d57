"""Tests of decern_jax/strategies/pool.py."""

import numpy as np

from decern_jax.distributed.sharding import make_mesh, place_pool
from decern_jax.strategies.pool import take_highest
from tests.table import each

SCORES = np.float32([0.1, 0.9, 0.5, 0.9, -2.0, 0.7, 0.5])
CANDIDATES = np.array([True, True, False, True, True, False, True])


class TestTakeHighest:
  @each("num_devices", [1, 2, 8])
  @each(
    "budget, expected",
    [(1, [1]), (2, [1, 3]), (4, [1, 3, 6, 0]), (5, [1, 3, 6, 0, 4])],
  )
  def test_goes_by_falling_score_then_position(
    self, num_devices, budget, expected
  ):
    mesh = make_mesh(num_devices)
    found = take_highest(
      place_pool(SCORES, mesh), place_pool(CANDIDATES, mesh), budget=budget
    )
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, expected)
