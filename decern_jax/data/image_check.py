"""Which image files cannot be read: found once, remembered in a small file."""

from collections.abc import Sequence
import hashlib
import json
import os
from typing import NamedTuple

from etils import epath
import numpy as np
import tqdm

from decern_jax.data import ordered
from decern_jax.data.decoding import decode_image
from decern_jax.io import storage

# Files that a thread finds waiting when it is done with one.
_FILES_AHEAD = 8


class ImageFile(NamedTuple):
  """One image file, as its folder lists it.

  Attributes:
    id: POSIX path relative to the data set's folder.
    path: Where it is.
    class_name: Name of the folder that holds it.
    size: Length in bytes; 0 if the file system does not say.
    mtime_ns: Time of the last change; 0 if the file system does not say.
  """

  id: str
  path: epath.PathLike
  class_name: str
  size: int
  mtime_ns: int


def read_image(file: ImageFile) -> np.ndarray:
  """Decodes an image file.

  Args:
    file: What to read.

  Returns:
    uint8 [height, width, 3], RGB.

  Raises:
    OSError: If the file cannot be opened.
    ValueError: If it is no complete image.
  """
  return decode_image(storage.read_bytes(file.path))


def digest(files: Sequence[ImageFile]) -> str:
  """Returns a hex digest that changes when a file does, without reading any."""
  hasher = hashlib.sha256()
  for file in files:
    hasher.update(os.fsencode(f"{file.id}\0{file.size}\0{file.mtime_ns}\n"))
  return hasher.hexdigest()


def find_unreadable(
  files: Sequence[ImageFile],
  *,
  num_workers: int,
  cache_dir: epath.PathLike | None,
  progress: bool,
) -> dict[str, str]:
  """Decodes every file and names those that do not decode.

  With a cache, files that have not changed since are not decoded again, except
  the few that failed: what was wrong (a permission, a disk) may be repaired
  without a trace in the listing.

  Args:
    files: What to check.
    num_workers: Threads, at least 1.
    cache_dir: Folder for the outcome, local or on gs://, created if needed; or
      None.
    progress: Whether to show a progress bar, where there is a terminal.

  Returns:
    What is wrong with each unreadable file, by id, in the order of the files.

  Raises:
    OSError: If the cache cannot be written.
  """
  if cache_dir is None:
    return _decode_all(files, num_workers, progress)
  key = digest(files)
  storage.make_folder(cache_dir)
  cache_file = storage.as_path(cache_dir) / f"image_check_{key[:16]}.json"
  suspects = _read_cache(cache_file, key)
  if suspects is None:
    reasons = _decode_all(files, num_workers, progress)
    _write_cache(cache_file, key, list(reasons))
    return reasons
  files = [file for file in files if file.id in suspects]
  return _decode_all(files, num_workers, progress=False)


def _decode_all(
  files: Sequence[ImageFile], num_workers: int, progress: bool
) -> dict[str, str]:
  """Decodes the files and returns what is wrong, by id."""
  reasons = ordered.map_ordered(
    _what_is_wrong,
    files,
    num_workers=num_workers,
    num_ahead=_FILES_AHEAD * num_workers,
  )
  bar = tqdm.tqdm(
    zip(files, reasons, strict=True),
    total=len(files),
    desc="Checking images",
    unit="image",
    disable=None if progress else True,
  )
  return {file.id: reason for file, reason in bar if reason is not None}


def _what_is_wrong(file: ImageFile) -> str | None:
  """Returns why the file cannot be read, or None."""
  try:
    read_image(file)
  except (OSError, ValueError) as error:
    return str(error)
  return None


def _read_cache(cache_file: epath.Path, key: str) -> set[str] | None:
  """Returns the ids that failed, or None where no valid outcome is kept."""
  try:
    outcome = json.loads(storage.read_bytes(cache_file))
    return set(outcome["unreadable"]) if outcome["digest"] == key else None
  except (OSError, ValueError, KeyError, TypeError):
    return None


def _write_cache(cache_file: epath.Path, key: str, ids: list[str]) -> None:
  """Writes the outcome in one step, so that no reader sees half of it."""
  text = json.dumps({"digest": key, "unreadable": ids})
  storage.write_atomically(cache_file, text.encode())
