"""What was asked of people, what they answered, and the labels that follow.

Both loops with people follow these rules: `annotation.run`, whose state is the
files of a run, and `annotation.loop`, which keeps its state in memory.
"""

import collections
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

RULE = (
  "each person's last answer counts, the majority wins, and the latest answer"
  " breaks a tie"
)
"""How several answers about one image become its labels; see `resolve`."""


class Answer(NamedTuple):
  """One answer of one person about one image.

  Attributes:
    id: Id of the image.
    labels: Names of its classes: one, or any number where images may have
      several labels. None if the person skipped the image.
    annotator: Name of the person, or "" if unknown.
    time: When it was given, as in the file (this project writes ISO 8601), or
      "" if unknown.
    source: Name of the file it was read from.
  """

  id: str
  labels: tuple[str, ...] | None
  annotator: str = ""
  time: str = ""
  source: str = ""


class Conflict(NamedTuple):
  """An image about which people disagree.

  Attributes:
    id: Id of the image.
    said: The last answer of each person, from the earliest to the latest.
    labels: The labels that `RULE` chooses.
  """

  id: str
  said: tuple[Answer, ...]
  labels: tuple[str, ...]


class Resolution(NamedTuple):
  """The labels that follow from all answers.

  Attributes:
    labels: The labels of each labeled image by id, sorted.
    skipped: Ids of the images that everybody who answered skipped.
    conflicts: The images about which people disagree.
    num_annotators: Number of people who labeled each image, by id.
  """

  labels: dict[str, tuple[str, ...]]
  skipped: frozenset[str]
  conflicts: tuple[Conflict, ...]
  num_annotators: dict[str, int]


def resolve(answers: Iterable[Answer]) -> Resolution:
  """Derives the labels of all images from the answers by `RULE`.

  A person who skips an image has no vote on it. Answers without an annotator
  count as those of one person.

  Args:
    answers: All answers, in the order in which they arrived.
  """
  labels, conflicts, counts, skipped = {}, [], {}, set()
  for id_, said in last_answers(answers).items():
    if not said:
      skipped.add(id_)
      continue
    labels[id_] = _majority(said)
    counts[id_] = len(said)
    if len({frozenset(answer.labels or ()) for answer in said}) > 1:
      conflicts.append(Conflict(id_, said, labels[id_]))
  return Resolution(labels, frozenset(skipped), tuple(conflicts), counts)


def last_answers(answers: Iterable[Answer]) -> dict[str, tuple[Answer, ...]]:
  """Finds the last answer of each person about each image.

  Args:
    answers: All answers, in the order in which they arrived.

  Returns:
    By image id, the last answers of all people who did not skip the image in
    the end, from the earliest to the latest. Empty if everybody skipped it.
  """
  last: dict[str, dict[str, Answer]] = collections.defaultdict(dict)
  for answer in answers:
    by_person = last[answer.id]
    # Removed first, so that the new answer comes last in the order.
    by_person.pop(answer.annotator, None)
    by_person[answer.annotator] = answer
  return {
    id_: tuple(a for a in by_person.values() if a.labels is not None)
    for id_, by_person in last.items()
  }


def _majority(said: tuple[Answer, ...]) -> tuple[str, ...]:
  """Returns the labels with most votes, the latest where several are equal."""
  given = [tuple(sorted(answer.labels or ())) for answer in said]
  votes = collections.Counter(given)
  best = max(votes.values())
  return next(labels for labels in reversed(given) if votes[labels] == best)


def name_classes(
  known: tuple[str, ...], labels: Mapping[str, tuple[str, ...]]
) -> tuple[str, ...]:
  """Lists all classes: the known ones in their order, then new ones sorted."""
  found = {name for names in labels.values() for name in names}
  return (*known, *sorted(found - set(known)))


class Asked(NamedTuple):
  """What one query asked.

  Attributes:
    ids: Ids of the images.
    num_answers: Number of answers before it was asked. Only later answers can
      skip an image of it, since an image that was skipped before may be asked
      again.
  """

  ids: tuple[str, ...]
  num_answers: int = 0


class Progress(NamedTuple):
  """How many images of a query have an answer.

  Attributes:
    num_queried: Number of images in the query.
    num_labeled: Number of them with a label.
    num_skipped: Number of them that everybody who answered skipped.
  """

  num_queried: int
  num_labeled: int
  num_skipped: int

  @property
  def num_left(self) -> int:
    """Number of images without an answer."""
    return self.num_queried - self.num_labeled - self.num_skipped


class LabelingState:
  """All queries and all answers so far, and what follows from them.

  Attributes:
    asked: The queries, by round: the model of round r trains on the labels of
      the query r and of those before it.
    answers: The answers, in the order in which they arrived.
  """

  def __init__(
    self, asked: Iterable[Asked] = (), answers: Iterable[Answer] = ()
  ):
    """Starts from what was asked and answered before.

    Args:
      asked: The queries, by round.
      answers: The answers, in the order in which they arrived.
    """
    self.asked: list[Asked] = list(asked)
    self.answers: list[Answer] = list(answers)
    self._last_place = {a.id: place for place, a in enumerate(self.answers)}
    self._last_labels = {(a.id, a.annotator): a.labels for a in self.answers}
    self._resolution: Resolution | None = None

  @property
  def resolution(self) -> Resolution:
    """The labels that follow from the answers by `RULE`."""
    if self._resolution is None:
      self._resolution = resolve(self.answers)
    return self._resolution

  @property
  def labels(self) -> dict[str, tuple[str, ...]]:
    """The labels of each labeled image, by id."""
    return self.resolution.labels

  @property
  def pending(self) -> tuple[str, ...]:
    """Ids that were asked and have no answer since, in the order asked."""
    last = {id_: query for query in self.asked for id_ in query.ids}
    return tuple(id_ for id_, query in last.items() if self._waits(id_, query))

  def ask(self, ids: Iterable[str]) -> None:
    """Adds the query of the next round."""
    self.asked.append(Asked(tuple(ids), len(self.answers)))

  def answer(self, given: Answer) -> bool:
    """Adds an answer; returns False if the person has given it already.

    Only the person's last answer about the image is compared, so a return to an
    earlier answer is a change.
    """
    person = given.id, given.annotator
    if (
      person in self._last_labels and self._last_labels[person] == given.labels
    ):
      return False
    self._last_labels[person] = given.labels
    self._last_place[given.id] = len(self.answers)
    self.answers.append(given)
    self._resolution = None
    return True

  def measure_progress(self, round_num: int) -> Progress:
    """Counts the answers to the query of a round."""
    query = self.asked[round_num]
    ids = set(query.ids)
    num_labeled = len(ids & self.labels.keys())
    num_left = sum(self._waits(id_, query) for id_ in ids)
    return Progress(len(ids), num_labeled, len(ids) - num_labeled - num_left)

  def can_train(self, class_names: Sequence[str]) -> bool:
    """Returns whether there is a label, and two classes.

    Args:
      class_names: All classes so far.
    """
    return bool(self.labels) and len(class_names) > 1

  def _waits(self, id_: str, query: Asked) -> bool:
    """Returns whether an image has neither a label nor a later answer."""
    is_answered = self._last_place.get(id_, -1) >= query.num_answers
    return id_ not in self.labels and not is_answered
