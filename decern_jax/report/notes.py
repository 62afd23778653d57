"""What a reader of a report must know: what is missing, and why."""

from collections.abc import Iterator, Sequence

from decern_jax.report.comparison import REFERENCE
from decern_jax.report.paired import MIN_SEEDS_OF_WILCOXON
from decern_jax.report.pairs import PairResult
from decern_jax.report.summary import Summary

# What claims are to be made with.
MIN_SEEDS = 5
BESIDE_CLAIMS = (REFERENCE, "margin")

# Pairs and runs that one note names.
_MAX_NAMED = 6


def notes_on(summary: Summary) -> list[str]:
  """Returns what could not be tested and what else limits a comparison.

  Args:
    summary: The numbers of the report.

  Returns:
    A sentence or two for each limit, as plain text.
  """
  return [
    _on_training(summary),
    *_on_strategies(summary),
    *_on_seeds(summary),
    *_on_tests(summary),
  ]


def _on_training(summary: Summary) -> str:
  if summary.is_frozen:
    return (
      "Frozen features: the backbone stayed as it was pretrained, and only the"
      " linear head was trained. Do not put these numbers beside fine-tuned"
      " ones."
    )
  return (
    "Fine-tuned: the backbone was trained too (train.scope is"
    f" {summary.settings['train.scope']!r}). Do not put these numbers beside"
    " those of frozen features."
  )


def _on_strategies(summary: Summary) -> Iterator[str]:
  bases = {result.name.split(" ")[0] for result in summary.strategies}
  missing = [name for name in BESIDE_CLAIMS if name not in bases]
  if missing:
    yield (
      f"Not compared: {_join(missing)}. A claim about a strategy needs"
      f" {_join(BESIDE_CLAIMS)} beside it."
    )
  if summary.reference is None:
    yield (
      f"Without {REFERENCE} there is no difference to it, and no number of"
      " labels saved."
    )
  if summary.unfinished:
    yield f"Left out, because not finished: {_join(summary.unfinished)}."


def _on_seeds(summary: Summary) -> Iterator[str]:
  seeds = set(summary.seeds)
  for result in summary.strategies:
    missing = sorted(seeds - set(result.seeds))
    if missing:
      yield (
        f"{result.name} lacks {_join(missing, 'seed')}: its mean is over the"
        " seeds it has, its differences over those it has in common with the"
        " other strategy."
      )
  if len(seeds) < MIN_SEEDS:
    yield (
      f"{len(seeds)} seed{'s' * (len(seeds) > 1)} only: a claim needs at least"
      f" {MIN_SEEDS}."
    )


def _on_tests(summary: Summary) -> Iterator[str]:
  untested = [pair for pair in summary.pairs if pair.t_test_p is None]
  if untested:
    yield (
      f"No test, interval or penalty for {_join_pairs(untested)}: a test needs"
      " 2 seeds that both strategies have. The correction for the number of"
      " pairs leaves them out."
    )
  equal = [pair for pair in summary.pairs if _is_equal(pair)]
  if equal:
    yield (
      f"Equal in every seed: {_join_pairs(equal)}. The t-test has no value"
      " then; p is given as 1."
    )
  if any(pair.wilcoxon_p is None for pair in summary.pairs):
    yield (
      f"The signed-rank test is left out below {MIN_SEEDS_OF_WILCOXON} common"
      " seeds, where its p cannot be under 0.05."
    )


def _is_equal(pair: PairResult) -> bool:
  """Says whether two strategies were tested and never differed."""
  return pair.low == pair.high == 0.0


def _join_pairs(pairs: list[PairResult]) -> str:
  return _join([f"{pair.first} and {pair.second}" for pair in pairs], sep="; ")


def _join(items: Sequence[object], noun: str = "", *, sep: str = ", ") -> str:
  """Joins what is named, of much the first few and a count."""
  shown = sep.join(map(str, items[:_MAX_NAMED]))
  more = len(items) - _MAX_NAMED
  if more > 0:
    shown += f"{sep}and {more} more"
  plural = "s" if len(items) > 1 else ""
  return f"{noun}{plural} {shown}" if noun else shown
