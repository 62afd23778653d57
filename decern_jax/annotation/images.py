"""The images of a run: which ones, and whether they are what was labeled."""

from collections.abc import Iterable
import hashlib
import json

from absl import logging
from etils import epath
import numpy as np

from decern_jax.annotation.query import Item
from decern_jax.data.dataset import Dataset, Split
from decern_jax.io import storage
from decern_jax.io.validation import shorten

FILE_NAME = "labels/pool.json"


def restrict(workdir: epath.PathLike, dataset: Dataset) -> Dataset:
  """Returns a data set with the pool that the run began with.

  Args:
    workdir: Directory of the run, which keeps the ids at the first call.
    dataset: The images that there are now.

  Returns:
    The data set; images that came since are left out with a warning.

  Raises:
    ValueError: If images are gone; names them.
  """
  path = storage.as_path(workdir) / FILE_NAME
  kept = storage.read_if_exists(path)
  now = dataset.train.ids
  if kept is None:
    storage.make_folder(path.parent)
    # As ASCII: the name of a file, and so an id, may be no valid text.
    storage.write_atomically(path, json.dumps(now, indent=0).encode("ascii"))
    return dataset
  ids = json.loads(kept)
  position = {id_: index for index, id_ in enumerate(now)}
  gone = [id_ for id_ in ids if id_ not in position]
  if gone:
    raise ValueError(
      f"Expected the {len(ids)} images that the run began with, got {len(gone)}"
      f" of them missing or unreadable: {shorten(map(repr, gone))}."
    )
  if len(now) > len(ids):
    came = sorted(set(now) - set(ids))
    logging.warning(
      "Left out %d images that came after the run began: %s.",
      *(len(came), shorten(map(repr, came))),
    )
  where = np.array([position[id_] for id_ in ids])
  return dataset._replace(train=_choose(dataset.train, where))


def _choose(split: Split, where: np.ndarray) -> Split:
  """Returns the examples at some positions."""
  return Split(
    ids=tuple(split.ids[position] for position in where),
    labels=split.labels[where],
    read=lambda position: split.read(where[position]),
  )


def digest(path: str) -> str:
  """Returns the SHA-256 of a file.

  Args:
    path: The file.

  Raises:
    OSError: If it cannot be read.
  """
  return hashlib.sha256(storage.read_bytes(path)).hexdigest()


def check_unchanged(items: Iterable[Item]) -> None:
  """Checks that images are what they were when people were asked about them.

  Args:
    items: What was asked.

  Raises:
    ValueError: If the content of some has changed; names them.
    OSError: If one cannot be read.
  """
  changed = [
    item.id
    for item in items
    if item.digest and digest(item.path) != item.digest
  ]
  if changed:
    raise ValueError(
      "Expected images to be what they were when they were labeled, got"
      f" {len(changed)} of other content: {shorten(map(repr, changed))}."
    )
