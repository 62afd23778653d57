"""Packages of the extras of pip, which a core installation lacks."""

from collections.abc import Iterable, Iterator, Sequence
import contextlib
import importlib.util


class MissingExtraError(ImportError, ValueError):
  """A package of an extra is needed and not installed; holds one line.

  It is a `ValueError` too, as the commands report these without a traceback.
  """


@contextlib.contextmanager
def needed(extra: str, purpose: str) -> Iterator[None]:
  """Explains a failing import of a package of an extra.

  Args:
    extra: Name of the extra.
    purpose: What needs the package, as the subject of a sentence.

  Yields:
    Nothing; import the package in the body, where it is used.

  Raises:
    MissingExtraError: If a package is not installed.
  """
  try:
    yield
  except ModuleNotFoundError as error:
    raise missing([str(error.name)], extra, purpose) from error


def check_installed(modules: Iterable[str], extra: str, purpose: str) -> None:
  """Checks that modules of an extra are installed, without importing them.

  Args:
    modules: Names of top-level modules.
    extra: As for `needed`.
    purpose: As for `needed`.

  Raises:
    MissingExtraError: If some are not installed.
  """
  absent = [name for name in modules if importlib.util.find_spec(name) is None]
  if absent:
    raise missing(absent, extra, purpose)


def missing(
  modules: Sequence[str], extra: str, purpose: str
) -> MissingExtraError:
  """Returns the error for modules that are not installed.

  Args:
    modules: Their names, at least one.
    extra: As for `needed`.
    purpose: As for `needed`.
  """
  packages = "package" if len(modules) == 1 else "packages"
  are = "is" if len(modules) == 1 else "are"
  return MissingExtraError(
    f"{purpose} needs the {packages} {', '.join(modules)}, which {are} not"
    f" installed: pip install 'decern_jax[{extra}]'",
    name=modules[0],
  )
