"""The inbox of a run: answer files that people put into its folder."""

from collections.abc import Collection
from typing import NamedTuple

from etils import epath

from decern_jax.annotation import formats
from decern_jax.annotation.answers import append_log, read_log
from decern_jax.annotation.query import ANSWERS_FOLDER, Item
from decern_jax.annotation.state import Answer
from decern_jax.io import storage
from decern_jax.io.validation import shorten

LOG = "labels/answers.jsonl"
"""All answers that the run has ever accepted, in the order of arrival."""

_IGNORED_ENDINGS = (".lock", ".tmp")


class Intake(NamedTuple):
  """The answers of a run, and what could not be accepted.

  Attributes:
    answers: All answers that were ever accepted, including the new ones.
    num_new: Number of new answers.
    problems: A sentence for every file, or part of one, that was not accepted.
  """

  answers: tuple[Answer, ...]
  num_new: int
  problems: tuple[str, ...]


def ingest(
  workdir: epath.PathLike,
  queried: Collection[Item],
  *,
  pool: Collection[str],
  is_multi_label: bool,
) -> Intake:
  """Appends the new answers of all answer files to the log.

  The files are never changed. Answers that were added to a file are found the
  next time, and answers that were removed from it stay in the log.

  Args:
    workdir: Directory of the run.
    queried: All images that were ever queried. If there are none, any image of
      the pool may be answered: these are the first labels.
    pool: Ids of all images.
    is_multi_label: Whether an image may have any number of labels.

  Raises:
    OSError: If the log cannot be read or written.
  """
  log = storage.as_path(workdir) / LOG
  logged = read_log(log)
  items = queried or [Item(id_, id_) for id_ in pool]
  rules = _Rules(
    frozenset(i.id for i in items), frozenset(pool), is_multi_label
  )
  seen, new = set(logged.answers), []
  problems = [f"{LOG}, {problem}" for problem in logged.problems]
  for path in _answer_files(storage.as_path(workdir) / ANSWERS_FOLDER):
    found, unreadable = _read(path, items)
    problems += [
      f"{path.name}: {p}" for p in (*unreadable, *rules.problems(found))
    ]
    for answer in found:
      if rules.accept(answer) and answer not in seen:
        seen.add(answer)
        new.append(answer)
  if new:
    storage.make_folder(log.parent)
    append_log(log, new)
  return Intake((*logged.answers, *new), len(new), tuple(problems))


class _Rules(NamedTuple):
  """Decides which answers are accepted.

  Attributes:
    queried: Ids of the images that may be answered.
    pool: Ids of all images.
    is_multi_label: Whether an image may have any number of labels.
  """

  queried: frozenset[str]
  pool: frozenset[str]
  is_multi_label: bool

  def accept(self, answer: Answer) -> bool:
    return answer.id in self.queried and self._fits(answer)

  def _fits(self, answer: Answer) -> bool:
    labels = answer.labels
    return self.is_multi_label or labels is None or len(labels) == 1

  def problems(self, answers: tuple[Answer, ...]) -> list[str]:
    """Describes the answers that are not accepted, by reason."""
    reasons = {
      "about images that are not in the pool": lambda a: a.id not in self.pool,
      "about images that nobody asked about": lambda a: (
        a.id in self.pool and a.id not in self.queried
      ),
      "that do not have exactly one label": lambda a: (
        a.id in self.queried and not self._fits(a)
      ),
    }
    sentences = []
    for reason, applies in reasons.items():
      ids = dict.fromkeys(a.id for a in answers if applies(a))
      if ids:
        sentences.append(
          f"{len(ids)} answers {reason}: {shorten(map(repr, ids))}"
        )
    return sentences


def _answer_files(folder: epath.Path) -> list[epath.Path]:
  """Lists the answer files of a folder, the oldest first."""
  try:
    found = storage.scan(folder)
  except FileNotFoundError:
    return []
  return [
    folder / entry.name
    for entry in sorted(found, key=lambda e: (e.mtime_ns, e.name))
    if not entry.is_folder
    and not entry.name.startswith(".")
    and not entry.name.endswith(_IGNORED_ENDINGS)
  ]


def _read(
  path: epath.Path, items: Collection[Item]
) -> tuple[tuple[Answer, ...], tuple[str, ...]]:
  """Reads a file. One that cannot be read is a problem, not an error."""
  try:
    found = formats.read_file(path, items=items)
  except (ValueError, OSError) as error:
    return (), (str(error),)
  return found.answers, found.problems
