"""Mapping in threads, in order, a little ahead of the consumer."""

import collections
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
import itertools
from typing import TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def map_ordered(
  function: Callable[[_Item], _Result],
  items: Iterable[_Item],
  *,
  num_workers: int,
  num_ahead: int,
) -> Iterator[_Result]:
  """Maps in a pool of threads, in order, with bounded look-ahead.

  Args:
    function: Called from several threads.
    items: Its arguments, consumed as results are.
    num_workers: Threads, at least 1.
    num_ahead: How many items are started before their result is asked for, at
      least 1.

  Yields:
    The results, in the order of the items. The first exception that `function`
    raises is raised in place of its result, and ends the iterator.
  """
  remaining = iter(items)
  pool = futures.ThreadPoolExecutor(num_workers, thread_name_prefix="images")
  try:
    pending = collections.deque(
      pool.submit(function, item)
      for item in itertools.islice(remaining, num_ahead)
    )
    while pending:
      result = pending.popleft().result()
      pending.extend(
        pool.submit(function, item) for item in itertools.islice(remaining, 1)
      )
      yield result
  finally:
    pool.shutdown(wait=True, cancel_futures=True)
