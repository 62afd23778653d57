"""The images of a run: its pool, changes to its files, perceptual hashes."""

from collections.abc import Collection, Iterable, Mapping
import concurrent.futures
import hashlib
import json

from absl import logging
from etils import epath
from jaxtyping import Int
import numpy as np

from decern_jax.annotation.quality.duplicates import perceptual_hash
from decern_jax.annotation.query import Item
from decern_jax.data.dataset import Dataset, Split
from decern_jax.io import storage
from decern_jax.io.validation import shorten

POOL_FILE = "labels/pool.json"
HASHES_FILE = "labels/hashes.json"


def restrict_pool(workdir: epath.PathLike, dataset: Dataset) -> Dataset:
  """Restricts a data set to the pool with which the run began.

  The first call writes the ids of the pool. Later calls leave out images that
  were added since, with a warning.

  Args:
    workdir: Directory of the run.
    dataset: The images that exist now.

  Raises:
    ValueError: If images of the pool no longer exist; names them.
  """
  path = storage.as_path(workdir) / POOL_FILE
  content = storage.read_if_exists(path)
  now = dataset.train.ids
  if content is None:
    storage.make_folder(path.parent)
    # ASCII, because file names, and so ids, may not be valid Unicode.
    storage.write_atomically(path, json.dumps(now, indent=0).encode("ascii"))
    return dataset
  ids = json.loads(content)
  index_of = {id_: index for index, id_ in enumerate(now)}
  missing = [id_ for id_ in ids if id_ not in index_of]
  if missing:
    raise ValueError(
      f"Expected the {len(ids)} images that the run began with, got"
      f" {len(missing)} of them missing or unreadable:"
      f" {shorten(map(repr, missing))}."
    )
  if len(now) > len(ids):
    added = sorted(set(now) - set(ids))
    logging.warning(
      "Left out %d images that were added after the run began: %s.",
      *(len(added), shorten(map(repr, added))),
    )
  indices = np.array([index_of[id_] for id_ in ids])
  return dataset._replace(train=_take(dataset.train, indices))


def _take(split: Split, indices: Int[np.ndarray, " kept"]) -> Split:
  return Split(
    ids=tuple(split.ids[index] for index in indices),
    labels=split.labels[indices],
    read=lambda index: split.read(int(indices[index])),
  )


def digest(path: str) -> str:
  """Computes the SHA-256 of a file, in hexadecimal.

  Raises:
    OSError: If the file cannot be read.
  """
  return hashlib.sha256(storage.read_bytes(path)).hexdigest()


def check_unchanged(items: Iterable[Item]) -> None:
  """Checks that the files of queried images have not changed since the query.

  Args:
    items: The queried images. Those without a digest are not checked.

  Raises:
    ValueError: If files have changed; names them.
    OSError: If a file cannot be read.
  """
  changed = [
    item.id
    for item in items
    if item.digest and digest(item.path) != item.digest
  ]
  if changed:
    raise ValueError(
      "Expected the images to be the same as when the run asked about them, got"
      f" {len(changed)} with other content: {shorten(map(repr, changed))}."
    )


def hash_images(
  workdir: epath.PathLike,
  fingerprint: str,
  splits: Mapping[str, Split],
  wanted: Mapping[str, Collection[str]],
  *,
  num_workers: int,
) -> dict[str, dict[str, int]]:
  """Computes perceptual hashes of images, each image only once in a run.

  Args:
    workdir: Directory of the run, where the hashes are kept.
    fingerprint: Identifies the data. Kept hashes of other data are not used.
    splits: The data splits by name.
    wanted: By split, the ids of the images to hash.
    num_workers: Number of threads that read images.

  Returns:
    By split, the hash of each wanted image by id, in the order of the split.

  Raises:
    OSError: If an image cannot be read, or the hashes cannot be written.
  """
  path = storage.as_path(workdir) / HASHES_FILE
  kept = _read_hashes(path, fingerprint)
  found = {
    name: _hash_split(splits[name], set(ids), kept.get(name, {}), num_workers)
    for name, ids in wanted.items()
  }
  if found != kept:
    content = json.dumps({"fingerprint": fingerprint, "hashes": found})
    storage.make_folder(path.parent)
    storage.write_atomically(path, content.encode("ascii"))
  return found


def _hash_split(
  split: Split, ids: set[str], kept: Mapping[str, int], num_workers: int
) -> dict[str, int]:
  index_of = {id_: index for index, id_ in enumerate(split.ids) if id_ in ids}
  new = [id_ for id_ in index_of if id_ not in kept]
  with concurrent.futures.ThreadPoolExecutor(num_workers) as pool:
    hashes = pool.map(
      lambda id_: perceptual_hash(split.read(index_of[id_])), new
    )
    known = {**kept, **dict(zip(new, hashes, strict=True))}
  return {id_: known[id_] for id_ in index_of}


def _read_hashes(
  path: epath.Path, fingerprint: str
) -> dict[str, dict[str, int]]:
  """Reads the hashes of an earlier call. A damaged file counts as empty."""
  try:
    kept = json.loads(storage.read_if_exists(path) or b"{}")
    return kept["hashes"] if kept["fingerprint"] == fingerprint else {}
  except (ValueError, KeyError, TypeError):
    return {}
