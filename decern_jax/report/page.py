"""A report as one HTML page that needs nothing beside it."""

from collections.abc import Iterator, Sequence
import html
import json

from decern_jax.report import markup, page_tables
from decern_jax.report.gallery import Picture
from decern_jax.report.summary import Summary

_DEFINITIONS = (
  (
    "AUBC",
    "Area under the curve of the test metric over the number of labels"
    " (trapezoids), divided by the last number of labels minus the first.",
  ),
  ("±", "Standard deviation over seeds, n − 1 in its denominator."),
  (
    "Difference",
    "Mean of the differences between runs of the same seed, in percentage"
    " points, with its 95 % interval of Student's t.",
  ),
  (
    "p",
    "Two-sided paired t-test; Holm: corrected for the number of pairs, bold"
    " below 0.05; Wilcoxon: signed ranks, not corrected.",
  ),
  (
    "Labels to reach",
    "Labels at which the mean curve, straight between rounds, reaches random's"
    " last value.",
  ),
  (
    "Penalty",
    "Share of the numbers of labels at which another strategy is better with"
    " p < 0.05: the mean over all strategies, itself counted as 0. Lower is"
    " better.",
  ),
  (
    "Selection",
    "Time of choosing images, without training.",
  ),
)


def render(
  summary: Summary, notes: Sequence[str], pictures: Sequence[Picture]
) -> str:
  """Returns a report as an HTML page.

  Args:
    summary: The numbers.
    notes: What a reader must know, as plain text.
    pictures: The pictures, which the page then holds itself.

  Returns:
    The page: no script, no reference to another file or host.
  """
  sections = (
    ("What was compared", _facts(summary)),
    ("Results", page_tables.results(summary)),
    ("Notes", markup.bullets(notes)),
    ("Figures", "".join(map(markup.figure, pictures))),
    ("All numbers", _numbers(summary)),
    ("How to read", markup.description_list(_DEFINITIONS)),
    ("Settings", _settings(summary)),
  )
  return markup.document(_title(summary), _verdict(summary), sections)


def _title(summary: Summary) -> str:
  """Returns what the page is about."""
  data = summary.settings.get("dataset.name", "unknown data")
  names = [result.name for result in summary.strategies]
  what = names[0] if len(names) == 1 else f"{len(names)} strategies"
  return f"Active learning on {data}: {what}"


def _verdict(summary: Summary) -> str:
  """Returns the result in a sentence."""
  best = summary.strategies[0]
  text = (
    f"{best.name} has the largest area under the learning curve:"
    f" {page_tables.percent(best.aubc, best.aubc_deviation)} %"
  )
  reference = summary.reference
  if reference is None or best.name == reference:
    return f"{text}."
  pair = summary.pair(best.name, reference)
  if pair.difference is None:
    return f"{text}."
  text += f", {100 * pair.difference:.1f} points above {reference}"
  if pair.low is None:
    return f"{text}; too few seeds for a test."
  return (
    f"{text} (95 % interval {100 * pair.low:.1f} to {100 * pair.high:.1f}, Holm"
    f" p {'<' if pair.holm_p < 0.001 else '='} {max(pair.holm_p, 0.001):.3f})."
  )


def _facts(summary: Summary) -> str:
  """Returns what the runs share."""
  settings, data = summary.settings, summary.data
  name = settings.get("dataset.name")
  path = settings.get("dataset.path")
  sizes = [
    f"{data[part].split(' examples')[0]} {part}"
    for part in ("train", "val", "test")
    if " examples" in data.get(part, "")
  ]
  source = f"{name}, {path}" if path else f"{name}"
  classes = f"{len(data.get('class_names', ()))} classes"
  kind = "frozen features" if summary.is_frozen else "fine-tuned"
  scope = settings.get("train.scope")
  facts = (
    ("Data", "; ".join([source, classes, *sizes])),
    ("Model", f"{settings.get('model.name')}, {settings.get('model.weights')}"),
    ("Training", f"{kind} (train.scope={scope})" if scope else kind),
    ("Strategies", ", ".join(result.name for result in summary.strategies)),
    ("Labels", ", ".join(map(str, summary.num_labeled))),
    ("Seeds", ", ".join(map(str, summary.seeds))),
    *_upper_bound(summary),
  )
  return markup.description_list(facts)


def _upper_bound(summary: Summary) -> Iterator[tuple[str, str]]:
  """Yields what all labels reach, if that is known."""
  bound = summary.upper_bound
  if bound is not None:
    accuracy = page_tables.percent(bound.accuracy, bound.accuracy_deviation)
    seeds = ", ".join(map(str, bound.seeds))
    yield (
      "Upper bound",
      f"{accuracy} % with all {bound.num_labeled} labels (seeds {seeds})",
    )


def _numbers(summary: Summary) -> str:
  """Returns the tables behind the results."""
  pairs = page_tables.pairs(summary) if summary.pairs else ""
  return page_tables.accuracies(summary) + pairs


def _settings(summary: Summary) -> str:
  """Returns all settings that the runs share, folded."""
  lines = (f"{k} = {json.dumps(v)}" for k, v in summary.settings.items())
  text = html.escape("\n".join(lines))
  return (
    "<details>\n<summary>All settings that the runs share</summary>\n"
    f"<pre>{text}</pre>\n</details>\n"
  )
