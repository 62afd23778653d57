"""Hashes of images, each computed once in a run."""

from collections.abc import Collection, Mapping
import concurrent.futures
import json

from etils import epath

from decern_jax.annotation.quality.duplicates import perceptual_hash
from decern_jax.data.dataset import Split
from decern_jax.io import storage

FILE_NAME = "labels/hashes.json"


def of_images(
  workdir: epath.PathLike,
  fingerprint: str,
  splits: Mapping[str, Split],
  wanted: Mapping[str, Collection[str]],
  *,
  num_workers: int,
) -> dict[str, dict[str, int]]:
  """Returns the perceptual hashes of images.

  Args:
    workdir: Directory of the run, which keeps them.
    fingerprint: Of the data; others start over.
    splits: The parts of the data, by name.
    wanted: Ids of the images of each part.
    num_workers: Threads that read images.

  Returns:
    The hash of each image by id, in the order of the part, by part.

  Raises:
    OSError: If an image cannot be read, or the hashes cannot be written.
  """
  path = storage.as_path(workdir) / FILE_NAME
  known = _read(path, fingerprint)
  found = {
    name: _of_split(splits[name], set(ids), known.get(name, {}), num_workers)
    for name, ids in wanted.items()
  }
  if found != known:
    content = json.dumps({"fingerprint": fingerprint, "hashes": found})
    storage.make_folder(path.parent)
    storage.write_atomically(path, content.encode("ascii"))
  return found


def _of_split(
  split: Split, ids: set[str], known: Mapping[str, int], num_workers: int
) -> dict[str, int]:
  where = {id_: at for at, id_ in enumerate(split.ids) if id_ in ids}
  new = [id_ for id_ in where if id_ not in known]
  with concurrent.futures.ThreadPoolExecutor(num_workers) as pool:
    hashes = pool.map(lambda id_: perceptual_hash(split.read(where[id_])), new)
    known = {**known, **dict(zip(new, hashes, strict=True))}
  return {id_: known[id_] for id_ in where}


def _read(path: epath.Path, fingerprint: str) -> dict[str, dict[str, int]]:
  """Returns the hashes of earlier; what cannot be read is computed again."""
  try:
    kept = json.loads(storage.read_if_exists(path) or b"{}")
    return kept["hashes"] if kept["fingerprint"] == fingerprint else {}
  except (ValueError, KeyError, TypeError):
    return {}
