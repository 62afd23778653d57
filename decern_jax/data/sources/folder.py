"""Folders of images: `DIR/<split>/<class>/<image>`, or without labels yet."""

from collections.abc import Iterator, Sequence
import dataclasses
import itertools
import os
import pathlib

from absl import logging
from etils import epath
import numpy as np

from decern_jax.data import image_files
from decern_jax.data.dataset import Dataset, Split
from decern_jax.data.image_files import EXTENSIONS, ImageFile
from decern_jax.data.registry import Options, Source, register
from decern_jax.io import storage
from decern_jax.io.validation import shorten

MAX_UNREADABLE_SHARE = 0.05
"""Data sets with a larger share of unreadable images are refused."""

HELD_OUT = ("test", "val")

_REQUIRED_SPLITS = ("train", "test")
_SPLITS = ("train", *HELD_OUT)


def load_image_folder(
  path: epath.PathLike,
  *,
  num_workers: int,
  cache_dir: epath.PathLike | None = None,
  progress: bool = True,
) -> Dataset:
  """Opens the layout of tfds's ImageFolder, `DIR/<split>/<class>/<image>`.

  The classes are the folders in `train`. Hidden files and files of other types
  are ignored, links are followed. Images that cannot be read are skipped with a
  warning. Ids are POSIX paths such as "train/Kiwi/a.jpg", sorted by class, then
  by name.

  Args:
    path: The folder DIR, local or on gs://, which holds `train`, `test` and
      optionally `val`.
    num_workers: Threads that check the images, at least 1.
    cache_dir: Folder that keeps the result of the check, so that it is made
      once. None checks each time.
    progress: Whether the check shows a progress bar, if there is a terminal.

  Returns:
    The data set, named after its folder.

  Raises:
    ValueError: If the folder is missing or has another layout, if more than
      `MAX_UNREADABLE_SHARE` of the images cannot be read, or if no image of a
      class can be read.
  """
  root = storage.as_path(path).expanduser()
  _check_folder(root)
  _check_split_folders(root)
  files = {split: _list_split(root, split) for split in _SPLITS}
  class_names = _visible_folders(root / "train")
  _check_files(root, files, class_names)
  _check_no_class_is_empty(root, files, class_names)
  files = without_unreadable(root, files, num_workers, cache_dir, progress)
  _check_no_class_is_empty(root, files, class_names)
  splits = {split: _make_split(files[split], class_names) for split in _SPLITS}
  return Dataset(
    name=_name_of(root),
    class_names=class_names,
    train=splits["train"],
    test=splits["test"],
    val=splits["val"] if files["val"] else None,
    fingerprint=image_files.digest(_all_files(files)),
  )


def load_unlabeled_folder(
  path: epath.PathLike,
  *,
  is_multi_label: bool = False,
  num_workers: int,
  cache_dir: epath.PathLike | None = None,
  progress: bool = True,
) -> Dataset:
  """Opens all images in a folder and its folders; people label them later.

  The folders `DIR/test/<class>` and `DIR/val/<class>` may hold labeled images,
  which are not part of the pool. This needs a single label per image. All other
  images, at any depth, are the pool. Hidden files and files of other types are
  ignored, links are followed. Images that cannot be read are skipped with a
  warning. Ids are POSIX paths in the folder, sorted.

  Args:
    path: The folder DIR, local or on gs://.
    is_multi_label: Whether an image may have several labels.
    num_workers: As for `load_image_folder`.
    cache_dir: As for `load_image_folder`.
    progress: As for `load_image_folder`.

  Returns:
    The data set, named after its folder. The labels of its pool are
    placeholders, zeros [images] or [images, 0]. Its classes are those of the
    test and val images; a split without a folder is None.

  Raises:
    ValueError: If the folder is missing or has no image, if more than
      `MAX_UNREADABLE_SHARE` of the images cannot be read, or if there are test
      or val images although an image may have several labels.
  """
  root = storage.as_path(path).expanduser()
  _check_folder(root)
  held_out = {split: _list_split(root, split) for split in HELD_OUT}
  if is_multi_label and any(held_out.values()):
    sizes = ", ".join(f"{len(held_out[name])} in {name}" for name in HELD_OUT)
    raise ValueError(
      f"Expected no folder {' or '.join(HELD_OUT)} of classes in {root}, where"
      f" an image may have several labels, got {sizes}."
    )
  pool = sorted(_walk(root, "", set()), key=lambda file: file.id)
  files = without_unreadable(
    root, {"train": pool, **held_out}, num_workers, cache_dir, progress
  )
  if not files["train"]:
    shown = shorten(name for name in HELD_OUT if held_out[name])
    raise ValueError(
      f"Expected images below {root} with one of {EXTENSIONS}, got"
      f" none outside of [{shown}]."
    )
  labeled = [file for split in HELD_OUT for file in files[split]]
  classes = tuple(sorted({file.class_name for file in labeled}))
  splits = {
    split: _make_split(files[split], classes) if files[split] else None
    for split in HELD_OUT
  }
  return Dataset(
    name=_name_of(root),
    class_names=classes,
    train=_make_pool(files["train"], is_multi_label),
    test=splits["test"],
    val=splits["val"],
    fingerprint=image_files.digest(_all_files(files)),
  )


def _name_of(root: epath.Path) -> str:
  """Returns the name of a folder, even if it is given as "." or a link."""
  if storage.is_remote(root):
    return root.name
  return pathlib.Path(root).resolve().name


def _visible_folders(folder: epath.Path) -> tuple[str, ...]:
  """Returns the sorted names of the folders in a folder, if it exists."""
  try:
    entries = storage.scan(folder)
  except (FileNotFoundError, NotADirectoryError):
    return ()
  return tuple(
    entry.name
    for entry in entries
    if entry.is_folder and not entry.name.startswith(".")
  )


def _list_split(root: epath.Path, split: str) -> list[ImageFile]:
  """Lists the images of a split, sorted by class and name; [] without a folder.

  A broken link is listed, and so reported with the unreadable images.
  """
  return [
    ImageFile(
      f"{split}/{class_name}/{entry.name}",
      root / split / class_name / entry.name,
      class_name,
      entry.size,
      entry.mtime_ns,
    )
    for class_name in _visible_folders(root / split)
    for entry in storage.scan(root / split / class_name)
    if image_files.is_image_name(entry.name)
  ]


def _walk(
  folder: epath.Path, prefix: str, seen: set[str]
) -> Iterator[ImageFile]:
  """Lists the images in a folder and its folders, except `HELD_OUT`.

  A folder that several links lead to is listed once, as links may be circular.
  """
  place = os.fspath(folder)
  place = place if storage.is_remote(folder) else os.path.realpath(place)
  if place in seen:
    return
  seen.add(place)
  for entry in storage.scan(folder):
    name = f"{prefix}{entry.name}"
    if entry.is_folder and not entry.name.startswith("."):
      if prefix or entry.name not in HELD_OUT:
        yield from _walk(folder / entry.name, f"{name}/", seen)
    elif not entry.is_folder and image_files.is_image_name(entry.name):
      yield ImageFile(name, folder / entry.name, "", entry.size, entry.mtime_ns)


def _make_split(
  files: Sequence[ImageFile], class_names: Sequence[str]
) -> Split:
  """Returns the examples of a split, whose classes are their folders."""
  label_of = {name: label for label, name in enumerate(class_names)}
  labels = [label_of[file.class_name] for file in files]
  return image_files.make_split(files, np.array(labels, np.int32))


def _make_pool(files: Sequence[ImageFile], is_multi_label: bool) -> Split:
  """Returns the examples of a pool, whose labels are placeholders."""
  shape = (len(files), 0) if is_multi_label else (len(files),)
  return image_files.make_split(files, np.zeros(shape, np.int32))


def _all_files(files: dict[str, list[ImageFile]]) -> list[ImageFile]:
  """Returns the files of all splits."""
  return list(itertools.chain.from_iterable(files.values()))


def without_unreadable(
  root: epath.Path,
  files: dict[str, list[ImageFile]],
  num_workers: int,
  cache_dir: epath.PathLike | None,
  progress: bool,
) -> dict[str, list[ImageFile]]:
  """Leaves out images that cannot be read.

  Args:
    root: The folder, for messages.
    files: The image files of each split.
    num_workers: Threads that check the images, at least 1.
    cache_dir: Folder that keeps the result of the check, or None.
    progress: Whether the check shows a progress bar, if there is a terminal.

  Returns:
    The image files that can be read.

  Raises:
    ValueError: If more than `MAX_UNREADABLE_SHARE` of the images cannot be
      read.
  """
  reasons = image_files.find_unreadable(
    _all_files(files),
    num_workers=num_workers,
    cache_dir=cache_dir,
    progress=progress,
  )
  if not reasons:
    return files
  num_files = len(_all_files(files))
  share = len(reasons) / num_files
  shown = shorten(f"{image} ({why})" for image, why in reasons.items())
  found = f"{len(reasons)} of {num_files} ({share:.1%}): {shown}"
  if share > MAX_UNREADABLE_SHARE:
    raise ValueError(
      f"Expected at most {MAX_UNREADABLE_SHARE:.0%} unreadable images in "
      f"{root}, got {found}."
    )
  logging.warning("Skipping unreadable images in %s: %s.", root, found)
  return {
    split: [file for file in listed if file.id not in reasons]
    for split, listed in files.items()
  }


def _check_folder(root: epath.Path) -> None:
  """Checks that the root is a folder."""
  if not root.exists():
    raise ValueError(f"Expected `path` to be a folder, {root} does not exist.")
  if not root.is_dir():
    raise ValueError(f"Expected `path` to be a folder, {root} is a file.")


def _check_split_folders(root: epath.Path) -> None:
  """Checks that the required splits are there."""
  found = _visible_folders(root)
  if not set(_REQUIRED_SPLITS) <= set(found):
    raise ValueError(
      f"Expected the folders `train` and `test` in {root}, "
      f"got [{shorten(found)}]."
    )


def _check_files(
  root: epath.Path,
  files: dict[str, list[ImageFile]],
  class_names: Sequence[str],
) -> None:
  """Checks that there are images of at least two classes, known in `train`."""
  for split in _REQUIRED_SPLITS:
    if not files[split]:
      raise ValueError(
        f"Expected images as {root / split}/<class>/<name> with one of "
        f"{EXTENSIONS}, got none."
      )
  if len(class_names) < 2:
    raise ValueError(
      f"Expected at least 2 classes in {root / 'train'}, got "
      f"{list(class_names)}."
    )
  for split in HELD_OUT:
    unknown = {file.class_name for file in files[split]} - set(class_names)
    if unknown:
      raise ValueError(
        f"Expected every class in {root / split} to be in `train` too, got "
        f"[{shorten(sorted(unknown))}]."
      )


def _check_no_class_is_empty(
  root: epath.Path,
  files: dict[str, list[ImageFile]],
  class_names: Sequence[str],
) -> None:
  """Checks that every class has a training image, and that test has one."""
  present = {file.class_name for file in files["train"]}
  empty = [name for name in class_names if name not in present]
  if empty:
    raise ValueError(
      f"Expected a readable image of every class in {root / 'train'}, got none "
      f"of [{shorten(empty)}]."
    )
  if not files["test"]:
    raise ValueError(f"Expected a readable image in {root / 'test'}, got none.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class _ImageFolder(Source):
  """A folder of labeled images."""

  preparation: str = (
    "`config.dataset.path` is your folder, with the images as "
    "<folder>/<train or test>/<class>/<image>"
  )

  def load(self, options: Options) -> Dataset:
    return load_image_folder(
      options.required_path("the folder of images"),
      num_workers=options.num_workers,
      cache_dir=options.cache_dir,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class _UnlabeledFolder(Source):
  """A folder of images that people label."""

  preparation: str = "`config.dataset.path` is your folder of images"
  is_unlabeled: bool = True

  def load(self, options: Options) -> Dataset:
    return load_unlabeled_folder(
      options.required_path("the folder of images"),
      is_multi_label=options.is_multi_label,
      num_workers=options.num_workers,
      cache_dir=options.cache_dir,
    )


register("image_folder", _ImageFolder())
register("unlabeled_folder", _UnlabeledFolder())
