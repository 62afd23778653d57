"""What people are told when it is their turn."""

from collections.abc import Sequence
from typing import NamedTuple

from etils import epath

from decern_jax.annotation import query
from decern_jax.annotation.answer import Answer
from decern_jax.annotation.query import Query
from decern_jax.annotation.resolution import resolve


class Progress(NamedTuple):
  """How far people are with a query.

  Attributes:
    num_asked: Images that were asked about.
    num_answered: Those of them that have a label.
    num_skipped: Those that all who answered skipped.
  """

  num_asked: int
  num_answered: int
  num_skipped: int

  @property
  def num_left(self) -> int:
    """Images that nobody has said anything of."""
    return self.num_asked - self.num_answered - self.num_skipped


def progress(asked: Query, answers: Sequence[Answer]) -> Progress:
  """Counts how far people are.

  Args:
    asked: The query.
    answers: All answers; what was skipped before the query counts no more.
  """
  ids = {item.id for item in asked.items}
  answered = ids & set(resolve(answers).labels)
  skipped = ids & resolve(answers[asked.num_answers :]).skipped
  return Progress(len(ids), len(answered), len(skipped - answered))


def describe(
  folder: epath.Path, asked: Query, found: Progress, *, is_enough: bool
) -> str:
  """Returns what is to be done next, on one screen.

  Args:
    folder: Directory of the run.
    asked: The query that waits.
    found: How far it is answered.
    is_enough: Whether there are labels of two classes to learn from.
  """
  where = query.folder_of(folder, asked.round)
  lines = [
    f"Round {asked.round} waits for labels of {found.num_asked} images:"
    f" {found.num_answered} have one, {found.num_skipped} were skipped,"
    f" {found.num_left} are left.",
    "",
    "To label them, one of these:",
    f"  python -m decern_jax.label --workdir={folder}",
    f"  python -m decern_jax.annotate --workdir={folder}   (Label Studio)",
    f"  fill in what you find in {where}, and put it into"
    f" {folder / query.ANSWERS_FOLDER}",
    "",
    "Then run the same command again.",
  ]
  if not is_enough:
    lines.append(
      "A model needs labels, and two classes: those of the images, or of"
      " --config.labels.class_names."
    )
  elif found.num_answered and found.num_left:
    lines.append("With --go_on it goes on with the labels that there are.")
  return "\n".join(lines)
