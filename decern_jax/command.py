"""What the commands share: how they speak, and how they end."""

from collections.abc import Callable, Sequence
import sys
from typing import NoReturn

from absl import app, flags, logging
import jax
import tqdm

from decern_jax import processes


def say(line: str) -> None:
  """Prints a line above the progress bar, at once even into a pipe.

  Of several processes, the first alone speaks.

  Args:
    line: The line.
  """
  if not processes.is_lead():
    return
  tqdm.tqdm.write(line)
  sys.stdout.flush()


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
    say(if_interrupted)
    sys.exit(processes.PREEMPTED)
  except jax.errors.JaxRuntimeError:
    raise
  except (ValueError, RuntimeError, OSError) as error:
    logging.debug("What led to the error", exc_info=True)
    _fail(f"error: {error}")
  except KeyboardInterrupt:
    _fail(if_interrupted)


def _fail(line: str) -> NoReturn:
  """Ends this process with a line for the user."""
  if processes.are_several():
    # Each on its own stream: which process it was matters.
    sys.stderr.write(f"process {processes.index()}: {line}\n")
    processes.leave(1)
  sys.exit(line)
