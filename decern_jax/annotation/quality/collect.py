"""From the records, queries and answers of a run to what it has found."""

import collections
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from decern_jax.annotation.answer import Answer
from decern_jax.annotation.quality import agreement, duplicates, second_look
from decern_jax.annotation.quality.findings import (
  Annotator,
  Asked,
  ClassCount,
  Copy,
  Findings,
  HeldOut,
  Progress,
  Score,
)
from decern_jax.annotation.query import Query
from decern_jax.annotation.resolution import Resolution, last_answers, resolve
from decern_jax.report import statistics
from decern_jax.runs.records import Record, metric_of

PARTS = ("test", "val")
"""What may be held out, the one that is reported first."""

POOL = "pool"


class Facts(NamedTuple):
  """What is known of a run.

  Attributes:
    title: Name of the data.
    class_names: The classes, in the order of the model's outputs.
    num_images: Images of the pool.
    queries: What was asked, the first query first.
    answers: All answers, in the order in which they came.
    records: Of the rounds that are done.
    labels_held_out: For each part that is held out, the labels of each image.
    hashes: For the pool ("pool") and each part that is held out, the hash of
      each image that was looked at.
    probs: What a model that did not see them says of the images that have a
      label, [labeled, classes]; None: they are too few.
    labeled: Ids of those images, in their order.
    is_multi_label: Whether an image may have several labels, or none.
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
  """Returns what a run has found.

  Args:
    facts: What is known of it.
  """
  held = resolve(facts.answers)
  said_by = {
    id_: tuple(answer.annotator for answer in said)
    for id_, said in last_answers(facts.answers).items()
  }
  return Findings(
    title=facts.title,
    progress=_progress(facts, held),
    held_out=_held_out(facts),
    second_look=second_look.check(
      facts.probs,
      facts.labeled,
      held.labels,
      class_names=facts.class_names,
      said_by=said_by,
      is_multi_label=facts.is_multi_label,
    ),
    duplicates=_duplicates(facts, held),
    conflicts=held.conflicts,
    classes=_classes(facts, held),
    annotators=_annotators(facts.answers),
    agreement=agreement.measure(facts.answers),
    asked=tuple(_asked(facts, held, said_by)),
  )


def _progress(facts: Facts, held: Resolution) -> Progress:
  asked = {item.id for query in facts.queries for item in query.items}
  return Progress(
    num_images=facts.num_images,
    num_asked=len(asked),
    num_labeled=len(held.labels),
    num_skipped=len(held.skipped),
    num_rounds=len(facts.records),
  )


def _held_out(facts: Facts) -> HeldOut | None:
  """Returns how the model got better on the first part that is held out."""
  part = next((name for name in PARTS if name in facts.labels_held_out), None)
  if part is None or not facts.records:
    return None
  metric, count = metric_of(facts.records[0]), len(facts.labels_held_out[part])
  scores = tuple(
    Score(
      record["round"],
      record["num_labeled"],
      record[part][metric.name],
      _interval(record, part, count),
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
  return HeldOut(part, metric.title, count, scores, gain, interval)


def _interval(
  record: Record, part: str, count: int
) -> statistics.Interval | None:
  """Returns the interval of what a round reached."""
  if "accuracy" in record[part]:
    return statistics.wilson(record[part]["accuracy"], count)
  # Of several labels the record holds it: it takes the predictions.
  found = record.get("intervals", {}).get(part)
  return None if found is None else (found[0], found[1])


def _duplicates(facts: Facts, held: Resolution) -> tuple[tuple[Copy, ...], ...]:
  """Returns the images that look the same, of all parts."""
  labels = {**facts.labels_held_out, POOL: held.labels}
  hashes = {
    (part, id_): value
    for part, of_part in facts.hashes.items()
    for id_, value in of_part.items()
  }
  found = []
  for group in duplicates.group(hashes):
    # Those of a part that is held out are another matter, unless they meet
    # images that people label.
    if any(part == POOL for part, _ in group):
      copies = (Copy(id_, part, labels[part].get(id_)) for part, id_ in group)
      found.append(tuple(copies))
  return tuple(found)


def _classes(facts: Facts, held: Resolution) -> tuple[ClassCount, ...]:
  counts = collections.Counter(
    name for names in held.labels.values() for name in names
  )
  names = dict.fromkeys([*facts.class_names, *sorted(counts)])
  return tuple(ClassCount(name, counts[name]) for name in names)


def _annotators(answers: Sequence[Answer]) -> tuple[Annotator, ...]:
  """Counts for each person the images, by the last answer to each."""
  last = {(answer.annotator, answer.id): answer for answer in answers}
  labeled, skipped = collections.Counter(), collections.Counter()
  for (name, _), answer in last.items():
    (skipped if answer.labels is None else labeled)[name] += 1
  names = sorted({*labeled, *skipped})
  return tuple(Annotator(name, labeled[name], skipped[name]) for name in names)


def _asked(
  facts: Facts, held: Resolution, said_by: Mapping[str, tuple[str, ...]]
):
  """Yields what was asked, and why."""
  for query in facts.queries:
    why = _reasons(facts.records, query.round)
    for item in query.items:
      nearest, cluster_size = why.get(item.id, ((), None))
      yield Asked(
        round=query.round,
        strategy=query.strategy,
        id=item.id,
        score=item.score,
        predictions=item.predictions,
        nearest=nearest,
        cluster_size=cluster_size,
        labels=held.labels.get(item.id),
        annotators=said_by.get(item.id, ()),
      )


def _reasons(records: Sequence[Record], round_num: int) -> dict:
  """Returns what the record of a query tells of each image, by id."""
  if not 0 < round_num <= len(records):
    return {}
  record = records[round_num - 1]
  count = len(record["selected"])
  nearest = record.get("nearest_labeled") or [()] * count
  sizes = record.get("cluster_sizes") or [None] * count
  return {
    id_: (tuple((name, cosine) for name, cosine in near), size)
    for id_, near, size in zip(record["selected"], nearest, sizes, strict=True)
  }
