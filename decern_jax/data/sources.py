"""Opens any data set of the table by name."""

from collections.abc import Callable
import os
from typing import NamedTuple

from decern_jax.data.dataset import Dataset
from decern_jax.data.image_folder import load_image_folder
from decern_jax.data.rendered import load_rendered
from decern_jax.data.specs import DATASETS, DatasetSpec
from decern_jax.data.tfds_source import load_tfds

PathLike = str | os.PathLike[str]


class _Options(NamedTuple):
  """What the user chose, for whichever loader reads it."""

  path: PathLike | None
  num_workers: int
  cache_dir: PathLike | None


def load(
  name: str,
  *,
  path: PathLike | None = None,
  num_workers: int,
  cache_dir: PathLike | None = None,
) -> Dataset:
  """Opens a data set by its name in `DATASETS`.

  Args:
    name: Key of the table.
    path: For "image_folder", the folder of images. For a data set of tfds, its
      `data_dir`, or None for the default. None for "rendered".
    num_workers: Threads that check the images of a folder, at least 1.
    cache_dir: Where the outcome of that check is kept, or None.

  Returns:
    The data set; its images are decoded when they are read.

  Raises:
    ValueError: If the name is unknown, `path` is missing or not wanted, or the
      data are not what they should be.
  """
  if name not in DATASETS:
    raise ValueError(
      f"Unknown dataset {name!r}; expected one of {sorted(DATASETS)}."
    )
  spec = DATASETS[name]
  options = _Options(path or None, num_workers, cache_dir)
  return _LOADERS[spec.source](spec, options)


def _load_image_folder(spec: DatasetSpec, options: _Options) -> Dataset:
  del spec  # says nothing about a folder
  if options.path is None:
    raise ValueError("Expected `path`, the folder of images, got None.")
  return load_image_folder(
    options.path, num_workers=options.num_workers, cache_dir=options.cache_dir
  )


def _load_rendered(spec: DatasetSpec, options: _Options) -> Dataset:
  del spec  # the renderer has defaults of its own
  if options.path is not None:
    raise ValueError(
      "Expected no `path`, as rendered images are in no file, "
      f"got {os.fspath(options.path)!r}."
    )
  return load_rendered()


def _load_tfds(spec: DatasetSpec, options: _Options) -> Dataset:
  sizes = {spec.train_split: spec.num_train, spec.test_split: spec.num_test}
  return load_tfds(
    spec.tfds_name,
    data_dir=options.path,
    train_split=spec.train_split,
    test_split=spec.test_split,
    val_split=spec.val_split,
    image_key=spec.image_key,
    label_key=spec.label_key,
    num_classes=spec.num_classes,
    num_examples={name: size for name, size in sizes.items() if size},
  )


_LOADERS: dict[str, Callable[[DatasetSpec, _Options], Dataset]] = {
  "image_folder": _load_image_folder,
  "rendered": _load_rendered,
  "tfds": _load_tfds,
}
