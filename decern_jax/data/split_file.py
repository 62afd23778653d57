"""Split files: which image is in which part, and of which class."""

from collections.abc import Mapping, Sequence
import json
import os
import pathlib
from typing import Any, NamedTuple

from decern_jax.io.validation import repeated, shorten

PARTS = ("train", "test")
"""The lists that are read; "val", which the format has too, is not."""


class ListedImage(NamedTuple):
  """One line of a split file.

  Attributes:
    path: "folder/file" below the folder of all images, with a slash.
    label: Class, as a position in `SplitFile.class_names`.
  """

  path: str
  label: int

  @property
  def key(self) -> tuple[str, str]:
    """What tells images apart where folders lost their case."""
    folder, _, name = self.path.partition("/")
    return folder.lower(), name


class SplitFile(NamedTuple):
  """The content of a split file.

  Attributes:
    class_names: Name of each class.
    parts: Images of "train" and of "test", in the order of the file. No two
      have the same `key`, and "train" has some of every class.
  """

  class_names: tuple[str, ...]
  parts: Mapping[str, tuple[ListedImage, ...]]


def read_split_file(path: str | os.PathLike[str]) -> SplitFile:
  """Reads a split in the format of CoOp.

  It is a JSON object with the keys "train" and "test", each a list of
  ["folder/file", label, class name]. Other keys are ignored: the list "val"
  that CoOp holds out is in neither the pool nor the test set.

  Args:
    path: The file.

  Returns:
    Its content.

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
  for part, entries in lists.items():
    _check_entries(file, part, entries)
  class_names = _class_names(file, lists)
  parts = {
    part: tuple(ListedImage(image, label) for image, label, _ in entries)
    for part, entries in lists.items()
  }
  _check_images(file, parts, class_names)
  return SplitFile(class_names, parts)


def _read_lists(file: pathlib.Path) -> dict[str, list[Any]]:
  """Returns the lists of the parts, their entries unchecked."""
  if not file.is_file():
    raise ValueError(f"Expected a split file, {file} does not exist.")
  try:
    content = json.loads(file.read_text(encoding="utf-8"))
  except (ValueError, RecursionError) as error:
    raise ValueError(f"Expected JSON in {file}, got: {error}.") from error
  lists = content if isinstance(content, dict) else {}
  for part in PARTS:
    if not isinstance(lists.get(part), list) or not lists[part]:
      found = sorted(lists) if lists else type(content).__name__
      raise ValueError(
        f"Expected a JSON object with the lists {PARTS} in {file}, none of "
        f"them empty, got {found}."
      )
  return {part: lists[part] for part in PARTS}


def _check_entries(file: pathlib.Path, part: str, entries: list[Any]) -> None:
  """Refuses what is no [path, label, class name]."""
  for position, entry in enumerate(entries):
    if not _is_entry(entry):
      raise ValueError(
        'Expected ["folder/file", label >= 0, class name] at position '
        f"{position} of {part!r} in {file}, got {entry!r}."
      )


def _is_entry(entry: Any) -> bool:
  """Says whether a value of JSON is a line of a split file."""
  kinds = [str, int, str]  # `type`, as True is an int too
  if not isinstance(entry, list) or [type(item) for item in entry] != kinds:
    return False
  path, label, _ = entry
  steps = path.split("/")
  return len(steps) == 2 and all(steps) and label >= 0


def _class_names(
  file: pathlib.Path, lists: Mapping[str, list[Any]]
) -> tuple[str, ...]:
  """Returns the name of each label, which must be one name for one label."""
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
  parts: Mapping[str, Sequence[ListedImage]],
  class_names: Sequence[str],
) -> None:
  """Refuses images that are listed twice, and classes nothing is learned of."""
  keys = [image.key for images in parts.values() for image in images]
  several = repeated("/".join(key) for key in keys)
  if several:
    raise ValueError(
      f"Expected every image once in {file}, got several of "
      f"[{shorten(several)}]."
    )
  present = {image.label for image in parts["train"]}
  empty = [name for i, name in enumerate(class_names) if i not in present]
  if empty:
    raise ValueError(
      f"Expected an image of every class in 'train' of {file}, got none of "
      f"[{shorten(empty)}]."
    )
