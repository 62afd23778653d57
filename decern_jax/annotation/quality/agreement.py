"""How far the people who label agree."""

import collections
from collections.abc import Iterable, Sequence
import itertools
from typing import NamedTuple

from decern_jax.annotation.answer import Answer
from decern_jax.annotation.resolution import last_answers


class Pair(NamedTuple):
  """What two people have in common.

  Attributes:
    first: One.
    second: The other.
    num_images: Images that both labeled.
    num_same: Those that they gave the same labels.
  """

  first: str
  second: str
  num_images: int
  num_same: int


class Agreement(NamedTuple):
  """How far people agree.

  Attributes:
    num_images: Images that two people or more labeled.
    num_same: Those that all of them gave the same labels.
    alpha: Krippendorff's alpha, at most 1; None where nobody or everybody said
      the same of every image, so that chance has no share.
    pairs: Those who have an image in common, by name.
  """

  num_images: int
  num_same: int
  alpha: float | None
  pairs: tuple[Pair, ...]


def measure(answers: Iterable[Answer]) -> Agreement:
  """Measures how far people agree.

  The last answer of each person counts, and skips do not. Where an image may
  have several labels, two answers are the same if all of them are.

  Args:
    answers: All answers, in the order in which they came.

  Returns:
    The agreement.
  """
  given = [
    [(a.annotator, tuple(sorted(a.labels))) for a in said]
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


def krippendorff_alpha(units: Iterable[Sequence]) -> float | None:
  """Returns Krippendorff's alpha of nominal values.

  1 - (observed disagreement) / (that expected by chance): 1 is perfect, 0 is
  chance. Units that one person judged alone count for nothing.

  Args:
    units: The values that each unit was given, hashable.

  Returns:
    Alpha, or None where there is only one value, or none.

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


def _pairs(given: Iterable[Sequence[tuple[str, tuple[str, ...]]]]):
  """Counts for each two people what they have in common."""
  both, same = collections.Counter(), collections.Counter()
  for said in given:
    for (one, first), (two, second) in itertools.combinations(sorted(said), 2):
      both[one, two] += 1
      same[one, two] += first == second
  return tuple(Pair(*names, both[names], same[names]) for names in sorted(both))
