"""Unpacks the answer files in the zip file of an export, up to a size."""

from collections.abc import Iterator
import contextlib
import lzma
from typing import IO
import zipfile
import zlib

MAX_BYTES = 2**29
"""Largest size of a file, or of all files of a zip together when unpacked."""

MAX_FILES = 1_000_000
"""Largest number of entries in a zip, including images."""

ENDINGS = (".json", ".jsonl", ".xml", ".csv", ".tsv")

_SIGNATURES = (b"PK\x03\x04", b"PK\x05\x06")

# Everything that zipfile raises for files that are broken, encrypted
# (`RuntimeError`) or packed in a way it does not know.
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
  """Returns whether the content, or its beginning, is that of a zip file."""
  return content.startswith(_SIGNATURES)


def unpack(file: IO[bytes]) -> Iterator[tuple[str, bytes | None, str]]:
  """Unpacks the files of a zip that may hold answers, in memory.

  Nothing is written to disk, so no file name can escape a folder.

  Yields:
    Name, content and "" of each file with one of `ENDINGS`. Name, None and the
    problem of each such file that cannot be read.

  Raises:
    ValueError: If the zip cannot be read, has more than `MAX_FILES` entries, or
      unpacks to more than `MAX_BYTES`, whatever size it declares.
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
        content, problem = _read_entry(opened, entry, left + 1)
        left -= len(content or b"")
        if left < 0:
          raise ValueError(
            f"Expected <= {MAX_BYTES} bytes in the files of a zip, got more"
            f" in {entry.filename!r}."
          )
        yield entry.filename, content, problem


def _read_entry(
  opened: zipfile.ZipFile, entry: zipfile.ZipInfo, limit: int
) -> tuple[bytes | None, str]:
  """Returns at most `limit` bytes of a file, or the problem with it."""
  try:
    with opened.open(entry) as file:
      return file.read(limit), ""
  except _ERRORS as error:
    return None, f"Expected a file that can be unpacked, got {error!r}."
