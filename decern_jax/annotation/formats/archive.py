"""Zip files of exports: what is read of them, and how much at most."""

from collections.abc import Iterator
import contextlib
import lzma
from typing import IO
import zipfile
import zlib

MAX_BYTES = 2**29
"""Of a file, or of all files of a zip together, as they are unpacked."""

MAX_FILES = 1_000_000
"""Entries of a zip; images are entries too."""

ENDINGS = (".json", ".jsonl", ".xml", ".csv", ".tsv")

_START = b"PK\x03\x04"
_EMPTY = b"PK\x05\x06"

# What zipfile raises for a broken file, or one that needs what it has not; a
# `RuntimeError` is a password.
_ERRORS = (
  zipfile.BadZipFile,
  zlib.error,
  lzma.LZMAError,
  EOFError,
  KeyError,
  NotImplementedError,
  OSError,
  OverflowError,
  RuntimeError,
  ValueError,
)


def is_archive(content: bytes) -> bool:
  """Says whether a file begins as a zip does.

  Args:
    content: The file, or its beginning.
  """
  return content.startswith((_START, _EMPTY))


def files(file: IO[bytes]) -> Iterator[tuple[str, bytes | None, str]]:
  """Unpacks the files of a zip that may hold answers, in memory.

  Nothing is written anywhere, so no name can escape a folder.

  Args:
    file: The zip.

  Yields:
    Name, content and "" of each file with one of `ENDINGS`; for one that cannot
    be read name, None, and why.

  Raises:
    ValueError: If it cannot be read, has more than `MAX_FILES` entries, or more
      than `MAX_BYTES` when it is unpacked, whatever it says of that.
  """
  with contextlib.ExitStack() as stack:
    try:
      opened = stack.enter_context(zipfile.ZipFile(file))
      entries = opened.infolist()
    except _ERRORS as error:
      raise ValueError(f"Expected a valid zip file, got {error!r}.") from None
    if len(entries) > MAX_FILES:
      raise ValueError(
        f"Expected a zip of <= {MAX_FILES} files, got {len(entries)}."
      )
    left = MAX_BYTES
    for entry in entries:
      if entry.filename.lower().endswith(ENDINGS):
        content, problem = _unpack(opened, entry, left + 1)
        left -= len(content or b"")
        if left < 0:
          raise ValueError(
            f"Expected <= {MAX_BYTES} bytes in the files of a zip, got more"
            f" in {entry.filename!r}."
          )
        yield entry.filename, content, problem


def _unpack(
  opened: zipfile.ZipFile, entry: zipfile.ZipInfo, limit: int
) -> tuple[bytes | None, str]:
  """Returns at most so many bytes of a file, or why there are none."""
  try:
    with opened.open(entry) as file:
      return file.read(limit), ""
  except _ERRORS as error:
    return None, f"Expected a file that can be unpacked, got {error!r}."
