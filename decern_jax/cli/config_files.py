"""Configuration files: those that ship with the package, and a user's own.

`--config=cub:resnet50` names one that ships, with an argument of its
`get_config`; `--config=configs/mine.py` is a path.
"""

from collections.abc import Sequence
import difflib
import importlib
import importlib.util
import inspect
import pathlib
import re
import types
from typing import Any

from absl import flags

RUN = "common"
PRETRAINING = "pretrain_common"
"""The files of all fields, which name the two kinds of configurations."""


class FileParser(flags.ArgumentParser):
  """Reads the configuration that a flag names.

  Attributes:
    kind: `RUN` or `PRETRAINING`.
  """

  def __init__(self, kind: str):
    self.kind = kind

  def parse(self, argument: str) -> Any:
    """Returns the configuration, locked."""
    try:
      return load(argument, self.kind).lock()
    except TypeError as error:
      # A fault of the file, of which absl would show no traceback.
      raise RuntimeError(f"The file of {argument!r} has a fault.") from error

  def flag_type(self) -> str:
    """Returns what the flag holds, for the help of absl."""
    return "configuration"


def folder() -> pathlib.Path:
  """Returns the folder of the files that ship."""
  return pathlib.Path(importlib.import_module("decern_jax.configs").__path__[0])


def names(kind: str) -> list[str]:
  """Returns the names of the files that ship, sorted.

  Args:
    kind: `RUN` or `PRETRAINING`.
  """
  stems = sorted(path.stem for path in folder().glob("*.py"))
  return [
    stem
    for stem in stems
    if stem not in (RUN, PRETRAINING)
    and stem.startswith("pretrain_") == (kind == PRETRAINING)
  ]


def load(value: str, kind: str) -> Any:
  """Returns the configuration that a flag names, unlocked.

  Args:
    value: Name or path, and an argument after a colon if the file takes one.
    kind: `RUN` or `PRETRAINING`.

  Returns:
    What `get_config` of the file returns.

  Raises:
    ValueError: If there is no such file or it takes no such argument; shows
      the names that are known and the nearest.
  """
  name, argument = split(value)
  path = _find(name, kind)
  arguments = [argument] if argument else []
  get_config = getattr(_load_module(path), "get_config", None)
  if get_config is None:
    raise ValueError(f"Expected a function `get_config` in {path}, got none.")
  try:
    inspect.signature(get_config).bind(*arguments)
  except TypeError:
    raise ValueError(
      f"Expected {name!r} {'without' if arguments else 'with'} an argument"
      f" after a colon, got {value!r}."
    ) from None
  return get_config(*arguments)


def split(value: str) -> tuple[str, str]:
  """Returns the name or path of a configuration, and its argument or "".

  Args:
    value: Value of a flag. The colon of a drive of Windows begins no argument.
  """
  drive = re.match(r"[A-Za-z]:[\\/]", value)
  start = drive.end() if drive else 0
  name, _, argument = value[start:].partition(":")
  return value[:start] + name, argument


def name_of(value: str) -> str:
  """Returns the name of a configuration, including its argument if any.

  Args:
    value: Value of a flag.
  """
  name, argument = split(value)
  stem = re.split(r"[\\/]", name)[-1].removesuffix(".py")
  return "-".join(part for part in (stem, *argument.split("/")) if part)


def _find(name: str, kind: str) -> pathlib.Path:
  """Returns the path of a file that a flag names."""
  if _is_path(name):
    path = pathlib.Path(name).expanduser()
    if path.is_file():
      return path
  elif name in (*names(kind), kind):
    return folder() / f"{name}.py"
  raise ValueError(_refuse(name, kind))


def _is_path(name: str) -> bool:
  return name.endswith(".py") or bool(re.search(r"[\\/]", name))


def _refuse(name: str, kind: str) -> str:
  """Returns the message for a name that is not known."""
  known = names(kind)
  stem = name_of(name)
  nearest: Sequence[str] = difflib.get_close_matches(stem, known, n=1)
  # The name of the other kind, such as `quickstart` for `pretrain_quickstart`.
  twin = stem.removeprefix("pretrain_")
  if kind == PRETRAINING:
    twin = f"pretrain_{twin}"
  nearest = [twin] if twin in known else nearest
  hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
  what = "No such file" if _is_path(name) else "Unknown configuration"
  return (
    f"{what}: {name!r}.{hint} Expected the path of a file or one of"
    f" {', '.join(known)}."
  )


def _load_module(path: pathlib.Path) -> types.ModuleType:
  """Runs a file."""
  spec = importlib.util.spec_from_file_location(f"{path.stem}_config", path)
  assert spec is not None, path
  assert spec.loader is not None, path
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module
