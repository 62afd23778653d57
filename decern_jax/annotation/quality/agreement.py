"""Measures how far people agree."""

import collections
from collections.abc import Hashable, Iterable, Sequence
import itertools
from typing import NamedTuple

from decern_jax.annotation.state import Answer, last_answers


class Pair(NamedTuple):
  """The agreement of two people.

  Attributes:
    first: The name of one person.
    second: The name of the other.
    num_images: Images that both labeled.
    num_same: Images that both gave the same labels.
  """

  first: str
  second: str
  num_images: int
  num_same: int


class Agreement(NamedTuple):
  """The agreement of all people.

  Attributes:
    num_images: Images that two people or more labeled.
    num_same: Images that all of them gave the same labels.
    alpha: Krippendorff's alpha, at most 1. None if it is not defined, because
      there are no such images, or all of them have the same labels.
    pairs: The pairs of people who labeled an image in common, sorted by name.
  """

  num_images: int
  num_same: int
  alpha: float | None
  pairs: tuple[Pair, ...]


def measure(answers: Iterable[Answer]) -> Agreement:
  """Measures how far people agree.

  Only the last answer of each person counts, and skips do not. Where images may
  have several labels, two answers agree if they have the same set of labels.

  Args:
    answers: All answers, in the order in which they arrived.
  """
  given = [
    [(a.annotator, tuple(sorted(a.labels or ()))) for a in said]
    for said in last_answers(answers).values()
    if len(said) > 1
  ]
  values = [[labels for _, labels in said] for said in given]
  return Agreement(
    num_images=len(given),
    num_same=sum(len(set(said)) == 1 for said in values),
    alpha=krippendorff_alpha(values),
    pairs=_pairs(given),
  )


def krippendorff_alpha(units: Iterable[Sequence[Hashable]]) -> float | None:
  """Computes Krippendorff's alpha of nominal values.

  1 - (observed disagreement) / (disagreement expected by chance): 1 is perfect
  agreement, 0 is chance. Units with a single value do not count.

  Args:
    units: The values that each unit was given.

  Returns:
    Alpha, or None if fewer than two different values were given.

  References:
    Krippendorff, "Content Analysis", 4th edition, 2018, chapter 12.
  """
  units = [values for values in units if len(values) > 1]
  totals = collections.Counter(itertools.chain.from_iterable(units))
  size = sum(totals.values())
  chance = size**2 - sum(count**2 for count in totals.values())
  if not chance:
    return None
  observed = 0.0
  for values in units:
    counts = collections.Counter(values).values()
    differing = len(values) ** 2 - sum(count**2 for count in counts)
    observed += differing / (len(values) - 1)
  return 1.0 - (size - 1) * observed / chance


def _pairs(
  given: Iterable[Sequence[tuple[str, tuple[str, ...]]]],
) -> tuple[Pair, ...]:
  both, same = collections.Counter(), collections.Counter()
  for said in given:
    for (one, first), (two, second) in itertools.combinations(sorted(said), 2):
      both[one, two] += 1
      same[one, two] += first == second
  return tuple(
    Pair(one, two, both[one, two], same[one, two]) for one, two in sorted(both)
  )
