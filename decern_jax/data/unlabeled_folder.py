"""Folders of images that have no labels yet, with held-out parts or without."""

from collections.abc import Iterator
import os

from etils import epath
import numpy as np

from decern_jax.data import image_check, image_folder
from decern_jax.data.dataset import Dataset, Split
from decern_jax.data.image_check import ImageFile
from decern_jax.io import storage
from decern_jax.io.validation import shorten

HELD_OUT = ("test", "val")


def load_unlabeled_folder(
  path: epath.PathLike,
  *,
  is_multi_label: bool = False,
  num_workers: int,
  cache_dir: epath.PathLike | None = None,
  progress: bool = True,
) -> Dataset:
  """Opens all images below a folder, whose labels are yet to come.

  The folders `DIR/test/<class>` and `DIR/val/<class>` hold labeled images that
  are never asked about, where they are there: only for one label per image. All
  others, at any depth, are the pool. Hidden files and files of other types are
  ignored, links are followed. Images that cannot be read are skipped
  with a warning. Ids are POSIX paths below the folder, sorted.

  Args:
    path: The folder DIR, local or on gs://.
    is_multi_label: Whether an image may have several labels.
    num_workers: As for `image_folder.load_image_folder`.
    cache_dir: Likewise.
    progress: Likewise.

  Returns:
    The data set, named after its folder: the labels of its pool say nothing,
    zeros [images] or [images, 0]; its classes are those of the held-out parts,
    and a part that is not there is None.

  Raises:
    ValueError: If the folder is missing or has no image, if more than
      `image_folder.MAX_UNREADABLE_SHARE` of the images cannot be read, or if
      parts are held out where an image may have several labels.
  """
  root = storage.as_path(path).expanduser()
  image_folder.check_folder(root)
  parts = {name: image_folder.list_part(root, name) for name in HELD_OUT}
  if is_multi_label and any(parts.values()):
    raise ValueError(
      f"Expected no folder {' or '.join(HELD_OUT)} of classes in {root}, where"
      f" an image may have several labels, got {_sizes(parts)}."
    )
  pool = sorted(_walk(root, "", set()), key=lambda file: file.id)
  files = image_folder.without_unreadable(
    root,
    {"train": pool, **parts},
    num_workers=num_workers,
    cache_dir=cache_dir,
    progress=progress,
  )
  if not files["train"]:
    raise ValueError(
      f"Expected images below {root} with one of {image_folder.EXTENSIONS}, got"
      f" none outside of [{shorten(name for name in HELD_OUT if parts[name])}]."
    )
  held_out = [file for name in HELD_OUT for file in files[name]]
  classes = tuple(sorted({file.class_name for file in held_out}))
  splits = {
    name: image_folder.make_split(files[name], classes) if files[name] else None
    for name in HELD_OUT
  }
  return Dataset(
    name=image_folder.name_of(root),
    class_names=classes,
    train=_make_pool(files["train"], is_multi_label),
    test=splits["test"],
    val=splits["val"],
    fingerprint=image_check.digest([*files["train"], *held_out]),
  )


def _walk(
  folder: epath.Path, prefix: str, seen: set[str]
) -> Iterator[ImageFile]:
  """Lists the images below a folder, but for those that are held out.

  A folder that links lead to twice is listed once: they may lead in circles.
  """
  place = os.fspath(folder)
  place = place if storage.is_remote(folder) else os.path.realpath(place)
  if place in seen:
    return
  seen.add(place)
  for entry in storage.scan(folder):
    if entry.name.startswith("."):
      continue
    name = f"{prefix}{entry.name}"
    if entry.is_folder:
      if prefix or entry.name not in HELD_OUT:
        yield from _walk(folder / entry.name, f"{name}/", seen)
    elif entry.name.lower().endswith(image_folder.EXTENSIONS):
      yield ImageFile(name, folder / entry.name, "", entry.size, entry.mtime_ns)


def _make_pool(files: list[ImageFile], is_multi_label: bool) -> Split:
  shape = (len(files), 0) if is_multi_label else (len(files),)
  return Split(
    ids=tuple(file.id for file in files),
    labels=np.zeros(shape, np.int32),
    read=lambda position: image_check.read_image(files[position]),
  )


def _sizes(parts: dict[str, list[ImageFile]]) -> str:
  return ", ".join(f"{len(files)} in {name}" for name, files in parts.items())
