"""The console command: `decern-jax VERB ...`, or `python -m decern_jax VERB`.

It imports only what the verb needs: the list of verbs needs no JAX.
"""

import ast
import difflib
import importlib
import importlib.metadata
import pathlib
import sys
import textwrap

from decern_jax.io import extras

PROGRAM = "decern-jax"

# The modules that the extra `run` installs.
RUN_MODULES = (
  "PIL",
  "absl",
  "cv2",
  "etils",
  "filelock",
  "flax",
  "fsspec",
  "jinja2",
  "markupsafe",
  "matplotlib",
  "ml_collections",
  "orbax",
  "safetensors",
  "scipy",
  "tensorboardX",
  "tqdm",
)

VERBS = {
  "run": "main",
  "compare": "compare",
  "label": "label",
  "predict": "predict",
  "report": "report",
  "pretrain": "pretrain",
  "prepare": "prepare",
  "annotate": "annotate",
  "compile-check": "compile_check",
}
"""The module of `decern_jax.cli` that each verb runs."""


def main(verb: str | None = None) -> None:
  """Runs the verb of a command line.

  Args:
    verb: The verb; None for the first argument.

  Raises:
    SystemExit: At the end of the verb, or if it cannot begin; then it holds a
      text for the user or the status 2.
  """
  arguments = sys.argv[1:]
  if verb is None:
    verb, *arguments = arguments or [""]
    if verb in ("--help", "-h", "help"):
      sys.stdout.write(f"{describe()}\n")
      return
  if verb == "--version" or "--version" in arguments:
    version = importlib.metadata.version("decern_jax")
    sys.stdout.write(f"{PROGRAM} {version}\n")
    return
  if verb not in VERBS:
    sys.stderr.write(f"{_refuse(verb)}{describe()}\n")
    sys.exit(2)
  # Configuration files are read by a library that looks at the command line.
  sys.argv[:] = [f"{PROGRAM} {verb}", *arguments]
  try:
    # First, to name all of them.
    extras.check_installed(RUN_MODULES, "run", "A command of decern_jax")
    with extras.needed("run", f"{PROGRAM} {verb}"):
      module = importlib.import_module(f"decern_jax.cli.{VERBS[verb]}")
      command = importlib.import_module("decern_jax.cli.command")
  except extras.MissingExtraError as error:
    sys.exit(f"error: {error}")
  command.start(module)


def describe() -> str:
  """Returns the verbs with one line each."""
  lines = [f"Usage: {PROGRAM} VERB [--FLAG=VALUE ...]", ""]
  lines += [f"  {verb:15}{summary_of(verb)}" for verb in VERBS]
  last = (
    f"{PROGRAM} VERB --help shows the flags and fields of a verb, --version"
  )
  lines += ["", *textwrap.wrap(f"{last} the version of {PROGRAM}.", 79)]
  return "\n".join(lines)


def summary_of(verb: str) -> str:
  """Returns the first line of the documentation of a verb.

  Args:
    verb: One of `VERBS`. Its module is read and not imported.
  """
  path = pathlib.Path(__file__).with_name(f"{VERBS[verb]}.py")
  documentation = ast.get_docstring(ast.parse(path.read_text("utf-8")))
  return (documentation or "").partition("\n")[0]


def _refuse(verb: str) -> str:
  """Returns what is wrong with a verb; "" if there is none."""
  if not verb:
    return ""
  nearest = difflib.get_close_matches(verb, VERBS, n=1, cutoff=0.5)
  hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
  return f"error: Unknown verb {verb!r}.{hint}\n\n"
