"""Tests of decern_jax/data/ordered.py."""

import itertools

import pytest

from decern_jax.data.ordered import map_ordered
from tests.table import each


class TestMapOrdered:
  @each("num_ahead", [1, 3, 50])
  def test_matches_map(self, num_ahead):
    results = map_ordered(
      lambda x: x * x, range(20), num_workers=3, num_ahead=num_ahead
    )
    assert list(results) == [x * x for x in range(20)]

  def test_items_are_consumed_as_results_are(self):
    items = itertools.count()
    results = map_ordered(str, items, num_workers=2, num_ahead=4)
    assert next(results) == "0"
    assert next(items) == 5
    results.close()

  def test_exception_of_the_function_is_raised_in_its_place(self):
    results = map_ordered(
      lambda x: 1 // x, [2, 1, 0, 1], num_workers=2, num_ahead=4
    )
    assert next(results) == 0
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
      next(results)
    assert list(results) == []
