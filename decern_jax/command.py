"""What the commands share: how they speak, and how they end."""

from collections.abc import Callable, Sequence
import sys

from absl import app, flags, logging
import jax
import tqdm


def say(line: str) -> None:
  """Prints a line above the progress bar, at once even into a pipe.

  Args:
    line: The line.
  """
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
      or was interrupted; holds a line for the user.
  """
  if len(argv) > 1:
    raise app.UsageError(f"Expected flags alone, got {list(argv[1:])}.")
  if not flags.FLAGS["verbosity"].present:
    logging.set_verbosity(logging.WARNING)
  try:
    work()
  except jax.errors.JaxRuntimeError:
    raise
  except (ValueError, RuntimeError, OSError) as error:
    logging.debug("What led to the error", exc_info=True)
    sys.exit(f"error: {error}")
  except KeyboardInterrupt:
    sys.exit(if_interrupted)
