"""From all that people said of an image to what the model is told."""

import collections
from collections.abc import Iterable
from typing import NamedTuple

from decern_jax.annotation.answer import Answer

RULE = (
  "the last answer of each person counts; the labels that most people gave"
  " hold, and where as many gave others, those that were given last"
)


class Conflict(NamedTuple):
  """An image of which people said different things.

  Attributes:
    id: Id of the image.
    said: The last answer of each person, the latest last.
    labels: What holds.
  """

  id: str
  said: tuple[Answer, ...]
  labels: tuple[str, ...]


class Resolution(NamedTuple):
  """What holds.

  Attributes:
    labels: The labels of each image that has some, by id; sorted.
    skipped: Ids of the images that all who answered skipped.
    conflicts: The images of which people said different things.
    num_annotators: How many people gave each image labels, by id.
  """

  labels: dict[str, tuple[str, ...]]
  skipped: frozenset[str]
  conflicts: tuple[Conflict, ...]
  num_annotators: dict[str, int]


def resolve(answers: Iterable[Answer]) -> Resolution:
  """Applies `RULE`; a person who skips an image says nothing of it.

  Answers without an annotator are those of one person.

  Args:
    answers: All answers, in the order in which they came.

  Returns:
    What holds.
  """
  labels, conflicts, counts, skipped = {}, [], {}, set()
  for id_, said in last_answers(answers).items():
    if not said:
      skipped.add(id_)
      continue
    labels[id_] = _majority(said)
    counts[id_] = len(said)
    if len({frozenset(answer.labels) for answer in said}) > 1:
      conflicts.append(Conflict(id_, said, labels[id_]))
  return Resolution(labels, frozenset(skipped), tuple(conflicts), counts)


def last_answers(answers: Iterable[Answer]) -> dict[str, tuple[Answer, ...]]:
  """Returns the last answer of each person to each image.

  Args:
    answers: All answers, in the order in which they came.

  Returns:
    The answers to each image that was not skipped in the end by who gave them,
    by id and in their order; none for an image that all skipped.
  """
  last: dict[str, dict[str, Answer]] = collections.defaultdict(dict)
  for answer in answers:
    of_image = last[answer.id]
    # At the end of the order, where the latest answer belongs.
    of_image.pop(answer.annotator, None)
    of_image[answer.annotator] = answer
  return {
    id_: tuple(a for a in of_image.values() if a.labels is not None)
    for id_, of_image in last.items()
  }


def _majority(said: tuple[Answer, ...]) -> tuple[str, ...]:
  """Returns the labels that most people gave, the latest of equal ones."""
  given = [tuple(sorted(answer.labels)) for answer in said]
  votes = collections.Counter(given)
  best = max(votes.values())
  return next(labels for labels in reversed(given) if votes[labels] == best)
