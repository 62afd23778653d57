"""The most probable classes of images, as a CSV file."""

from collections.abc import Iterator, Sequence
import csv
import os
import pathlib

import numpy as np


def check_writable(path: pathlib.Path) -> None:
  """Checks that a file can be written, before its content is computed.

  Raises:
    ValueError: If it is a folder or a device, or its folder is missing or
      cannot be written.
  """
  if path.exists() and not path.is_file():
    raise ValueError(f"Expected `output` to be a file, got {path}.")
  scratch = _scratch(path)
  try:
    scratch.touch()
    scratch.unlink()
  except OSError as error:
    raise ValueError(
      f"Expected an `output` that can be written, got {path}: {error}."
    ) from None


def write(
  path: pathlib.Path,
  ids: Sequence[str],
  probs: np.ndarray,
  class_names: Sequence[str],
  *,
  top: int,
) -> None:
  """Writes a row per image: its id, and its classes with their probabilities.

  The header is `path,class_1,prob_1,...,class_k,prob_k` with `k` the smaller of
  `top` and the number of classes. Lines end with CRLF (RFC 4180). Names that
  are not valid Unicode keep their bytes. This reads all names back:
  `csv.reader(open(path, newline="", encoding="utf-8",
  errors="surrogateescape"))`.

  Args:
    path: The file, written atomically; an existing one is replaced.
    ids: Name of each image.
    probs: float32 [images, classes]; all digits are kept.
    class_names: Name of each class.
    top: Number of classes for each image, at least 1.
  """
  scratch = _scratch(path)
  try:
    with scratch.open(
      "w", newline="", encoding="utf-8", errors="surrogateescape"
    ) as file:
      csv.writer(file).writerows(_rows(ids, probs, class_names, top))
    scratch.replace(path)
  finally:
    scratch.unlink(missing_ok=True)


def _rows(
  ids: Sequence[str], probs: np.ndarray, class_names: Sequence[str], top: int
) -> Iterator[list]:
  """Yields the header, and the row of each image."""
  count = min(top, len(class_names))
  places = range(1, count + 1)
  yield ["path"] + [f"{name}_{i}" for i in places for name in ("class", "prob")]
  # Stable: of equal probabilities, the first class comes first.
  order = np.argsort(-probs, axis=1, kind="stable")[:, :count]
  for id_, row, labels in zip(ids, probs, order, strict=True):
    pairs = [(class_names[label], row[label]) for label in labels]
    yield [id_, *(value for pair in pairs for value in pair)]


def _scratch(path: pathlib.Path) -> pathlib.Path:
  return path.with_name(f"{path.name}.{os.getpid()}.partial")
