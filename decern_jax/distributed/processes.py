"""Several processes, one run: how they meet, agree and stop."""

from collections.abc import Callable
import os
import signal
import sys
import threading
from typing import Any, NamedTuple, TypeVar

import jax
from jax.experimental import multihost_utils
import numpy as np
import tqdm

# A process whose heart has not been heard for so long is taken for dead, and
# the others end: JAX aborts them.
HEARTBEAT_SECONDS = 15

# What a run exits with that SIGTERM stopped: the same command continues it.
# EX_TEMPFAIL of sysexits.h, "temporary failure; the user is invited to retry".
PREEMPTED = 75


_Result = TypeVar("_Result")


class PreemptedError(Exception):
  """The run has saved what it needs, and ends because it was asked to."""


class Address(NamedTuple):
  """Where the processes of a run meet.

  Attributes:
    coordinator: "host:port" of process 0.
    num_processes: Processes of the run.
    process_id: Number of this one.
  """

  coordinator: str
  num_processes: int
  process_id: int


def check(address: Address) -> None:
  """Checks an address that a user gave.

  Args:
    address: The address.

  Raises:
    ValueError: If it is incomplete or out of range.
  """
  host, colon, port = (address.coordinator or "").rpartition(":")
  if not (host and colon and port.isdigit()):
    raise ValueError(
      f"Expected `--coordinator` as HOST:PORT, got {address.coordinator!r}."
    )
  count, number = address.num_processes, address.process_id
  if count is None or number is None or not 0 <= number < count:
    raise ValueError(
      "Expected 0 <= `--process_id` < `--num_processes` beside"
      f" `--coordinator`, got {number} and {count}."
    )


def initialize(address: Address | None) -> None:
  """Meets the other processes; call it before anything else of JAX.

  Args:
    address: Where; None: as the cluster says (Cloud TPU, GKE, Slurm).

  Raises:
    ValueError: If the address is not right, or the cluster does not say.
    RuntimeError: If the others do not come.
  """
  options = {}
  if address is not None:
    check(address)
    options = {
      "coordinator_address": address.coordinator,
      "num_processes": address.num_processes,
      "process_id": address.process_id,
    }
  jax.distributed.initialize(
    **options, heartbeat_timeout_seconds=HEARTBEAT_SECONDS
  )


def is_process_zero() -> bool:
  """Says whether this process is the one that speaks and writes."""
  return index() == 0


def are_several() -> bool:
  """Says whether the run has other processes; touches no device if not."""
  return jax.distributed.is_initialized() and jax.process_count() > 1


def index() -> int:
  """Returns the number of this process."""
  return jax.process_index() if are_several() else 0


def count() -> int:
  """Returns how many processes the run has."""
  return jax.process_count() if are_several() else 1


def wait_for_all(where: str) -> None:
  """Waits until all processes are here.

  Args:
    where: Name of the place, the same in all.
  """
  if are_several():
    multihost_utils.sync_global_devices(where)


def from_process_zero(value: np.ndarray) -> np.ndarray:
  """Returns the value that process 0 has.

  Args:
    value: An array; of the same shape and type in all processes.
  """
  if not are_several():
    return value
  return multihost_utils.broadcast_one_to_all(value)


def all_agree(is_so: bool) -> bool:
  """Says whether something is so in every process.

  Args:
    is_so: Whether it is so in this one.
  """
  if not are_several():
    return is_so
  return bool(np.all(multihost_utils.process_allgather(np.array(is_so))))


def check_same(name: str, digest: bytes) -> None:
  """Checks that all processes have the same.

  Args:
    name: What is compared, for the message.
    digest: Its SHA-256 in this process.

  Raises:
    ValueError: If it differs.
  """
  mine = np.frombuffer(digest, np.uint8).astype(np.int32)
  if not all_agree(bool(np.array_equal(from_process_zero(mine), mine))):
    raise ValueError(
      f"Expected the same {name} in all {jax.process_count()} processes; those"
      " of process 0 and of another differ."
    )


def on_process_zero(work: Callable[[], Any]) -> None:
  """Does something in process 0 alone; the others wait until it is done.

  Args:
    work: What to do.

  Raises:
    Exception: What the work raised, in process 0.
    RuntimeError: In the others, if it raised something.
  """
  failure = None
  if is_process_zero():
    try:
      work()
    except Exception as error:  # noqa: BLE001 (raised below, when all know)
      failure = error
  if not all_agree(failure is None):
    raise failure or RuntimeError("Process 0 has failed; its message says why.")


def process_zero_first(work: Callable[[], _Result]) -> _Result:
  """Does something in process 0, then in the others, who find its caches.

  Args:
    work: What to do.

  Returns:
    What the work returned in this process.
  """
  found: list[_Result] = []
  on_process_zero(lambda: found.append(work()))
  return found[0] if found else work()


class _Stop:
  """Whether SIGTERM has asked this process to stop."""

  def __init__(self):
    self.is_asked = False
    self.num_questions = 0

  def ask(self, signum, frame) -> None:
    del signum, frame
    self.is_asked = True


_stop = _Stop()


def stop_on_sigterm() -> None:
  """Makes SIGTERM a request: the run saves, then ends.

  With several processes JAX listens to the signal itself, and tells all.
  """
  if not are_several() and (
    threading.current_thread() is threading.main_thread()
  ):
    signal.signal(signal.SIGTERM, _stop.ask)


def is_stopping() -> bool:
  """Says whether to save and end now.

  All processes must ask at the same places; they get the same answer.
  """
  if not are_several():
    return _stop.is_asked
  _stop.num_questions += 1
  return multihost_utils.reached_preemption_sync_point(_stop.num_questions)


def end_if_stopping() -> None:
  """Ends the run, at a place where nothing is left to save, if it is asked to.

  Raises:
    PreemptedError: If SIGTERM has asked for it.
  """
  if is_stopping():
    raise PreemptedError


def leave(status: int) -> None:
  """Ends a process of several at once.

  The usual end would wait for the others, who wait for this one.

  Args:
    status: The exit status.
  """
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(status)


def say(line: str) -> None:
  """Prints a line above the progress bar, at once even into a pipe.

  Of several processes, the first alone speaks.

  Args:
    line: The line.
  """
  if not is_process_zero():
    return
  tqdm.tqdm.write(line)
  sys.stdout.flush()
