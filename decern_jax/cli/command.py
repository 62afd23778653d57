"""Runs a command, and reports user errors in one line."""

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
  """Runs a command; user errors end it without a traceback.

  The command logs warnings; `--verbosity` changes the level.

  Args:
    argv: The command line without the flags that absl has parsed. Only the name
      of the program may remain.
    work: What the command does.
    if_interrupted: The line to print when the user interrupts the command.

  Raises:
    app.UsageError: If there are arguments that are not flags.
    SystemExit: If the work raised a `ValueError`, `RuntimeError` or `OSError`,
      or was interrupted; holds a line for the user. After SIGTERM, the status
      is `processes.PREEMPTED`.
  """
  if len(argv) > 1:
    raise app.UsageError(f"Expected only flags, got {list(argv[1:])}.")
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
    if not _is_for_the_user(error):
      _leave_with_traceback()
      raise
    logging.debug("What led to the error", exc_info=True)
    _fail(f"error: {error}")


def _is_for_the_user(error: Exception) -> bool:
  """Returns whether an error is a user error rather than a bug."""
  is_ours = isinstance(error, ValueError | RuntimeError | OSError)
  return is_ours and not isinstance(error, jax.errors.JaxRuntimeError)


def _leave_with_traceback() -> None:
  """Ends one of several processes at once, so that the others do not wait."""
  if processes.are_several():
    traceback.print_exc()
    processes.leave(1)


def _fail(line: str) -> NoReturn:
  """Ends this process with a line for the user."""
  if processes.are_several():
    # Every process prints its own line, to show which one failed.
    sys.stderr.write(f"process {processes.index()}: {line}\n")
    processes.leave(1)
  sys.exit(line)
