"""Runs a command, and turns a mistake of its user into one line."""

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
  """Runs a command; a mistake of its user ends it without a traceback.

  The command logs warnings, and more if `--verbosity` says so.

  Args:
    argv: The command line after absl has parsed its flags: only the program.
    work: What the command does.
    if_interrupted: The line to print when the user interrupts the command.

  Raises:
    app.UsageError: If there are arguments that are not flags.
    SystemExit: If the work raised a `ValueError`, `RuntimeError` or `OSError`,
      or was interrupted; holds a line for the user. If SIGTERM asked the
      command to end, the status is `processes.PREEMPTED`.
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
  """Returns whether an error is the user's to correct, not a programmer's."""
  is_ours = isinstance(error, ValueError | RuntimeError | OSError)
  return is_ours and not isinstance(error, jax.errors.JaxRuntimeError)


def _leave_with_traceback() -> None:
  """Ends one process of several, so that the others do not wait for it."""
  if processes.are_several():
    traceback.print_exc()
    processes.leave(1)


def _fail(line: str) -> NoReturn:
  """Ends this process with a line for the user."""
  if processes.are_several():
    # On the stream of each process, as it matters which process failed.
    sys.stderr.write(f"process {processes.index()}: {line}\n")
    processes.leave(1)
  sys.exit(line)
