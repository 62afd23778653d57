"""Fixtures of the tests of commands."""

import sys

from absl import flags, logging
from absl.testing import flagsaver
import pytest


@pytest.fixture
def restored_flags():
  """Gives flags and the level of the log back as they were before the test."""
  level = logging.get_absl_logger().level
  with flagsaver.flagsaver():
    yield
  logging.get_absl_logger().setLevel(level)


@pytest.fixture
def call_command(restored_flags, monkeypatch):
  """Returns what the function of a command is called with by its `main`."""

  def call(command, *arguments):
    name = command.__name__.rpartition(".")[2]
    calls = []
    monkeypatch.setattr(
      command, name, lambda *args, **options: calls.append((args, options))
    )
    argv = [name, *arguments]
    monkeypatch.setattr(sys, "argv", argv)
    command.main(flags.FLAGS(argv))
    return calls[0]

  return call
