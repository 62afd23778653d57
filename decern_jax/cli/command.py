"""Runs a command, and reports user errors in one line."""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import functools
import sys
import traceback
from typing import Any, NoReturn

from absl import app, flags, logging
import jax

from decern_jax.cli import config_files
from decern_jax.distributed import processes
from decern_jax.io.extras import MissingExtraError


@dataclasses.dataclass(frozen=True)
class Command:
  """What the module of a verb declares, as its `COMMAND`.

  Attributes:
    required: Flags that must be given.
    configurations: For each flag that names a configuration file, its kind:
      `config_files.RUN` or `config_files.PRETRAINING`.
  """

  required: tuple[str, ...] = ()
  configurations: Mapping[str, str] = dataclasses.field(default_factory=dict)


def start(module: Any) -> NoReturn:
  """Parses the command line, and runs a verb.

  Args:
    module: Module of the verb, with `main` and `COMMAND`.

  Raises:
    SystemExit: At the end, or if a flag is wrong; then it holds a line.
  """
  for name, kind in module.COMMAND.configurations.items():
    parser = flags.FLAGS[name].parser
    assert isinstance(parser, config_files.FileParser), name
    parser.kind = kind
  if {"--help", "-help", "-h", "--helpshort", "-helpshort"} & set(sys.argv):
    sys.stdout.write(f"{describe(module)}\n")
    sys.exit(0)
  app.run(
    module.main,
    flags_parser=functools.partial(parse, required=module.COMMAND.required),
  )


def describe(module: Any) -> str:
  """Returns the help of a verb, with the fields of the configuration.

  The defaults are those of the configuration that the command line names.

  Args:
    module: Module of the verb.
  """
  # It imports what the fields may hold, which only the help needs.
  from decern_jax.cli import usage

  by_module = flags.FLAGS.flags_by_module_dict()
  kinds = module.COMMAND.configurations
  found = [*by_module.get(module.__name__, [])]
  if kinds:
    found += by_module.get("decern_jax.cli.config_flag", [])
  values = {}
  for name, kind in kinds.items():
    start = f"--{name}="
    given = [a.removeprefix(start) for a in sys.argv if a.startswith(start)]
    values[name] = config_files.load(given[-1] if given else kind, kind)
  return usage.describe(module.__doc__, found, kinds, values)


def parse(argv: Sequence[str], *, required: Sequence[str] = ()) -> list[str]:
  """Parses flags, and explains an unknown or malformed one in a line.

  Args:
    argv: The command line.
    required: Flags that must be given.

  Returns:
    The arguments that are not flags.

  Raises:
    SystemExit: If a flag, a field or a value is wrong; holds a line for the
      user.
  """
  try:
    rest = flags.FLAGS(list(argv))
  except flags.UnrecognizedFlagError as error:
    sys.exit(f"error: {error}. --help lists the flags.".replace(" ?.", "?"))
  except flags.Error as error:
    sys.exit(f"error: {error}")
  except (AttributeError, KeyError) as error:
    # A misspelled field is an AttributeError that holds the KeyError.
    missing = error if isinstance(error, KeyError) else error.args[0]
    if not isinstance(missing, KeyError):
      raise
    sys.exit(f"error: No such field of the configuration: {missing.args[0]}")
  missing = [f"--{name}" for name in required if not flags.FLAGS[name].present]
  if missing:
    sys.exit(
      f"error: Expected {', '.join(missing)}, got none. --help shows the flags."
    )
  return rest


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
    SystemExit: If there are arguments that are not flags, or the work raised a
      `ValueError`, `RuntimeError` or `OSError`, or was interrupted; holds a
      line for the user. After SIGTERM, the status is `processes.PREEMPTED`.
  """
  if len(argv) > 1:
    _fail(f"error: Expected only flags, got {list(argv[1:])}.")
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
  is_ours = isinstance(
    error, ValueError | RuntimeError | OSError | MissingExtraError
  )
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
