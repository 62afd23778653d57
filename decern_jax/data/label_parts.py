"""Which images of a table are in train, in test and in val."""

from collections.abc import Sequence
import hashlib
import os

from absl import logging
import numpy as np

from decern_jax.data.label_table import LabelTable
from decern_jax.io.validation import shorten

PARTS = ("train", "test", "val")
"""What parts are called; train and test have some images always."""


def random_parts(
  ids: Sequence[str], *, test_share: float, seed: int
) -> np.ndarray:
  """Divides examples at random into train and test.

  The part of an example depends on its id and the seed alone: it stays where it
  is when others come or go. So the share is met on average.

  Args:
    ids: Name of each example.
    test_share: Expected share of the test part, in (0, 1).
    seed: Seed of the draw.

  Returns:
    [examples], "train" or "test".

  Raises:
    ValueError: If the share is outside its range.
  """
  if not 0.0 < test_share < 1.0:
    raise ValueError(f"Expected 0 < `test_share` < 1, got {test_share}.")

  def draw(name: str) -> float:
    hashed = hashlib.sha256(f"{seed}\0{name}".encode()).digest()
    return int.from_bytes(hashed[:8]) / 2**64

  return np.array(
    ["test" if draw(name) < test_share else "train" for name in ids]
  )


def find_parts(
  file: str | os.PathLike[str],
  table: LabelTable,
  *,
  test_share: float,
  split_seed: int,
) -> np.ndarray:
  """Returns the part of each image of a table.

  Warns of a label that no training image has.

  Args:
    file: Where the table is, for messages.
    table: Its content.
    test_share: As for `random_parts`, where no column tells the parts.
    split_seed: Likewise.

  Returns:
    [images], "train", "test" or "val".

  Raises:
    ValueError: If no image is in train, or none in test, or if a single label
      has no training image.
  """
  if table.splits is not None:
    parts, origin = np.array(table.splits), "its column of parts"
  else:
    parts = random_parts(table.paths, test_share=test_share, seed=split_seed)
    origin = f"a random test share of {test_share}"
  sizes = {part: int(np.sum(parts == part)) for part in PARTS}
  if not sizes["train"] or not sizes["test"]:
    raise ValueError(
      f"Expected images for train and for test in {file}, got {sizes} by "
      f"{origin}."
    )
  _check_labels(file, table, parts)
  return parts


def _check_labels(
  file: str | os.PathLike[str], table: LabelTable, parts: np.ndarray
) -> None:
  """Warns of labels that the pool cannot teach; of single ones, refuses."""
  labels = table.labels[parts == "train"]
  num_classes = len(table.class_names)
  is_single = labels.ndim == 1
  counts = (
    np.bincount(labels, minlength=num_classes)
    if is_single
    else (labels.sum(axis=0))
  )
  empty = [table.class_names[label] for label in np.flatnonzero(counts == 0)]
  if empty and is_single:
    raise ValueError(
      f"Expected a training image of every label of {file}, got none of "
      f"[{shorten(empty)}]."
    )
  if empty:
    logging.warning(
      "Expected a positive training image of every label of %s, got none of "
      "[%s]: they are never learned.",
      file,
      shorten(empty),
    )
