"""Files on local disks and in Google Cloud Storage, whole or not there."""

from collections.abc import Callable, Iterator
import contextlib
import os
import pathlib
import stat
import tempfile
import time
from typing import NamedTuple
import uuid

from etils import epath

from decern_jax.io.object_store import (
  SCHEME,
  as_path,
  connect,
  is_remote,
  one_kind_of_error,
)

# A store takes one new content of an object in this time, and refuses more.
SECONDS_BETWEEN_WRITES = 1.0


class Entry(NamedTuple):
  """What a folder holds.

  Attributes:
    name: Name in the folder.
    is_folder: Whether it is a folder, or a link to one.
    size: Length in bytes; 0 of a folder or a broken link.
    mtime_ns: Time of the last change of the content; 0 of a folder in a store
      or a broken link.
  """

  name: str
  is_folder: bool
  size: int
  mtime_ns: int


def check_writable(folder: epath.PathLike) -> None:
  """Makes a folder, and checks that files can be written to it and removed.

  Args:
    folder: The folder.

  Raises:
    OSError: If they cannot.
    ValueError: As in `as_path`.
  """
  make_folder(folder)
  scratch = _scratch(as_path(folder) / "writable")
  with one_kind_of_error(scratch):
    scratch.write_bytes(b"")
    scratch.unlink()


def make_folder(folder: epath.PathLike) -> None:
  """Makes a folder on a disk; a store has none, only names with slashes.

  Args:
    folder: The folder; its parents are made too.

  Raises:
    OSError: If it cannot be made.
    ValueError: As in `as_path`.
  """
  folder = as_path(folder)
  # In a store, gcsfs would make a bucket that is not there.
  if not is_remote(folder):
    folder.mkdir(parents=True, exist_ok=True)


def read_bytes(path: epath.PathLike) -> bytes:
  """Reads a file; one of a store takes one request.

  Args:
    path: The file.

  Raises:
    OSError: If it cannot be read.
    ValueError: As in `as_path`.
  """
  if not is_remote(path):
    return pathlib.Path(path).read_bytes()
  path = as_path(path)
  with one_kind_of_error(path):
    return connect().cat_file(os.fspath(path))


def read_if_exists(path: epath.PathLike) -> bytes | None:
  """Reads a file, or returns None if there is none.

  A store that does not answer is an error, and never taken for one that has no
  such file.

  Args:
    path: The file.

  Raises:
    OSError: If it is there and cannot be read.
    ValueError: As in `as_path`.
  """
  try:
    return read_bytes(path)
  except (FileNotFoundError, NotADirectoryError):
    return None


def write_atomically(path: epath.PathLike, content: bytes) -> None:
  """Writes a file, which appears whole or not at all.

  On a disk it is written beside its place and renamed. A store copies and
  deletes to rename, which is not atomic; but there an object is the old one
  until the upload of the new one is complete.

  Args:
    path: The file; one that exists is replaced.
    content: What it is to hold.

  Raises:
    OSError: If it cannot be written.
    ValueError: As in `as_path`.
  """
  path = as_path(path)
  if is_remote(path):
    with one_kind_of_error(path):
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
  """Adds to the end of a file, and returns when that is durable.

  On a disk, a kill may leave a part of the content. In a store the file is
  written anew, as objects do not grow, and so has all of it or none.

  Args:
    path: The file; made if it is not there.
    content: What is added.

  Raises:
    OSError: If it cannot be written.
    ValueError: As in `as_path`.
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
    folder: The folder.

  Returns:
    What it holds. In a store, a folder is what several names begin with, up to
    a slash.

  Raises:
    FileNotFoundError: If there is no such folder.
    NotADirectoryError: If it is a file.
    OSError: If it cannot be read.
    ValueError: As in `as_path`.
  """
  folder = as_path(folder)
  list_ = _scan_store if is_remote(folder) else _scan_disk
  return sorted(list_(folder))


@contextlib.contextmanager
def local_input(path: epath.PathLike) -> Iterator[str]:
  """Lends a file to a reader that knows local ones alone.

  Args:
    path: The file.

  Yields:
    Path of the file, or of a copy of one in a store, removed afterwards.

  Raises:
    OSError: If it cannot be read.
    ValueError: As in `as_path`.
  """
  path = as_path(path)
  if not is_remote(path):
    yield os.fspath(path)
    return
  with tempfile.TemporaryDirectory() as folder:
    local = os.fspath(pathlib.Path(folder) / path.name)
    with one_kind_of_error(path):
      connect().get_file(os.fspath(path), local)
    yield local


@contextlib.contextmanager
def local_output(
  path: epath.PathLike,
) -> Iterator[tuple[str, Callable[[], None]]]:
  """Lends a file to a writer that knows local ones alone.

  Args:
    path: The file.

  Yields:
    Path of the file, or of one that stands for it; and a function to be called
    whenever something was written to it, which brings it to the store, unless
    that was done less than `SECONDS_BETWEEN_WRITES` ago. It is brought there
    once more at the end.

  Raises:
    OSError: If it cannot be written.
    ValueError: As in `as_path`.
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


def _scratch(path: epath.Path) -> epath.Path:
  """Returns a name beside a file that no other process takes.

  Processes on several hosts may have the same number.
  """
  return path.with_name(f"{path.name}.{uuid.uuid4().hex[:12]}.tmp")


def _scan_disk(folder: epath.Path) -> Iterator[Entry]:
  with os.scandir(folder) as found:
    for entry in found:
      try:
        status = entry.stat()
      except OSError:  # a broken link
        yield Entry(entry.name, False, 0, 0)
      else:
        is_folder = stat.S_ISDIR(status.st_mode)
        yield Entry(entry.name, is_folder, status.st_size, status.st_mtime_ns)


def _scan_store(folder: epath.Path) -> Iterator[Entry]:
  with one_kind_of_error(folder):
    found = connect().ls(os.fspath(folder), detail=True)
  own_name = os.fspath(folder).removeprefix(SCHEME).rstrip("/")
  for entry in found:
    full_name = entry["name"].strip("/")
    if full_name != own_name:
      # Not the time of the last change, which has those of the labels too.
      created = entry.get("ctime")
      mtime_ns = round(created.timestamp() * 1e9) if created else 0
      is_folder = entry["type"] == "directory"
      name = full_name.rpartition("/")[2]
      yield Entry(name, is_folder, entry["size"], mtime_ns)
    elif entry["type"] == "file":
      raise NotADirectoryError(f"{folder} is a file")
