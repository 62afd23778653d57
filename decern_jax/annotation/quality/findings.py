"""The findings of a run with people, from its records, queries and answers."""

import collections
from collections.abc import Iterator, Mapping, Sequence
import dataclasses
from typing import NamedTuple

import numpy as np

from decern_jax.annotation.quality import agreement, duplicates, label_errors
from decern_jax.annotation.quality.agreement import Agreement
from decern_jax.annotation.quality.label_errors import LabelCheck
from decern_jax.annotation.query import Query
from decern_jax.annotation.state import (
  Answer,
  Conflict,
  Resolution,
  last_answers,
  resolve,
)
from decern_jax.report import statistics
from decern_jax.report.statistics import Interval
from decern_jax.runs.records import Record, metric_of

HELD_OUT = ("test", "val")
"""The splits that may be held out. The first of them is reported."""

POOL = "pool"


class Progress(NamedTuple):
  """The progress of a run.

  Attributes:
    num_images: Images of the pool.
    num_asked: Images that were ever queried.
    num_labeled: Images with a label.
    num_skipped: Images that everybody who answered skipped.
    num_rounds: Finished rounds.
  """

  num_images: int
  num_asked: int
  num_labeled: int
  num_skipped: int
  num_rounds: int


class Score(NamedTuple):
  """The held-out score of one round.

  Attributes:
    round: The round.
    num_labeled: Number of labels that it trained on.
    value: Accuracy, or macro F1, in [0, 1].
    interval: 95 % interval of the value, or None if unknown.
  """

  round: int
  num_labeled: int
  value: float
  interval: Interval | None


class HeldOut(NamedTuple):
  """The scores of all rounds on a held-out split.

  Attributes:
    split: "test" or "val".
    metric: Name of the metric for readers.
    num_images: Images of the split.
    scores: The score of each round.
    gain: The last value minus the first, or None before the second round.
    gain_interval: 95 % interval of the gain, or None if unknown.
  """

  split: str
  metric: str
  num_images: int
  scores: tuple[Score, ...]
  gain: float | None
  gain_interval: Interval | None


class ClassCount(NamedTuple):
  """Number of images with a class.

  Attributes:
    name: The class.
    num_labels: Images with it.
  """

  name: str
  num_labels: int


class Annotator(NamedTuple):
  """The work of one person.

  Attributes:
    name: Name of the person, or "" if unknown.
    num_labeled: Images that the person labeled.
    num_skipped: Images that the person skipped.
  """

  name: str
  num_labeled: int
  num_skipped: int


class Copy(NamedTuple):
  """One of several images that look the same.

  Attributes:
    id: Id of the image.
    split: "pool", or the held-out split of the image.
    labels: The labels of the image, or None if it has none yet.
  """

  id: str
  split: str
  labels: tuple[str, ...] | None


class Asked(NamedTuple):
  """An image of a query, and why it was selected.

  Attributes:
    round: Round of the query.
    strategy: Name of the strategy that selected it.
    id: Id of the image.
    score: Score that the strategy ranked it by, or None.
    predictions: Names and probabilities of the likeliest classes.
    nearest: Ids of the most similar labeled images, and the cosines.
    cluster_size: Number of unlabeled images, itself included, that are more
      similar to it than to any other image of the query; None if unknown.
    labels: The labels of the image, or None if it has none yet.
    annotators: The people who labeled it.
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
  """All findings of a run.

  Attributes:
    title: Name of the data.
    progress: How far the run is.
    held_out: The scores of the rounds, or None if nothing is held out or no
      round is finished.
    label_check: Labels that are likely wrong, or None if there are too few
      labels.
    duplicates: Groups of images that look the same.
    conflicts: Images about which people disagree.
    classes: Number of images with each class.
    annotators: The work of each person, sorted by name.
    agreement: How far people agree.
    asked: The images of all queries, in order.
  """

  title: str
  progress: Progress
  held_out: HeldOut | None
  label_check: LabelCheck | None
  duplicates: tuple[tuple[Copy, ...], ...]
  conflicts: tuple[Conflict, ...]
  classes: tuple[ClassCount, ...]
  annotators: tuple[Annotator, ...]
  agreement: Agreement
  asked: tuple[Asked, ...]


@dataclasses.dataclass(frozen=True)
class Facts:
  """Everything that the findings follow from.

  Attributes:
    title: Name of the data.
    class_names: The classes, in the order of the model's outputs.
    num_images: Images of the pool.
    queries: All queries, in order.
    answers: All answers, in the order in which they arrived.
    records: The records of the finished rounds.
    labels_held_out: By held-out split, the labels of each image by id.
    hashes: By split, the perceptual hash of each image that was hashed.
    probs: float [labeled, classes], out-of-sample predictions of the labeled
      images, or None if there are too few of them.
    labeled: Ids of the labeled images, in the order of `probs`.
    is_multi_label: Whether an image may have any number of labels.
  """

  title: str
  class_names: tuple[str, ...]
  num_images: int
  queries: tuple[Query, ...]
  answers: tuple[Answer, ...]
  records: tuple[Record, ...]
  labels_held_out: Mapping[str, Mapping[str, tuple[str, ...]]]
  hashes: Mapping[str, Mapping[str, int]]
  probs: np.ndarray | None
  labeled: tuple[str, ...]
  is_multi_label: bool


def collect(facts: Facts) -> Findings:
  """Derives the findings of a run."""
  resolved = resolve(facts.answers)
  annotators = {
    id_: tuple(answer.annotator for answer in said)
    for id_, said in last_answers(facts.answers).items()
  }
  return Findings(
    title=facts.title,
    progress=_progress(facts, resolved),
    held_out=_held_out(facts),
    label_check=label_errors.check_labels(
      facts.probs,
      facts.labeled,
      resolved.labels,
      class_names=facts.class_names,
      annotators=annotators,
      is_multi_label=facts.is_multi_label,
    ),
    duplicates=_duplicates(facts, resolved),
    conflicts=resolved.conflicts,
    classes=_classes(facts, resolved),
    annotators=_annotators(facts.answers),
    agreement=agreement.measure(facts.answers),
    asked=tuple(_asked(facts, resolved, annotators)),
  )


def _progress(facts: Facts, resolved: Resolution) -> Progress:
  asked = {item.id for query in facts.queries for item in query.items}
  return Progress(
    num_images=facts.num_images,
    num_asked=len(asked),
    num_labeled=len(resolved.labels),
    num_skipped=len(resolved.skipped),
    num_rounds=len(facts.records),
  )


def _held_out(facts: Facts) -> HeldOut | None:
  split = next(
    (name for name in HELD_OUT if name in facts.labels_held_out), None
  )
  if split is None or not facts.records:
    return None
  metric, count = metric_of(facts.records[0]), len(facts.labels_held_out[split])
  scores = tuple(
    Score(
      record["round"],
      record["num_labeled"],
      record[split][metric.name],
      _interval(record, split, count),
    )
    for record in facts.records
  )
  first, last = scores[0], scores[-1]
  gain, interval = None, None
  if len(scores) > 1:
    gain = last.value - first.value
    if first.interval and last.interval:
      interval = statistics.interval_of_difference(
        last.value, last.interval, first.value, first.interval
      )
  return HeldOut(split, metric.title, count, scores, gain, interval)


def _interval(record: Record, split: str, count: int) -> Interval | None:
  """Returns the interval of the score of a round."""
  if "accuracy" in record[split]:
    return statistics.wilson(record[split]["accuracy"], count)
  # The interval of macro F1 needs the predictions, so the round records it.
  found = record.get("intervals", {}).get(split)
  return None if found is None else (found[0], found[1])


def _duplicates(
  facts: Facts, resolved: Resolution
) -> tuple[tuple[Copy, ...], ...]:
  """Groups the images of all splits that look the same."""
  labels = {**facts.labels_held_out, POOL: resolved.labels}
  hashes = {
    (split, id_): value
    for split, of_split in facts.hashes.items()
    for id_, value in of_split.items()
  }
  # Copies that are all held out do not concern the labels of people.
  return tuple(
    tuple(Copy(id_, split, labels[split].get(id_)) for split, id_ in group)
    for group in duplicates.group(hashes)
    if any(split == POOL for split, _ in group)
  )


def _classes(facts: Facts, resolved: Resolution) -> tuple[ClassCount, ...]:
  counts = collections.Counter(
    name for names in resolved.labels.values() for name in names
  )
  names = dict.fromkeys([*facts.class_names, *sorted(counts)])
  return tuple(ClassCount(name, counts[name]) for name in names)


def _annotators(answers: Sequence[Answer]) -> tuple[Annotator, ...]:
  """Counts the images of each person, by the last answer to each image."""
  last = {(answer.annotator, answer.id): answer for answer in answers}
  labeled, skipped = collections.Counter(), collections.Counter()
  for (name, _), answer in last.items():
    (skipped if answer.labels is None else labeled)[name] += 1
  names = sorted({*labeled, *skipped})
  return tuple(Annotator(name, labeled[name], skipped[name]) for name in names)


def _asked(
  facts: Facts, resolved: Resolution, annotators: Mapping[str, tuple[str, ...]]
) -> Iterator[Asked]:
  for query in facts.queries:
    reasons = _reasons(facts.records, query.round)
    for item in query.items:
      nearest, cluster_size = reasons.get(item.id, ((), None))
      yield Asked(
        round=query.round,
        strategy=query.strategy,
        id=item.id,
        score=item.score,
        predictions=item.predictions,
        nearest=nearest,
        cluster_size=cluster_size,
        labels=resolved.labels.get(item.id),
        annotators=annotators.get(item.id, ()),
      )


def _reasons(
  records: Sequence[Record], round_num: int
) -> dict[str, tuple[tuple[tuple[str, float], ...], int | None]]:
  """Returns the nearest images and cluster size of each image of a query."""
  # The query of a round was selected in the previous round.
  if not 0 < round_num <= len(records):
    return {}
  record = records[round_num - 1]
  ids: list[str] = record["selected"]
  nearest: list[list] = record.get("nearest_labeled") or [[]] * len(ids)
  sizes: list = record.get("cluster_sizes") or [None] * len(ids)
  return {
    id_: (tuple((name, cosine) for name, cosine in near), size)
    for id_, near, size in zip(ids, nearest, sizes, strict=True)
  }
