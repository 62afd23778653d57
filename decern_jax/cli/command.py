"""What the commands share: how they speak, and how they end."""

from collections.abc import Callable, Sequence
import sys
import traceback
from typing import NoReturn

from absl import app, flags, logging
import jax

from decern_jax.distributed import processes


def run(
  argv: Sequence[str], work: Callable[[], None], *, if_interrupted: str
) -> None:
  """Runs a command, which a mistake of its user ends without a traceback.

  The command shows warnings, and more if `--verbosity` says so.

  Args:
    argv: What absl's parser left of the command line: the program alone.
    work: What the command does.
    if_interrupted: What is said when the user interrupts it.

  Raises:
    app.UsageError: If there are arguments beside the flags.
    SystemExit: If the work raised a `ValueError`, `RuntimeError` or `OSError`,
      or was interrupted; holds a line for the user. With the status
      `processes.PREEMPTED` if SIGTERM asked it to end.
  """
  if len(argv) > 1:
    raise app.UsageError(f"Expected flags alone, got {list(argv[1:])}.")
  if not flags.FLAGS["verbosity"].present:
    logging.set_verbosity(logging.WARNING)
  try:
    work()
  except processes.PreemptedError:
    processes.say(if_interrupted)
    sys.exit(processes.PREEMPTED)
  except KeyboardInterrupt:
    _fail(if_interrupted)
  except Exception as error:
    if not _is_told_in_a_line(error):
      _leave_with_traceback()
      raise
    logging.debug("What led to the error", exc_info=True)
    _fail(f"error: {error}")


def _is_told_in_a_line(error: Exception) -> bool:
  """Says whether an error is for the user, not for who mends the program."""
  is_ours = isinstance(error, ValueError | RuntimeError | OSError)
  return is_ours and not isinstance(error, jax.errors.JaxRuntimeError)


def _leave_with_traceback() -> None:
  """Ends one process of several, for whom the others would wait."""
  if processes.are_several():
    traceback.print_exc()
    processes.leave(1)


def _fail(line: str) -> NoReturn:
  """Ends this process with a line for the user."""
  if processes.are_several():
    # Each on its own stream: which process it was matters.
    sys.stderr.write(f"process {processes.index()}: {line}\n")
    processes.leave(1)
  sys.exit(line)
