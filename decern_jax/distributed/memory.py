"""How much memory there is, and how much a piece of work takes."""

from collections.abc import Iterator
import contextlib
import os
import pathlib
from typing import NamedTuple

import jax

_STATUS = pathlib.Path("/proc/self/status")
_CLEAR = pathlib.Path("/proc/self/clear_refs")
_RESET_PEAK = "5"


class Peak:
  """What `measure_peak` finds.

  Attributes:
    added: Bytes by which the resident memory of the process rose at most over
      what it was at the start; None until the work is done, and where the
      system does not tell.
  """

  added: int | None = None


class _Resident(NamedTuple):
  now: int
  peak: int


@contextlib.contextmanager
def measure_peak() -> Iterator[Peak]:
  """Measures the memory that the work inside adds to the process.

  Of the host alone: what a GPU or TPU holds is not in it. Linux tells; where
  it does not, nothing is measured.

  Yields:
    The result, filled when the work is done.
  """
  peak = Peak()
  before = _reset()
  yield peak
  if before is not None:
    peak.added = max(0, _read().peak - before.now)


def device_bytes(device: jax.Device) -> int:
  """Returns the memory of a device; of a CPU, that of the whole host.

  Args:
    device: A device of this process.
  """
  stats = device.memory_stats() or {}
  if "bytes_limit" in stats:
    return stats["bytes_limit"]
  return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _reset() -> _Resident | None:
  """Makes the peak what is resident now, and returns that."""
  try:
    _CLEAR.write_text(_RESET_PEAK)
    return _read()
  except (OSError, KeyError):
    return None


def _read() -> _Resident:
  lines = _STATUS.read_text().splitlines()
  fields = dict(line.split(":", 1) for line in lines)
  now, peak = (int(fields[k].split()[0]) * 1024 for k in ("VmRSS", "VmHWM"))
  return _Resident(now, peak)
