"""What is done when a server does not answer: it is asked again, but not twice.

A request whose answer was lost may have been obeyed, or may be obeyed yet. What
must not be done twice is therefore looked for before it is asked for again.
"""

from collections.abc import Callable
import time
from typing import TypeVar

from absl import logging

Found = TypeVar("Found")

DELAYS = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Seconds to wait after each failure in a row, but the last."""

ATTEMPTS = 3
"""How often a server is asked at most for what must not be done twice."""


class LostError(RuntimeError):
  """A request without a proper answer, which may have one the next time.

  Attributes:
    is_unclear: Whether the server may have obeyed it, or may do so yet.
  """

  def __init__(self, message: str, *, is_unclear: bool):
    """Keeps what happened.

    Args:
      message: What happened.
      is_unclear: Whether the server may have obeyed it, or may do so yet.
    """
    super().__init__(message)
    self.is_unclear = is_unclear


def insist(ask: Callable[[], Found]) -> Found:
  """Asks until there is an answer, a bounded number of times.

  Args:
    ask: Asks for what may be done twice.

  Returns:
    What it returned.

  Raises:
    LostError: If it was lost once more after every delay.
  """
  for delay in DELAYS:
    try:
      return ask()
    except LostError as lost:
      logging.warning("%s Trying again in %g s.", lost, delay)
      time.sleep(delay)
  return ask()


def once(find: Callable[[], Found | None], ask: Callable[[], object]) -> Found:
  """Has a server do something once, whatever becomes of its answers.

  Args:
    find: Returns what it has done, or None if it has not.
    ask: Asks for it.

  Returns:
    What was found.

  Raises:
    LostError: If the server could not be brought to it.
    RuntimeError: If it said that it had done it, and there is nothing.
  """
  lost = None
  for _ in range(ATTEMPTS):
    found = insist(find)
    if found is not None:
      return found
    try:
      ask()
    except LostError as error:
      lost = error
      found = _await(find, lost)
      if found is not None:
        return found
    else:
      return _check_done(insist(find))
  raise lost


def _check_done(found: Found | None) -> Found:
  if found is None:
    raise RuntimeError(
      "Expected Label Studio to have what it says that it took, got nothing"
      " of it."
    )
  return found


def _await(find: Callable[[], Found | None], lost: LostError) -> Found | None:
  """Waits for what a server may be doing; returns it, or None."""
  for delay in DELAYS if lost.is_unclear else DELAYS[:1]:
    logging.warning("%s Looking in %g s whether it was done.", lost, delay)
    time.sleep(delay)
    found = insist(find)
    if found is not None:
      return found
  return None
