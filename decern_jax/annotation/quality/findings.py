"""What a run with people has found, as numbers and names."""

from typing import NamedTuple

from decern_jax.annotation.quality.agreement import Agreement
from decern_jax.annotation.resolution import Conflict
from decern_jax.report.statistics import Interval


class Progress(NamedTuple):
  """How far a run is.

  Attributes:
    num_images: Images of the pool.
    num_asked: Those that people were asked about.
    num_labeled: Those that have a label.
    num_skipped: Those that all who answered skipped.
    num_rounds: Rounds that are done.
  """

  num_images: int
  num_asked: int
  num_labeled: int
  num_skipped: int
  num_rounds: int


class Score(NamedTuple):
  """What the model of a round reached on what is held out.

  Attributes:
    round: The round.
    num_labeled: Its labels.
    value: Accuracy, or macro F1, in [0, 1].
    interval: Its 95 % interval; None: not known.
  """

  round: int
  num_labeled: int
  value: float
  interval: Interval | None


class HeldOut(NamedTuple):
  """How the model got better on what is held out.

  Attributes:
    part: "test" or "val".
    metric: Name of the metric for people.
    num_images: Images of the part.
    scores: Of each round.
    gain: The last value minus the first; None before the second round.
    gain_interval: Its 95 % interval; None: not known.
  """

  part: str
  metric: str
  num_images: int
  scores: tuple[Score, ...]
  gain: float | None
  gain_interval: Interval | None


class ClassCount(NamedTuple):
  """How often a class was given.

  Attributes:
    name: The class.
    num_labels: Images with it.
  """

  name: str
  num_labels: int


class Annotator(NamedTuple):
  """What one person did.

  Attributes:
    name: Who; "" where nobody said.
    num_labeled: Images that the person labeled.
    num_skipped: Those that the person skipped.
  """

  name: str
  num_labeled: int
  num_skipped: int


class Suspect(NamedTuple):
  """A label that is likely wrong.

  Attributes:
    id: The image.
    given: The class that it was given; where it may have several, "" if it was
      given this one not.
    suggested: The class that is likelier; "" likewise.
    p_given: The probability of what was given.
    p_suggested: The probability of what is suggested.
    annotators: Who gave it.
  """

  id: str
  given: str
  suggested: str
  p_given: float
  p_suggested: float
  annotators: tuple[str, ...]


class SecondLook(NamedTuple):
  """What a model that did not see them says of the labels.

  Attributes:
    suspects: The labels that are likely wrong, the worst first.
    num_checked: Labels that were checked.
    accuracy: How many of them the model predicts right; where an image may have
      several labels, the share of all yes and no.
    unchecked: Classes of too few labels to check.
  """

  suspects: tuple[Suspect, ...]
  num_checked: int
  accuracy: float
  unchecked: tuple[str, ...]


class Copy(NamedTuple):
  """One of several images that look the same.

  Attributes:
    id: The image.
    part: "pool", or the part that is held out.
    labels: Its labels; None: it has none yet.
  """

  id: str
  part: str
  labels: tuple[str, ...] | None


class Asked(NamedTuple):
  """An image that people were asked about, and why.

  Attributes:
    round: The query.
    strategy: What chose it.
    id: The image.
    score: What the strategy ranked it by, or None.
    predictions: The likeliest classes with their probabilities.
    nearest: The labeled images next to it, with the cosine of each.
    cluster_size: Unlabeled images that are closer to it than to any other of
      the query, itself among them; None: not known.
    labels: What holds; None: no label yet.
    annotators: Who gave labels.
  """

  round: int
  strategy: str
  id: str
  score: float | None
  predictions: tuple[tuple[str, float], ...]
  nearest: tuple[tuple[str, float], ...]
  cluster_size: int | None
  labels: tuple[str, ...] | None
  annotators: tuple[str, ...]


class Findings(NamedTuple):
  """All of it.

  Attributes:
    title: Name of the data.
    progress: How far the run is.
    held_out: How the model got better; None where nothing is held out, or no
      round is done.
    second_look: What a model says of the labels; None: they are too few.
    duplicates: Groups of images that look the same.
    conflicts: Images of which people said different things.
    classes: How often each class was given.
    annotators: What each person did, by name.
    agreement: How far they agree.
    asked: What was asked, the first query first.
  """

  title: str
  progress: Progress
  held_out: HeldOut | None
  second_look: SecondLook | None
  duplicates: tuple[tuple[Copy, ...], ...]
  conflicts: tuple[Conflict, ...]
  classes: tuple[ClassCount, ...]
  annotators: tuple[Annotator, ...]
  agreement: Agreement
  asked: tuple[Asked, ...]
