"""Tests of decern_jax/io/file_lock.py."""

import os
import re
import signal
import socket
import subprocess
import sys

import pytest

from decern_jax.io import file_lock
from tests import tiny
from tests.table import each

HOLDER = """
import sys, time
from decern_jax import file_lock
with file_lock.hold(sys.argv[1], refusal="No"):
  print("held", flush=True)
  time.sleep(60)
"""


@pytest.fixture
def path(tmp_path):
  return tmp_path / "lock"


@pytest.fixture
def holder(path):
  """Another process that holds the lock."""
  with subprocess.Popen(
    [sys.executable, "-c", HOLDER, path],
    cwd=tiny.ROOT,
    stdout=subprocess.PIPE,
    text=True,
  ) as process:
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()


class TestHold:
  def test_second_is_refused_and_told_of_the_first(self, path, holder):
    with (
      pytest.raises(
        ValueError,
        match=rf"Expected one: .*lock is held by process {holder.pid} on"
        rf" {re.escape(socket.gethostname())}, since 20\d\d-.*\+00:00\.",
      ),
      file_lock.hold(path, refusal="Expected one"),
    ):
      pass

  def test_is_free_when_its_holder_was_killed(self, path, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with file_lock.hold(path, refusal="Expected one"):
      assert f'"pid": {os.getpid()}' in path.read_text()

  def test_is_free_afterwards(self, path):
    for _ in range(2):
      with file_lock.hold(path, refusal="Expected one"):
        pass
    assert path.read_bytes() == b""

  def test_is_free_after_an_error(self, path):
    with pytest.raises(KeyError), file_lock.hold(path, refusal="Expected one"):
      raise KeyError
    with file_lock.hold(path, refusal="Expected one"):
      pass

  @each("content", [b"", b"{", b"[1]", b'{"pid": 1}'])
  def test_second_is_refused_whatever_the_file_says(self, path, content):
    with file_lock.hold(path, refusal="Expected one"):
      path.write_bytes(content)
      with (
        pytest.raises(ValueError, match="held by another process"),
        file_lock.hold(path, refusal="Expected one"),
      ):
        pass
