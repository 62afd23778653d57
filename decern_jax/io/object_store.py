"""Google Cloud Storage behind gs:// paths: which they are, and what answers."""

from collections.abc import Iterator
import contextlib
import functools
import os
import re

from etils import epath
import fsspec

SCHEME = "gs://"

_ANY_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def is_remote(path: epath.PathLike) -> bool:
  """Says whether a path is in a store, as gs://bucket/name is."""
  return _ANY_SCHEME.match(os.fspath(path)) is not None


def as_path(path: epath.PathLike) -> epath.Path:
  """Returns a path whose files can be asked for, on a disk or in a store.

  Args:
    path: A local path, or one on gs://.

  Returns:
    The path.

  Raises:
    ValueError: If it is in another store, or gcsfs is not installed.
  """
  if is_remote(path):
    _check_known(os.fspath(path))
  return epath.Path(path)


def check_reachable(path: epath.PathLike) -> None:
  """Checks that a store answers for a path, which need not be there.

  Args:
    path: A local path, for which nothing is checked, or one on gs://.

  Raises:
    ValueError: As in `as_path`, or if the store cannot be reached or refuses.
  """
  path = as_path(path)
  if not is_remote(path):
    return
  try:
    with one_kind_of_error(path), contextlib.suppress(FileNotFoundError):
      connect().info(os.fspath(path))
  except OSError as error:
    raise ValueError(f"Expected access to {path}, got {error}.") from error


@functools.cache
def connect() -> fsspec.AbstractFileSystem:
  """Returns the file system of gs://, the one that epath uses too.

  Raises:
    ImportError: If gcsfs is not installed.
  """
  # A listing that is kept hides what other processes write, and what Orbax
  # writes beside gcsfs.
  options = fsspec.config.conf.setdefault("gcs", {})
  options.setdefault("use_listings_cache", False)
  return fsspec.filesystem("gcs", finalize_on_close=True)


@contextlib.contextmanager
def one_kind_of_error(path: epath.PathLike) -> Iterator[None]:
  """Makes an `OSError` of what gcsfs raises, which has many bases.

  Args:
    path: What is asked for, for the message.
  """
  try:
    yield
  except OSError:
    raise
  except Exception as error:  # noqa: BLE001 (gcsfs raises of every kind)
    message = " ".join(str(error).split())
    raise OSError(f"{path}: {type(error).__name__}: {message}") from error


def _check_known(path: str) -> None:
  """Refuses what is not on gs://, or cannot be asked for."""
  if not path.startswith(SCHEME):
    raise ValueError(
      f"Expected a local path, or one on {SCHEME}, got {path!r}."
    )
  # Where TensorFlow is installed, epath would ask it instead of gcsfs.
  os.environ.setdefault("EPATH_USE_TF", "false")
  try:
    connect()
  except ImportError as error:
    raise ValueError(
      f"Expected the package gcsfs, which {path!r} needs, got: {error}."
      " Install it with: pip install gcsfs (or 'decern_jax[gcs]')."
    ) from error
