"""A report as one HTML page: its notes, its tables, its settings."""

from collections.abc import Iterator, Sequence
import json
from typing import NamedTuple

from markupsafe import Markup

from decern_jax.report import markup
from decern_jax.report.comparison import REFERENCE
from decern_jax.report.gallery import Picture
from decern_jax.report.statistics import (
  MIN_SEEDS_OF_WILCOXON,
  SIGNIFICANCE,
  PairResult,
)
from decern_jax.report.summary import SELECTION, StrategyResult, Summary

UNKNOWN = "–"

# A claim about a strategy needs this many seeds, and these strategies.
MIN_SEEDS = 5
BASELINES = (REFERENCE, "margin")

# A note lists at most this many pairs or runs.
_MAX_NAMED = 6


class Table(NamedTuple):
  """A table of the page.

  Attributes:
    title: Its caption.
    header: Names of the columns.
    rows: Its cells; the first cell of a row is its name.
  """

  title: str
  header: Sequence[str]
  rows: Sequence[Sequence[str]]


def render(
  summary: Summary, notes: Sequence[str], pictures: Sequence[Picture]
) -> str:
  """Returns a report as an HTML page.

  Returns:
    The page, which has no script and refers to no other file or host.
  """
  tables = [accuracies_table(summary)]
  if summary.pairs:
    tables.append(pairs_table(summary))
  return markup.render(
    "decern_jax.report",
    "comparison.html",
    title=_title(summary),
    lead=_verdict(summary),
    facts=_facts(summary),
    results=results_table(summary),
    notes=notes,
    pictures=pictures,
    tables=tables,
    settings="\n".join(
      f"{name} = {json.dumps(value)}"
      for name, value in summary.settings.items()
    ),
  )


def _title(summary: Summary) -> str:
  """Returns the title of the page."""
  data = summary.settings.get("dataset.name", "unknown data")
  names = [result.name for result in summary.strategies]
  what = names[0] if len(names) == 1 else f"{len(names)} strategies"
  return f"Active learning on {data}: {what}"


def _verdict(summary: Summary) -> str:
  """Returns the result in a sentence."""
  best = summary.strategies[0]
  text = (
    f"{best.name} has the largest area under the learning curve:"
    f" {percent(best.aubc, best.aubc_deviation)} %"
  )
  reference = summary.reference
  if reference is None or best.name == reference:
    return f"{text}."
  pair = summary.pair(best.name, reference)
  if pair.difference is None:
    return f"{text}."
  text += f", {100 * pair.difference:.1f} points above {reference}"
  if pair.low is None or pair.high is None or pair.holm_p is None:
    return f"{text}; too few seeds for a test."
  return (
    f"{text} (95 % interval {100 * pair.low:.1f} to {100 * pair.high:.1f}, Holm"
    f" p {'<' if pair.holm_p < 0.001 else '='} {max(pair.holm_p, 0.001):.3f})."
  )


def _facts(summary: Summary) -> list[tuple[str, str]]:
  """Returns the data, model and settings that the runs share."""
  settings, data = summary.settings, summary.data
  name = settings.get("dataset.name")
  path = settings.get("dataset.path")
  sizes = [
    f"{data[split].split(' examples')[0]} {split}"
    for split in ("train", "val", "test")
    if " examples" in data.get(split, "")
  ]
  source = f"{name}, {path}" if path else f"{name}"
  classes = f"{len(data.get('class_names', ()))} classes"
  kind = "frozen features" if summary.is_frozen else "fine-tuned"
  scope = settings.get("train.scope")
  facts = [
    ("Data", "; ".join([source, classes, *sizes])),
    ("Model", f"{settings.get('model.name')}, {settings.get('model.weights')}"),
    ("Training", f"{kind} (train.scope={scope})" if scope else kind),
    ("Strategies", ", ".join(result.name for result in summary.strategies)),
    ("Labels", ", ".join(map(str, summary.num_labeled))),
    ("Seeds", ", ".join(map(str, summary.seeds))),
  ]
  if (bound := summary.upper_bound) is not None:
    accuracy = percent(bound.accuracy, bound.accuracy_deviation)
    seeds = ", ".join(map(str, bound.seeds))
    text = f"{accuracy} % with all {bound.num_labeled} labels (seeds {seeds})"
    facts.append(("Upper bound", text))
  return facts


def notes_on(summary: Summary) -> list[str]:
  """Returns the limits of a comparison, such as what could not be tested.

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
      "Frozen features: only the linear head was trained. Do not compare these"
      " numbers with those of fine-tuned backbones."
    )
  return (
    "Fine-tuned: the backbone was trained too (train.scope is"
    f" {summary.settings['train.scope']!r}). Do not compare these numbers with"
    " those of frozen features."
  )


def _on_strategies(summary: Summary) -> Iterator[str]:
  bases = {result.name.split(" ")[0] for result in summary.strategies}
  missing = [name for name in BASELINES if name not in bases]
  if missing:
    yield (
      f"Not compared: {_join(missing)}. A claim about a strategy needs a"
      f" comparison with {_join(BASELINES)}."
    )
  if summary.reference is None:
    yield (
      f"Without {REFERENCE}, differences to it and the number of labels saved"
      " are unknown."
    )
  if summary.unfinished:
    yield f"Left out, because not finished: {_join(summary.unfinished)}."


def _on_seeds(summary: Summary) -> Iterator[str]:
  seeds = set(summary.seeds)
  for result in summary.strategies:
    missing = sorted(seeds - set(result.seeds))
    if missing:
      yield (
        f"{result.name} lacks {_join(missing, 'seed')}: its mean is over its"
        " own seeds, and each difference is over the seeds of both strategies."
      )
  if len(seeds) < MIN_SEEDS:
    yield (
      f"Only {len(seeds)} seed{'s' * (len(seeds) > 1)}: a claim needs at least"
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
      f"Equal in every seed: {_join_pairs(equal)}. The t-test is then not"
      " defined, and p is shown as 1."
    )
  if any(pair.wilcoxon_p is None for pair in summary.pairs):
    yield (
      "There is no signed-rank test with fewer than"
      f" {MIN_SEEDS_OF_WILCOXON} common seeds, because its p could not be below"
      " 0.05."
    )


def _is_equal(pair: PairResult) -> bool:
  """Whether two strategies were tested and never differed."""
  return pair.low == pair.high == 0.0


def _join_pairs(pairs: list[PairResult]) -> str:
  return _join([f"{pair.first} and {pair.second}" for pair in pairs], sep="; ")


def _join(items: Sequence[object], noun: str = "", *, sep: str = ", ") -> str:
  """Joins the first few items, and the number of the others."""
  shown = sep.join(map(str, items[:_MAX_NAMED]))
  more = len(items) - _MAX_NAMED
  if more > 0:
    shown += f"{sep}and {more} more"
  plural = "s" if len(items) > 1 else ""
  return f"{noun}{plural} {shown}" if noun else shown


def results_table(summary: Summary) -> Table:
  """Returns the table of results, a row per strategy.

  Columns without a known value are left out.
  """
  reference = summary.reference
  columns = {
    "strategy": [r.name for r in summary.strategies],
    "AUBC (%)": [percent(r.aubc, r.aubc_deviation) for r in summary.strategies],
    f"final {summary.metric.title} (%)": [
      percent(r.accuracy[-1], (r.accuracy_deviation or [None])[-1])
      for r in summary.strategies
    ],
    f"final {summary.metric.second_title} (%)": [
      percent(r.balanced_accuracy[-1], None) if r.balanced_accuracy else UNKNOWN
      for r in summary.strategies
    ],
    **(_against(summary, reference) if reference else {}),
    "penalty": [number(r.penalty, ".2f") for r in summary.strategies],
    "selection (s per round)": [
      number(r.seconds.get(SELECTION), ".3g") for r in summary.strategies
    ],
  }
  known = {
    name: cells
    for name, cells in columns.items()
    if any(cell != UNKNOWN for cell in cells)
  }
  return Table("Results", list(known), list(zip(*known.values(), strict=True)))


def accuracies_table(summary: Summary) -> Table:
  """Returns the table of accuracies at each number of labels."""
  rows = []
  for result in summary.strategies:
    spread = result.accuracy_deviation or [None] * len(result.accuracy)
    cells = map(percent, result.accuracy, spread)
    rows.append([result.name, *cells])
  header = ["labels", *map(str, summary.num_labeled)]
  title = f"Test {summary.metric.title} (%) at each number of labels"
  return Table(title, header, rows)


def pairs_table(summary: Summary) -> Table:
  """Returns the table of the tests between strategies."""
  rows = [
    [
      f"{pair.first} − {pair.second}",
      str(pair.num_seeds),
      points(pair),
      p_value(pair.t_test_p),
      p_value(pair.holm_p, mark=True),
      p_value(pair.wilcoxon_p),
    ]
    for pair in summary.pairs
  ]
  header = [
    "pair",
    "seeds",
    "AUBC difference",
    "t-test p",
    "Holm p",
    "Wilcoxon p",
  ]
  return Table("Differences of all pairs", header, rows)


def percent(share: float, spread: float | None) -> str:
  """Returns a share in percent, with its standard deviation if it has one.

  Args:
    share: In [0, 1].
    spread: The deviation, on the same scale; None if not known.
  """
  mean = f"{100 * share:.1f}"
  return mean if spread is None else f"{mean} ± {100 * spread:.1f}"


def points(pair: PairResult) -> str:
  """Returns a difference in percentage points, with its interval."""
  if pair.difference is None:
    return UNKNOWN
  mean = _signed(pair.difference)
  if pair.low is None or pair.high is None:
    return mean
  return f"{mean} [{_signed(pair.low)}, {_signed(pair.high)}]"


def p_value(p: float | None, *, mark: bool = False) -> str:
  """Returns a p-value.

  Args:
    p: In [0, 1], or None.
    mark: Whether to make it bold below 0.05.
  """
  if p is None:
    return UNKNOWN
  text = "< 0.001" if p < 0.001 else f"{p:.3f}"
  bold = Markup("<strong>{}</strong>")
  return bold.format(text) if mark and p < SIGNIFICANCE else text


def number(value: float | None, form: str) -> str:
  """Returns a number, or a dash."""
  return UNKNOWN if value is None else f"{value:{form}}"


def _against(summary: Summary, reference: str) -> dict[str, list[str]]:
  """Returns the columns of differences to the reference strategy."""
  others = [
    None if r.name == reference else summary.pair(r.name, reference)
    for r in summary.strategies
  ]
  return {
    f"AUBC difference to {reference}": [
      points(pair) if pair else UNKNOWN for pair in others
    ],
    "Holm p": [
      p_value(pair.holm_p, mark=True) if pair else UNKNOWN for pair in others
    ],
    f"labels to reach {reference}'s last {summary.metric.title}": [
      UNKNOWN if r.name == reference else _labels(r, pair)
      for r, pair in zip(summary.strategies, others, strict=True)
    ],
  }


def _labels(result: StrategyResult, pair: PairResult | None) -> str:
  """Returns how many labels a strategy needs, and how many it saves."""
  if pair is None or not pair.num_seeds:
    return UNKNOWN
  if result.labels_needed is None:
    return "not reached"
  return f"{result.labels_needed:.0f} ({result.labels_saved:.0f} saved)"


def _signed(share: float) -> str:
  """Returns a difference in percentage points, with its sign."""
  text = f"{100 * share:+.2f}".replace("-", "−")
  return text.lstrip("+−") if float(text[1:]) == 0.0 else text
