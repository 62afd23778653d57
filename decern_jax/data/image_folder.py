"""Data sets that are folders of images: `DIR/<split>/<class>/<image>`."""

from collections.abc import Sequence
import itertools
import pathlib

from absl import logging
from etils import epath
import numpy as np

from decern_jax.data import image_check
from decern_jax.data.dataset import Dataset, Split
from decern_jax.data.image_check import ImageFile
from decern_jax.io import storage
from decern_jax.io.validation import shorten

EXTENSIONS = (
  ".bmp",
  ".gif",
  ".jpeg",
  ".jpg",
  ".png",
  ".tif",
  ".tiff",
  ".webp",
)
"""What an image file's name ends with, in any case."""

MAX_UNREADABLE_SHARE = 0.05
"""Data sets with a larger share of unreadable images are refused."""

_REQUIRED_SPLITS = ("train", "test")
_SPLITS = (*_REQUIRED_SPLITS, "val")


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
      maybe `val`.
    num_workers: Threads that check the images, at least 1.
    cache_dir: Where the outcome of the check is kept, so that it is made once;
      None checks each time.
    progress: Whether the check shows a progress bar, where there is a terminal.

  Returns:
    The data set, named after its folder.

  Raises:
    ValueError: If the folder is missing or lays out no such data set, if more
      than `MAX_UNREADABLE_SHARE` of the images cannot be read, or if none of a
      class can.
  """
  root = storage.as_path(path).expanduser()
  check_folder(root)
  _check_splits(root)
  files = {split: list_part(root, split) for split in _SPLITS}
  class_names = _visible_folders(root / "train")
  _check_files(root, files, class_names)
  _check_no_class_is_empty(root, files, class_names)
  files = without_unreadable(
    root,
    files,
    num_workers=num_workers,
    cache_dir=cache_dir,
    progress=progress,
  )
  _check_no_class_is_empty(root, files, class_names)
  splits = {split: make_split(files[split], class_names) for split in _SPLITS}
  return Dataset(
    name=name_of(root),
    class_names=class_names,
    train=splits["train"],
    test=splits["test"],
    val=splits["val"] if files["val"] else None,
    fingerprint=image_check.digest(_all_files(files)),
  )


def name_of(root: epath.Path) -> str:
  """Returns the name of a folder, also of one that is given as a link.

  Args:
    root: The folder.
  """
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


def list_part(root: epath.Path, split: str) -> list[ImageFile]:
  """Lists the images of a part, sorted by class and name.

  A broken link is listed, and so reported with the unreadable images.

  Args:
    root: The folder of the data set.
    split: Name of the part's folder in it; one that is not there has no image.
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
    if entry.name.lower().endswith(EXTENSIONS)
    and not entry.name.startswith(".")
  ]


def make_split(files: Sequence[ImageFile], class_names: Sequence[str]) -> Split:
  """Turns the listing of a part into the interface of data sources.

  Args:
    files: The images of the part.
    class_names: The classes, in the order of the labels.
  """
  label_of = {name: label for label, name in enumerate(class_names)}
  return Split(
    ids=tuple(file.id for file in files),
    labels=np.array([label_of[file.class_name] for file in files], np.int32),
    read=lambda position: image_check.read_image(files[position]),
  )


def _all_files(files: dict[str, list[ImageFile]]) -> list[ImageFile]:
  """Returns the files of all splits."""
  return list(itertools.chain.from_iterable(files.values()))


def without_unreadable(
  root: epath.Path,
  files: dict[str, list[ImageFile]],
  *,
  num_workers: int,
  cache_dir: epath.PathLike | None,
  progress: bool,
) -> dict[str, list[ImageFile]]:
  """Leaves out images that cannot be read, or refuses them where they are many.

  Args:
    root: The folder of the data set.
    files: The images of each part.
    num_workers: As for `load_image_folder`.
    cache_dir: Likewise.
    progress: Likewise.

  Returns:
    The images that can be read.

  Raises:
    ValueError: If more than `MAX_UNREADABLE_SHARE` cannot.
  """
  reasons = image_check.find_unreadable(
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


def check_folder(root: epath.Path) -> None:
  """Refuses anything but a folder.

  Args:
    root: What should be one.

  Raises:
    ValueError: If it is none.
  """
  if not root.exists():
    raise ValueError(f"Expected `path` to be a folder, {root} does not exist.")
  if not root.is_dir():
    raise ValueError(f"Expected `path` to be a folder, {root} is a file.")


def _check_splits(root: epath.Path) -> None:
  """Refuses a folder without the required parts."""
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
  """Refuses a listing that is no classification problem."""
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
  for split in ("test", "val"):
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
  """Refuses a class without a training image, and an empty test split."""
  present = {file.class_name for file in files["train"]}
  empty = [name for name in class_names if name not in present]
  if empty:
    raise ValueError(
      f"Expected a readable image of every class in {root / 'train'}, got none "
      f"of [{shorten(empty)}]."
    )
  if not files["test"]:
    raise ValueError(f"Expected a readable image in {root / 'test'}, got none.")
