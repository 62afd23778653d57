"""One run in several processes: how they connect, agree and stop."""

from collections.abc import Callable
import itertools
import os
import signal
import sys
import threading
from typing import Any, NamedTuple, NoReturn, TypeVar

import jax
from jax.experimental import multihost_utils
import numpy as np

# A process that sends no heartbeat for this long counts as dead, and JAX then
# aborts the others.
HEARTBEAT_SECONDS = 15

# Exit status of a run that SIGTERM stopped; the same command continues it.
# EX_TEMPFAIL of sysexits.h, "temporary failure; the user is invited to retry".
PREEMPTED = 75

# The signals that asked the run to stop. Not a `threading.Event`: a second
# signal would deadlock on the lock that the handler of the first one holds.
_stop_signals: list[int] = []
_num_checks = itertools.count(1)

_Result = TypeVar("_Result")


class PreemptedError(Exception):
  """The run has saved its state, and ends because SIGTERM asked it to."""


class Address(NamedTuple):
  """Where the processes of a run connect.

  Attributes:
    coordinator: "host:port" of process zero.
    num_processes: Number of processes of the run.
    process_id: Number of this process, from 0.
  """

  coordinator: str | None
  num_processes: int | None
  process_id: int | None


def check(address: Address) -> None:
  """Checks an address that a user gave.

  Raises:
    ValueError: If it is incomplete or out of range.
  """
  host, _, port = (address.coordinator or "").rpartition(":")
  is_port = port.isascii() and port.isdecimal() and len(port) <= 5
  if not (host and is_port and 0 < int(port) < 2**16):
    raise ValueError(
      f"Expected `--coordinator` as HOST:PORT, got {address.coordinator!r}."
    )
  num_processes, process_id = address.num_processes, address.process_id
  if (
    num_processes is None
    or process_id is None
    or not 0 <= process_id < num_processes
  ):
    raise ValueError(
      "Expected 0 <= `--process_id` < `--num_processes` with"
      f" `--coordinator`, got {process_id} and {num_processes}."
    )


def initialize(address: Address | None) -> None:
  """Connects to the other processes; must come before any other use of JAX.

  Args:
    address: The address; None to ask the cluster (Cloud TPU, GKE, Slurm).

  Raises:
    ValueError: If the address is not valid, or the cluster gives none.
    RuntimeError: If other processes do not connect.
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
  """Returns whether this process is the one that prints and writes files."""
  return index() == 0


def are_several() -> bool:
  """Returns whether the run has several processes.

  It initializes no device if there is only one.
  """
  return jax.distributed.is_initialized() and jax.process_count() > 1


def index() -> int:
  """Returns the number of this process."""
  return jax.process_index() if are_several() else 0


def count() -> int:
  """Returns the number of processes."""
  return jax.process_count() if are_several() else 1


def wait_for_all(where: str) -> None:
  """Waits until all processes have reached this call, with the same name."""
  if are_several():
    multihost_utils.sync_global_devices(where)


def from_process_zero(value: np.ndarray) -> np.ndarray:
  """Returns process zero's array; shape and type must be the same in all."""
  if not are_several():
    return value
  return multihost_utils.broadcast_one_to_all(value)


def all_agree(condition: bool) -> bool:
  """Returns whether a condition holds in every process."""
  if not are_several():
    return condition
  return bool(np.all(multihost_utils.process_allgather(np.array(condition))))


def check_same(name: str, digest: bytes) -> None:
  """Checks that all processes have the same data.

  Args:
    name: What is compared, for the message.
    digest: Its SHA-256 in this process.

  Raises:
    ValueError: If it differs; in all processes.
  """
  mine = np.frombuffer(digest, np.uint8).astype(np.int32)
  if not all_agree(bool(np.array_equal(from_process_zero(mine), mine))):
    raise ValueError(
      f"Expected the same {name} in all {jax.process_count()} processes; those"
      " of process 0 and of another differ."
    )


def on_process_zero(work: Callable[[], Any]) -> None:
  """Calls a function on process zero; the others wait until it returns.

  Raises:
    Exception: On process zero, the exception of the function.
    RuntimeError: On the others, if it raised one.
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
  """Calls a function on process zero, then on the others.

  The others can then use files that process zero has cached.

  Returns:
    Its result in this process.
  """
  results: list[_Result] = []
  on_process_zero(lambda: results.append(work()))
  return results[0] if results else work()


def stop_on_sigterm() -> None:
  """Makes SIGTERM a request: the run saves its state, then ends.

  With several processes, JAX handles the signal itself and informs all.
  """
  if not are_several() and (
    threading.current_thread() is threading.main_thread()
  ):
    signal.signal(
      signal.SIGTERM, lambda number, _: _stop_signals.append(number)
    )


def is_stopping() -> bool:
  """Returns whether to save and end now; the same in all processes.

  All processes must call it at the same places.
  """
  if not are_several():
    return bool(_stop_signals)
  # JAX requires an increasing number that is the same in all processes.
  return multihost_utils.reached_preemption_sync_point(next(_num_checks))


def end_if_stopping() -> None:
  """Ends the run if SIGTERM asked for it; call it where nothing is unsaved.

  Raises:
    PreemptedError: If SIGTERM has asked for it.
  """
  if is_stopping():
    raise PreemptedError


def leave(status: int) -> NoReturn:
  """Ends one process of several at once, with an exit status.

  The usual exit would wait for the other processes, which wait for this one.
  """
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(status)


def say(line: str) -> None:
  """Prints a line above the progress bar, at once; only on process zero."""
  if not is_process_zero():
    return
  import tqdm

  tqdm.tqdm.write(line)
  sys.stdout.flush()
