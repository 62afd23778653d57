"""Files on local disks and in Google Cloud Storage, and locks of folders.

Unless noted otherwise, every function takes a local path or a path on gs://.
All raise `OSError` if something cannot be read or written, whichever library
reports it, and `ValueError` for a path in another store.
"""

from collections.abc import Callable, Iterator
import contextlib
import datetime
import functools
import json
import os
import pathlib
import re
import socket
import stat
import tempfile
import time
from typing import NamedTuple
import uuid

from etils import epath
import filelock
import fsspec
import fsspec.config

from decern_jax.io import extras

SCHEME = "gs://"

# A store rejects new versions of an object that arrive faster than this.
SECONDS_BETWEEN_WRITES = 1.0

# At least two letters: one is a drive of Windows.
_ANY_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


class Entry(NamedTuple):
  """One entry of a folder.

  Attributes:
    name: Name in the folder.
    is_folder: Whether it is a folder, or a link to one.
    size: Length in bytes; 0 for a folder or a broken link.
    mtime_ns: Time of the last change of the content; 0 for a folder in a store
      or a broken link.
  """

  name: str
  is_folder: bool
  size: int
  mtime_ns: int


def is_remote(path: epath.PathLike) -> bool:
  """Returns whether a path is in a store, such as gs://bucket/name."""
  return _ANY_SCHEME.match(os.fspath(path)) is not None


def as_path(path: epath.PathLike) -> epath.Path:
  """Returns a path object for a local path or a path on gs://.

  Raises:
    ValueError: If it is in another store, or gcsfs is not installed.
  """
  if is_remote(path):
    _check_supported(os.fspath(path))
  return epath.Path(path)


def check_reachable(path: epath.PathLike) -> None:
  """Checks that the store of a path answers; the path need not exist.

  Raises:
    ValueError: As in `as_path`, or if the store cannot be reached or refuses.
  """
  path = as_path(path)
  if not is_remote(path):
    return
  try:
    with as_os_errors(path), contextlib.suppress(FileNotFoundError):
      connect().info(os.fspath(path))
  except OSError as error:
    raise ValueError(f"Expected access to {path}, got {error}.") from error


@functools.cache
def connect() -> fsspec.AbstractFileSystem:
  """Returns the file system of gs://, the same instance that epath uses.

  Raises:
    ImportError: If gcsfs is not installed.
  """
  # A cached listing hides what other processes write, and what Orbax writes
  # without gcsfs.
  options = fsspec.config.conf.setdefault("gcs", {})
  options.setdefault("use_listings_cache", False)
  return fsspec.filesystem("gcs", finalize_on_close=True)


@contextlib.contextmanager
def as_os_errors(path: epath.PathLike) -> Iterator[None]:
  """Turns the many errors of gcsfs into `OSError` with a path."""
  try:
    yield
  except OSError:
    raise
  except Exception as error:  # noqa: BLE001 (gcsfs raises of every kind)
    message = " ".join(str(error).split())
    raise OSError(f"{path}: {type(error).__name__}: {message}") from error


def check_writable(folder: epath.PathLike) -> None:
  """Creates a folder, and checks that files can be written and removed."""
  make_folder(folder)
  scratch = _scratch(as_path(folder) / "writable")
  with as_os_errors(scratch):
    scratch.write_bytes(b"")
    scratch.unlink()


def make_folder(folder: epath.PathLike) -> None:
  """Creates a folder and its parents; does nothing in a store."""
  folder = as_path(folder)
  # A store has no folders, and gcsfs would create a missing bucket.
  if not is_remote(folder):
    folder.mkdir(parents=True, exist_ok=True)


def read_bytes(path: epath.PathLike) -> bytes:
  """Reads a file; in a store this takes one request."""
  if not is_remote(path):
    return pathlib.Path(path).read_bytes()
  path = as_path(path)
  with as_os_errors(path):
    content = connect().cat_file(os.fspath(path))
  assert isinstance(content, bytes)
  return content


def read_if_exists(path: epath.PathLike) -> bytes | None:
  """Reads a file, or returns None if it does not exist.

  If a store does not answer, this is an error, not a missing file.
  """
  try:
    return read_bytes(path)
  except (FileNotFoundError, NotADirectoryError):
    return None


def write_atomically(path: epath.PathLike, content: bytes) -> None:
  """Writes a file so that it appears complete or not at all.

  On a disk, a temporary file is written, then renamed. A store renames by
  copying and deleting, which is not atomic. There the file is written directly,
  because a store keeps the old object until the upload of the new one is
  complete.

  Args:
    path: The file; an existing one is replaced.
    content: The new content.
  """
  path = as_path(path)
  if is_remote(path):
    with as_os_errors(path):
      connect().pipe_file(os.fspath(path), content)
    return
  scratch = _scratch(path)
  try:
    scratch.write_bytes(content)
    os.replace(scratch, path)
  finally:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
      scratch.unlink()


def append(path: epath.PathLike, content: bytes) -> None:
  """Appends to a file, and returns when the content is durable.

  On a disk, a process that is killed may leave partial content. A store cannot
  append, so the whole file is written again; it has all of the content or none.

  Args:
    path: The file; created if it does not exist.
    content: The bytes to append.
  """
  if is_remote(path):
    write_atomically(path, (read_if_exists(path) or b"") + content)
    return
  with open(path, "ab") as file:
    file.write(content)
    file.flush()
    os.fsync(file.fileno())


def scan(folder: epath.PathLike) -> list[Entry]:
  """Lists a folder, sorted by name; links are followed.

  Args:
    folder: The folder. In a store, a folder is a common prefix of object names.

  Raises:
    FileNotFoundError: If there is no such folder.
    NotADirectoryError: If it is a file.
  """
  folder = as_path(folder)
  entries = _scan_store(folder) if is_remote(folder) else _scan_disk(folder)
  return sorted(entries)


@contextlib.contextmanager
def local_input(path: epath.PathLike) -> Iterator[str]:
  """Provides a file to a reader that knows only local files.

  Yields:
    Path of the file, or of a temporary copy of a file in a store.
  """
  path = as_path(path)
  if not is_remote(path):
    yield os.fspath(path)
    return
  with tempfile.TemporaryDirectory() as folder:
    local = os.fspath(pathlib.Path(folder) / path.name)
    with as_os_errors(path):
      connect().get_file(os.fspath(path), local)
    yield local


@contextlib.contextmanager
def local_output(
  path: epath.PathLike,
) -> Iterator[tuple[str, Callable[[], None]]]:
  """Provides a file to a writer that knows only local files.

  Yields:
    Path of the file, or of a temporary file for one in a store; and a function
    to call after each write. It uploads the temporary file, unless the last
    upload was less than `SECONDS_BETWEEN_WRITES` ago. The file is uploaded
    once more at the end.
  """
  path = as_path(path)
  if not is_remote(path):
    yield os.fspath(path), lambda: None
    return
  with tempfile.TemporaryDirectory() as folder:
    local = pathlib.Path(folder) / path.name
    last = -SECONDS_BETWEEN_WRITES

    def publish() -> None:
      nonlocal last
      if time.monotonic() - last >= SECONDS_BETWEEN_WRITES:
        write_atomically(path, local.read_bytes())
        last = time.monotonic()

    yield os.fspath(local), publish
    write_atomically(path, local.read_bytes())


@contextlib.contextmanager
def hold_lock(path: epath.PathLike, *, refusal: str) -> Iterator[None]:
  """Holds a lock, which the system releases however the process ends.

  Args:
    path: The lock file, on a local disk; it is not removed afterwards.
    refusal: Start of the message to a second process, before the holder's name.

  Yields:
    Nothing; the lock is held.

  Raises:
    ValueError: If another process holds the lock; the message names it.
    OSError: If the file cannot be written or locked.
  """
  try:
    held = filelock.FileLock(path).acquire(blocking=False)
  except filelock.Timeout:
    raise ValueError(
      f"{refusal}: {path} is held by {lock_holder(path)}."
    ) from None
  with held:
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    holder = {"pid": os.getpid(), "host": socket.gethostname(), "time": now}
    write_atomically(_holder_file(path), json.dumps(holder).encode("ascii"))
    try:
      yield
    finally:
      _holder_file(path).unlink(missing_ok=True)


def lock_holder(path: epath.PathLike) -> str:
  """Describes the process that holds a lock, for a message."""
  try:
    holder = json.loads(read_bytes(_holder_file(path)))
    return (
      f"process {holder['pid']} on {holder['host']}, since {holder['time']}"
    )
  except (OSError, ValueError, TypeError, KeyError):
    return "another process"


def _holder_file(path: epath.PathLike) -> epath.Path:
  """Returns the file that names the holder of a lock.

  A separate file, as on Windows no other process can read the lock file.
  """
  path = epath.Path(path)
  return path.with_name(f"{path.stem}.holder.lock")


def _check_supported(path: str) -> None:
  """Raises if a path is in another store than gs://, or gcsfs is missing."""
  if not path.startswith(SCHEME):
    raise ValueError(
      f"Expected a local path, or one on {SCHEME}, got {path!r}."
    )
  # Where TensorFlow is installed, epath would use it instead of gcsfs.
  os.environ.setdefault("EPATH_USE_TF", "false")
  try:
    connect()
  except ImportError as error:
    raise extras.missing(["gcsfs"], "gcs", f"The path {path!r}") from error


def _scratch(path: epath.Path) -> epath.Path:
  """Returns the name of a temporary file in the folder of a file.

  The name is random, because processes on different hosts may have the same
  process id.
  """
  return path.with_name(f"{path.name}.{uuid.uuid4().hex[:12]}.tmp")


def _scan_disk(folder: epath.Path) -> Iterator[Entry]:
  with os.scandir(folder) as entries:
    for entry in entries:
      try:
        status = entry.stat()
      except OSError:  # a broken link
        yield Entry(entry.name, False, 0, 0)
      else:
        is_folder = stat.S_ISDIR(status.st_mode)
        yield Entry(entry.name, is_folder, status.st_size, status.st_mtime_ns)


def _scan_store(folder: epath.Path) -> Iterator[Entry]:
  with as_os_errors(folder):
    entries = connect().ls(os.fspath(folder), detail=True)
  own_name = os.fspath(folder).removeprefix(SCHEME).rstrip("/")
  for entry in entries:
    full_name = entry["name"].strip("/")
    if full_name != own_name:
      # `mtime` also changes with the labels of an object, `ctime` does not.
      created = entry.get("ctime")
      mtime_ns = round(created.timestamp() * 1e9) if created else 0
      is_folder = entry["type"] == "directory"
      name = full_name.rpartition("/")[2]
      yield Entry(name, is_folder, entry["size"], mtime_ns)
    elif entry["type"] == "file":
      raise NotADirectoryError(f"{folder} is a file")
