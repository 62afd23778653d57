"""Image files: lists them, reads them, and checks them once."""

from collections.abc import Callable, Sequence
import hashlib
import json
import os
from typing import NamedTuple

from etils import epath
import numpy as np
import tqdm

from decern_jax.data.dataset import Split
from decern_jax.data.decoding import decode_image
from decern_jax.data.pipeline import map_ordered
from decern_jax.io import storage

EXTENSIONS = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
"""Endings of the names of image files, in any case."""

# Files per thread that are queued for checking.
_FILES_AHEAD = 8


class ImageFile(NamedTuple):
  """One image file, as its folder lists it.

  Attributes:
    id: POSIX path relative to the data set's folder.
    path: The file.
    class_name: Name of the folder that holds it, if this is its class.
    size: Length in bytes; 0 if the file system does not show it.
    mtime_ns: Time of the last change; 0 if the file system does not show it.
  """

  id: str
  path: epath.PathLike
  class_name: str
  size: int
  mtime_ns: int


def is_image_name(name: str) -> bool:
  """Returns whether a file name is that of an image, and not hidden.

  Args:
    name: Name of the file, without its folder.
  """
  return name.lower().endswith(EXTENSIONS) and not name.startswith(".")


def make_split(
  files: Sequence[ImageFile],
  labels: np.ndarray,
  *,
  read: Callable[[ImageFile], np.ndarray] | None = None,
) -> Split:
  """Returns the examples of a split whose images are files.

  Args:
    files: The image files.
    labels: Labels of the images, as in `Split`.
    read: Decodes an image file; `read_image` if None.
  """
  read = read or read_image
  return Split(
    ids=tuple(file.id for file in files),
    labels=labels,
    read=lambda index: read(files[index]),
  )


def read_image(file: ImageFile) -> np.ndarray:
  """Decodes an image file.

  Returns:
    uint8 [height, width, 3], RGB.

  Raises:
    OSError: If the file cannot be opened.
    ValueError: If it is not a complete image.
  """
  return decode_image(storage.read_bytes(file.path))


def digest(files: Sequence[ImageFile]) -> str:
  """Returns a hex digest of the listing, which changes when a file does."""
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
  """Decodes every file and returns those that do not decode.

  With a cache, unchanged files are decoded only once. The files that failed are
  decoded again each time, because the cause (a permission, a disk) may have
  been repaired without a trace in the listing.

  Args:
    files: The files to check.
    num_workers: Threads, at least 1.
    cache_dir: Folder that keeps the result, local or on gs://, created if
      needed; None keeps nothing.
    progress: Whether to show a progress bar, if there is a terminal.

  Returns:
    The error of each unreadable file, by id, in the order of the files.

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
  """Decodes the files and returns the errors, by id."""
  reasons = map_ordered(
    _error_of,
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


def _error_of(file: ImageFile) -> str | None:
  """Returns why the file cannot be read, or None if it can."""
  try:
    read_image(file)
  except (OSError, ValueError) as error:
    return str(error)
  return None


def _read_cache(cache_file: epath.Path, key: str) -> set[str] | None:
  """Returns the ids that failed, or None without a valid result."""
  try:
    outcome = json.loads(storage.read_bytes(cache_file))
    return set(outcome["unreadable"]) if outcome["digest"] == key else None
  except (OSError, ValueError, KeyError, TypeError):
    return None


def _write_cache(cache_file: epath.Path, key: str, ids: list[str]) -> None:
  """Writes the result in one step, so that no reader sees half of it."""
  text = json.dumps({"digest": key, "unreadable": ids})
  storage.write_atomically(cache_file, text.encode())
