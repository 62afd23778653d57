"""Split files: the split and the class of each image."""

from collections.abc import Mapping, Sequence
import dataclasses
import json
import os
import pathlib
from typing import Any

from decern_jax.io.validation import repeated, shorten

SPLITS = ("train", "test")
"""The lists that are read. The list "val" of the format is not."""


@dataclasses.dataclass(frozen=True)
class ListedImage:
  """One line of a split file.

  Attributes:
    path: "folder/file" in the folder of all images, with a slash.
    label: Class, as an index into `SplitFile.class_names`.
  """

  path: str
  label: int

  @property
  def key(self) -> str:
    """The path with the folder in lower case, which identifies the image."""
    folder, _, name = self.path.partition("/")
    return f"{folder.lower()}/{name}"


@dataclasses.dataclass(frozen=True)
class SplitFile:
  """The content of a split file.

  Attributes:
    class_names: Name of each class.
    splits: Images of "train" and of "test", in the order of the file. No two
      have the same `key`, and "train" has images of every class.
  """

  class_names: tuple[str, ...]
  splits: Mapping[str, tuple[ListedImage, ...]]


def read_split_file(path: str | os.PathLike[str]) -> SplitFile:
  """Reads a split in the format of CoOp.

  It is a JSON object with the keys "train" and "test", each a list of
  ["folder/file", label, class name]. Other keys are ignored: the list "val"
  that CoOp holds out is in neither the pool nor the test set.

  Raises:
    ValueError: If the file is missing, has another format, numbers its classes
      other than 0, 1, …, lists an image twice, or lacks a training image of a
      class.

  References:
    Zhou et al., "Learning to Prompt for Vision-Language Models", IJCV 2022,
    https://github.com/KaiyangZhou/CoOp.
  """
  file = pathlib.Path(path).expanduser()
  lists = _read_lists(file)
  for split, entries in lists.items():
    _check_entries(file, split, entries)
  class_names = _class_names(file, lists)
  splits = {
    split: tuple(ListedImage(image, label) for image, label, _ in entries)
    for split, entries in lists.items()
  }
  _check_images(file, splits, class_names)
  return SplitFile(class_names, splits)


def _read_lists(file: pathlib.Path) -> dict[str, list[Any]]:
  """Returns the list of each split, without checking the entries."""
  if not file.is_file():
    raise ValueError(f"Expected a split file, {file} does not exist.")
  try:
    content = json.loads(file.read_text(encoding="utf-8"))
  except (ValueError, RecursionError) as error:
    raise ValueError(f"Expected JSON in {file}, got: {error}.") from error
  lists = content if isinstance(content, dict) else {}
  for split in SPLITS:
    if not isinstance(lists.get(split), list) or not lists[split]:
      found = sorted(lists) if lists else type(content).__name__
      raise ValueError(
        f"Expected a JSON object with the lists {SPLITS} in {file}, none of "
        f"them empty, got {found}."
      )
  return {split: lists[split] for split in SPLITS}


def _check_entries(file: pathlib.Path, split: str, entries: list[Any]) -> None:
  """Checks that every entry is a [path, label, class name]."""
  for index, entry in enumerate(entries):
    if not _is_entry(entry):
      raise ValueError(
        'Expected ["folder/file", label >= 0, class name] at position '
        f"{index} of {split!r} in {file}, got {entry!r}."
      )


def _is_entry(entry: Any) -> bool:
  """Returns whether a JSON value is an entry of a split file."""
  kinds = [str, int, str]  # `type`, as True is an int too
  if not isinstance(entry, list) or [type(item) for item in entry] != kinds:
    return False
  path, label, _ = entry
  steps = path.split("/")
  return len(steps) == 2 and all(steps) and label >= 0


def _class_names(
  file: pathlib.Path, lists: Mapping[str, list[Any]]
) -> tuple[str, ...]:
  """Returns the name of each label, and checks that it has only one."""
  pairs = {
    (label, name) for entries in lists.values() for _, label, name in entries
  }
  for kind, values in (
    ("one class name of each label", (str(label) for label, _ in pairs)),
    ("one label of each class name", (name for _, name in pairs)),
  ):
    several = repeated(values)
    if several:
      raise ValueError(
        f"Expected {kind} in {file}, got several of [{shorten(several)}]."
      )
  names = dict(sorted(pairs))
  if list(names) != list(range(len(names))):
    missing = sorted(set(range(len(names))) - set(names))
    raise ValueError(
      f"Expected labels 0 to {len(names) - 1} for the {len(names)} classes in "
      f"{file}, got none of [{shorten(map(str, missing))}]."
    )
  return tuple(names.values())


def _check_images(
  file: pathlib.Path,
  splits: Mapping[str, Sequence[ListedImage]],
  class_names: Sequence[str],
) -> None:
  """Checks that no image is listed twice and every class has one in train."""
  keys = [image.key for images in splits.values() for image in images]
  several = repeated(keys)
  if several:
    raise ValueError(
      f"Expected every image once in {file}, got several of "
      f"[{shorten(several)}]."
    )
  present = {image.label for image in splits["train"]}
  empty = [name for i, name in enumerate(class_names) if i not in present]
  if empty:
    raise ValueError(
      f"Expected an image of every class in 'train' of {file}, got none of "
      f"[{shorten(empty)}]."
    )
