"""How the areas under learning curves differ between all strategies."""

from collections.abc import Mapping, Sequence
import dataclasses

from decern_jax.report import paired


@dataclasses.dataclass(frozen=True)
class PairResult:
  """How the area under the learning curve differs between two strategies.

  Attributes:
    first: One strategy.
    second: The other.
    num_seeds: Seeds that both have.
    difference: Mean of first minus second; None without a common seed.
    low: Lower end of its 95 % interval; None below 2 seeds.
    high: Upper end.
    t_test_p: Of the two-sided paired t-test; None below 2 seeds.
    holm_p: The same, corrected for the number of pairs.
    wilcoxon_p: Of the signed-rank test, uncorrected; None below 6 seeds.
  """

  first: str
  second: str
  num_seeds: int
  difference: float | None
  low: float | None
  high: float | None
  t_test_p: float | None
  holm_p: float | None
  wilcoxon_p: float | None

  def flipped(self) -> "PairResult":
    """Returns the pair with its strategies exchanged."""
    low, high = _negative(self.high), _negative(self.low)
    return dataclasses.replace(
      self,
      first=self.second,
      second=self.first,
      difference=_negative(self.difference),
      low=low,
      high=high,
    )


def compare_pairs(
  names: Sequence[str], areas: Mapping[str, Mapping[int, float]]
) -> list[PairResult]:
  """Tests all pairs of strategies, and corrects for their number.

  Args:
    names: The strategies; a pair has the earlier one first.
    areas: For each strategy, its areas by seed.

  Returns:
    All pairs. Those of fewer than 2 common seeds are not tested, and do not
    count in the correction.
  """
  found = {
    (first, second): paired.paired_difference(areas[first], areas[second])
    for position, first in enumerate(names)
    for second in names[position + 1 :]
  }
  tested = [key for key, pair in found.items() if pair.t_test_p is not None]
  corrected = paired.holm([found[key].t_test_p for key in tested])
  holm_p = dict(zip(tested, corrected, strict=True))
  return [
    PairResult(
      first=first,
      second=second,
      num_seeds=pair.num_seeds,
      difference=pair.mean,
      low=pair.low,
      high=pair.high,
      t_test_p=pair.t_test_p,
      holm_p=holm_p.get((first, second)),
      wilcoxon_p=pair.wilcoxon_p,
    )
    for (first, second), pair in found.items()
  ]


def _negative(value: float | None) -> float | None:
  return None if value is None else -value
