"""Tests of decern_jax/annotation/studio/patience.py."""

import pytest

from decern_jax.annotation.studio import patience
from decern_jax.annotation.studio.patience import DELAYS, LostError
from tests.annotation.studio.fake import lost


@pytest.fixture(autouse=True)
def waits(monkeypatch):
  """Seconds that were waited."""
  waits = []
  monkeypatch.setattr(patience.time, "sleep", waits.append)
  return waits


def scripted(*answers):
  """A function that returns, or raises, one after the other."""
  left = list(answers)

  def ask():
    answer = left.pop(0)
    if isinstance(answer, Exception):
      raise answer
    return answer

  ask.left = left
  return ask


class TestInsist:
  def test_returns_what_comes_at_once(self, waits):
    assert patience.insist(scripted(5)) == 5
    assert waits == []

  def test_asks_again_after_longer_and_longer_waits(self, waits):
    assert patience.insist(scripted(lost(), lost(), lost(), 5)) == 5
    assert waits == [1.0, 2.0, 4.0]

  def test_gives_up_in_the_end(self, waits):
    ask = scripted(*[lost()] * (len(DELAYS) + 1), 5)
    with pytest.raises(LostError, match="Expected an answer, got none"):
      patience.insist(ask)
    assert waits == [*DELAYS]
    assert ask.left == [5]

  def test_other_errors_are_not_tried_again(self, waits):
    with pytest.raises(ValueError, match="refused"):
      patience.insist(scripted(ValueError("refused"), 5))
    assert waits == []


class TestOnce:
  def test_what_is_there_is_not_asked_for(self):
    assert patience.once(scripted("there"), scripted()) == "there"

  def test_asks_once_and_finds_it(self, waits):
    ask = scripted(None)
    assert patience.once(scripted(None, "made"), ask) == "made"
    assert ask.left == waits == []

  def test_finds_what_was_done_although_its_answer_was_lost(self):
    ask = scripted(lost())
    assert patience.once(scripted(None, "made"), ask) == "made"

  def test_waits_for_what_is_done_late(self, waits):
    find = scripted(None, None, None, None, "made")
    assert patience.once(find, scripted(lost())) == "made"
    assert waits == [1.0, 2.0, 4.0, 8.0]

  def test_asks_again_when_waiting_was_in_vain(self, waits):
    find = scripted(None, *[None] * len(DELAYS), None, "made")
    ask = scripted(lost(), None)
    assert patience.once(find, ask) == "made"
    assert waits == [*DELAYS]
    assert ask.left == []

  def test_asks_again_soon_where_it_cannot_have_been_done(self, waits):
    find = scripted(None, None, None, "made")
    ask = scripted(lost(is_unclear=False), None)
    assert patience.once(find, ask) == "made"
    assert waits == [DELAYS[0]]

  def test_finding_may_be_lost_too(self, waits):
    find = scripted(lost(), None, lost(), "made")
    assert patience.once(find, scripted(None)) == "made"
    assert waits == [1.0, 1.0]

  def test_last_attempt_may_have_been_obeyed_too(self):
    refused = [lost(is_unclear=False)] * (patience.ATTEMPTS - 1)
    ask = scripted(*refused, lost())
    done = lambda: "made" if not ask.left else None  # noqa: E731
    assert patience.once(done, ask) == "made"

  def test_gives_up_in_the_end(self):
    ask = scripted(*[lost(is_unclear=False)] * patience.ATTEMPTS, None)
    with pytest.raises(LostError):
      patience.once(lambda: None, ask)
    assert ask.left == [None]

  def test_nothing_where_all_was_said_to_be_done_is_an_error(self):
    with pytest.raises(RuntimeError, match="got nothing of it"):
      patience.once(lambda: None, scripted(None))
