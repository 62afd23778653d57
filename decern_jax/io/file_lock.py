"""One process at a time: the second is refused, and told of the first."""

from collections.abc import Iterator
import contextlib
import datetime
import fcntl
import json
import os
import socket

from etils import epath


@contextlib.contextmanager
def hold(path: epath.PathLike, *, refusal: str) -> Iterator[None]:
  """Holds a lock, which the system frees when the process ends in any way.

  Args:
    path: A file of this machine, which then tells who holds the lock; it stays.
    refusal: What a second process is told before the name of the first.

  Yields:
    Nothing; the lock is held.

  Raises:
    ValueError: If another process holds it; tells which.
    OSError: If the file cannot be written or locked.
  """
  with open(path, "a+b") as file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      file.seek(0)
      raise ValueError(
        f"{refusal}: {path} is held by {_describe(file.read())}."
      ) from None
    file.truncate(0)
    file.write(_holder())
    file.flush()
    try:
      yield
    finally:
      file.truncate(0)


def _holder() -> bytes:
  """Returns who this process is."""
  now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
  holder = {"pid": os.getpid(), "host": socket.gethostname(), "time": now}
  return (json.dumps(holder) + "\n").encode("ascii")


def _describe(content: bytes) -> str:
  """Returns who holds the lock, for a message."""
  try:
    holder = json.loads(content)
    return (
      f"process {holder['pid']} on {holder['host']}, since {holder['time']}"
    )
  except (ValueError, TypeError, KeyError):
    return "another process"
