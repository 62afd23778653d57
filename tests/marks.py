"""Which values of a parameter the default run tries."""

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def slow_but(values: Iterable[Any], quick: Collection[Any]) -> list[Any]:
  """Returns the values for `parametrize`, all but a few behind the marker.

  Args:
    values: The values.
    quick: Those that the default run tries.
  """
  return [
    pytest.param(value, marks=() if value in quick else pytest.mark.slow)
    for value in values
  ]
