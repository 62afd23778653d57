"""The files of answers that people put into the folder of a run."""

from collections.abc import Collection
from typing import NamedTuple

from etils import epath

from decern_jax.annotation import answer, formats
from decern_jax.annotation.answer import Answer
from decern_jax.annotation.query import ANSWERS_FOLDER, Item
from decern_jax.io import storage
from decern_jax.io.validation import shorten

LOG = "labels/answers.jsonl"
"""Where all answers that were ever taken in are kept, in their order."""

_IGNORED = (".lock", ".tmp")


class Intake(NamedTuple):
  """What was found in the folder.

  Attributes:
    answers: All answers that were ever taken in, these included.
    num_new: How many of them are new.
    problems: A sentence for every file or part of one that could not be taken,
      and for every id that nobody asked about.
  """

  answers: tuple[Answer, ...]
  num_new: int
  problems: tuple[str, ...]


def take_in(
  workdir: epath.PathLike,
  asked: Collection[Item],
  *,
  pool: Collection[str],
  is_multi_label: bool,
) -> Intake:
  """Adds to the log what the files of answers hold beyond it.

  The files are never changed: what is added to one is found the next time, and
  what is taken from one stays in the log.

  Args:
    workdir: Directory of the run.
    asked: All that was ever asked about; empty: the first answers may be of any
      image.
    pool: Ids of all images.
    is_multi_label: Whether an image may have several labels, or none.

  Returns:
    All answers, and what could not be taken.

  Raises:
    OSError: If the log cannot be read or written.
  """
  log = storage.as_path(workdir) / LOG
  known = answer.read_log(log)
  items = asked or [Item(id_, id_) for id_ in pool]
  check = _Check(
    frozenset(i.id for i in items), frozenset(pool), is_multi_label
  )
  seen, new = set(known.answers), []
  problems = [f"{LOG}, {problem}" for problem in known.problems]
  for path in _files(storage.as_path(workdir) / ANSWERS_FOLDER):
    found, wrong = _read(path, items)
    problems += [f"{path.name}: {p}" for p in (*wrong, *check.refuse(found))]
    for given in found:
      if check.takes(given) and given not in seen:
        seen.add(given)
        new.append(given)
  if new:
    storage.make_folder(log.parent)
    answer.append_log(log, new)
  return Intake((*known.answers, *new), len(new), tuple(problems))


class _Check(NamedTuple):
  """Which answers are taken.

  Attributes:
    asked: Ids of the images that may be answered.
    pool: Ids of all images.
    is_multi_label: Whether an image may have several labels, or none.
  """

  asked: frozenset[str]
  pool: frozenset[str]
  is_multi_label: bool

  def takes(self, given: Answer) -> bool:
    """Says whether an answer is taken."""
    return given.id in self.asked and self._fits(given)

  def _fits(self, given: Answer) -> bool:
    is_skip = given.labels is None
    return self.is_multi_label or is_skip or len(given.labels) == 1

  def refuse(self, answers: tuple[Answer, ...]) -> list[str]:
    """Tells which answers are not taken, and why."""
    kinds = {
      "of images that are none of the pool": lambda a: a.id not in self.pool,
      "of images that nobody asked about": lambda a: (
        a.id in self.pool and a.id not in self.asked
      ),
      "that do not have just one label": lambda a: (
        a.id in self.asked and not self._fits(a)
      ),
    }
    told = []
    for kind, is_of_kind in kinds.items():
      ids = dict.fromkeys(a.id for a in answers if is_of_kind(a))
      if ids:
        told.append(f"{len(ids)} answers {kind}: {shorten(map(repr, ids))}")
    return told


def _files(folder: epath.Path) -> list[epath.Path]:
  """Lists the files of a folder, the oldest first."""
  try:
    found = storage.scan(folder)
  except FileNotFoundError:
    return []
  return [
    folder / entry.name
    for entry in sorted(found, key=lambda e: (e.mtime_ns, e.name))
    if not entry.is_folder
    and not entry.name.startswith(".")
    and not entry.name.endswith(_IGNORED)
  ]


def _read(
  path: epath.Path, items: Collection[Item]
) -> tuple[tuple[Answer, ...], tuple[str, ...]]:
  """Reads a file; one that cannot be read costs itself alone."""
  try:
    found = formats.read_file(path, items=items)
  except (ValueError, OSError) as error:
    return (), (str(error),)
  return found.answers, found.problems
