"""The tables of the page, as HTML."""

import html

from decern_jax.report.markup import Cell, table
from decern_jax.report.paired import SIGNIFICANCE
from decern_jax.report.pairs import PairResult
from decern_jax.report.summary import SELECTION, StrategyResult, Summary

UNKNOWN = "–"


def results(summary: Summary) -> str:
  """Returns the table of what each strategy reached.

  A column that nothing is known for is left out.

  Args:
    summary: The numbers.
  """
  reference = summary.reference
  columns = {
    "strategy": [html.escape(r.name) for r in summary.strategies],
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
  return table("Results", list(known), list(zip(*known.values(), strict=True)))


def accuracies(summary: Summary) -> str:
  """Returns the table of accuracies at each number of labels.

  Args:
    summary: The numbers.
  """
  rows = []
  for result in summary.strategies:
    spread = result.accuracy_deviation or [None] * len(result.accuracy)
    cells = map(percent, result.accuracy, spread)
    rows.append([html.escape(result.name), *cells])
  header = ["labels", *map(str, summary.num_labeled)]
  title = f"Test {summary.metric.title} (%) at each number of labels"
  return table(title, header, rows)


def pairs(summary: Summary) -> str:
  """Returns the table of the tests between strategies.

  Args:
    summary: The numbers.
  """
  rows = [
    [
      f"{html.escape(pair.first)} − {html.escape(pair.second)}",
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
  return table("Differences of all pairs", header, rows)


def percent(share: float, spread: float | None) -> Cell:
  """Returns a share in percent, with its standard deviation if it has one.

  Args:
    share: In [0, 1].
    spread: The deviation, on the same scale; None: not known.
  """
  mean = f"{100 * share:.1f}"
  return mean if spread is None else f"{mean} ± {100 * spread:.1f}"


def points(pair: PairResult) -> Cell:
  """Returns a difference in percentage points, with its interval.

  Args:
    pair: The pair.
  """
  if pair.difference is None:
    return UNKNOWN
  mean = _signed(pair.difference)
  if pair.low is None:
    return mean
  return f"{mean} [{_signed(pair.low)}, {_signed(pair.high)}]"


def p_value(p: float | None, *, mark: bool = False) -> Cell:
  """Returns a p-value.

  Args:
    p: In [0, 1], or None.
    mark: Whether to make it bold below 0.05.
  """
  if p is None:
    return UNKNOWN
  text = "&lt; 0.001" if p < 0.001 else f"{p:.3f}"
  return f"<strong>{text}</strong>" if mark and p < SIGNIFICANCE else text


def number(value: float | None, form: str) -> Cell:
  """Returns a number, or a dash.

  Args:
    value: The number.
    form: How it is written.
  """
  return UNKNOWN if value is None else f"{value:{form}}"


def _against(summary: Summary, reference: str) -> dict[str, list[Cell]]:
  """Returns the columns that tell how strategies differ from random."""
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


def _labels(result: StrategyResult, pair: PairResult | None) -> Cell:
  """Returns the labels that a strategy needs, and how many it saves."""
  if pair is None or not pair.num_seeds:
    return UNKNOWN
  if result.labels_needed is None:
    return "not reached"
  return f"{result.labels_needed:.0f} ({result.labels_saved:.0f} saved)"


def _signed(share: float) -> str:
  """Returns a difference in percentage points, with its sign."""
  text = f"{100 * share:+.2f}".replace("-", "−")
  return text.lstrip("+−") if float(text[1:]) == 0.0 else text
