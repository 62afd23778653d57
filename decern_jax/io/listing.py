"""Long lists of names: which repeat, and how a message shows them."""

import collections
from collections.abc import Iterable

_NUM_NAMES_SHOWN = 10


def repeated(names: Iterable[str]) -> list[str]:
  """Returns the names that occur more than once, sorted."""
  counts = collections.Counter(names)
  return sorted(name for name, count in counts.items() if count > 1)


def shorten(names: Iterable[str]) -> str:
  """Joins names, of many the first few and a count."""
  names = list(names)
  shown = ", ".join(names[:_NUM_NAMES_SHOWN])
  num_more = len(names) - _NUM_NAMES_SHOWN
  return f"{shown} and {num_more} more" if num_more > 0 else shown
