"""What the model of a round was told, fixed when the round begins."""

from collections.abc import Mapping
import json
from typing import NamedTuple

from etils import epath

from decern_jax.io import storage


class Taken(NamedTuple):
  """What a round was told.

  Attributes:
    class_names: The classes, in the order of the model's outputs.
    labels: The labels of each image that has some, by id.
  """

  class_names: tuple[str, ...]
  labels: dict[str, tuple[str, ...]]


def name_classes(
  first: tuple[str, ...], labels: Mapping[str, tuple[str, ...]]
) -> tuple[str, ...]:
  """Names all classes: the known ones, then the others sorted.

  Args:
    first: The classes that are known, in their order.
    labels: The labels of each image.

  Returns:
    The classes; those of `first` keep their places.
  """
  found = {name for names in labels.values() for name in names}
  return (*first, *sorted(found - set(first)))


def fix(workdir: epath.PathLike, round_num: int, taken: Taken) -> Taken:
  """Returns what a round was told when it began, which is now or was earlier.

  A round that a kill has interrupted goes on with what it began with, whatever
  answers have come since.

  Args:
    workdir: Directory of the run.
    round_num: The round.
    taken: What it is told if it begins now.

  Returns:
    What it was told.

  Raises:
    ValueError: If the file of an earlier beginning is not what this writes.
    OSError: If it cannot be read or written.
  """
  found = read(workdir, round_num)
  if found is not None:
    return found
  path = _path(workdir, round_num)
  storage.make_folder(path.parent)
  # As ASCII: the name of a file, and so an id, may be no valid text.
  content = json.dumps(taken._asdict(), indent=1).encode("ascii")
  storage.write_atomically(path, content)
  return taken


def read(workdir: epath.PathLike, round_num: int) -> Taken | None:
  """Reads what a round was told; None if it has not begun.

  Args:
    workdir: Directory of the run.
    round_num: The round.

  Raises:
    ValueError: If the file is not what `fix` writes.
    OSError: If it cannot be read.
  """
  path = _path(workdir, round_num)
  content = storage.read_if_exists(path)
  if content is None:
    return None
  try:
    value = json.loads(content)
    labels = {id_: tuple(names) for id_, names in value["labels"].items()}
    return Taken(tuple(value["class_names"]), labels)
  except (ValueError, KeyError, TypeError, AttributeError) as error:
    raise ValueError(f"Expected labels in {path}, got {error!r}.") from None


def _path(workdir: epath.PathLike, round_num: int) -> epath.Path:
  folder = storage.as_path(workdir) / "labels"
  return folder / f"taken-{round_num:04d}.json"
