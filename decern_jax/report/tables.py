"""The numbers of a report as CSV and JSON files."""

from collections.abc import Iterator, Sequence
import csv
import dataclasses
import io
import json

from etils import epath

from decern_jax.io import storage
from decern_jax.report.summary import Summary

ACCURACY_FILE = "accuracy.csv"
SUMMARY_FILE = "summary.csv"
PAIRS_FILE = "pairs.csv"
JSON_FILE = "report.json"

Row = Sequence[object]


def write(
  summary: Summary, notes: Sequence[str], folder: epath.PathLike
) -> None:
  """Writes the numbers of a report; each file appears whole or not at all.

  Shares are in [0, 1], numbers are written so that they read back equal, and
  what is not known is an empty field, or null in JSON.

  Args:
    summary: The numbers.
    notes: What a reader must know, for the JSON file.
    folder: Where `report.json`, `accuracy.csv` (a row per strategy and number
      of labels), `summary.csv` (a row per strategy) and `pairs.csv` (a row per
      pair of strategies) go.
  """
  folder = storage.as_path(folder)
  content = {**dataclasses.asdict(summary), "notes": list(notes)}
  text = json.dumps(content, indent=2, allow_nan=False) + "\n"
  write_text(folder / JSON_FILE, text)
  for name, rows in (
    (ACCURACY_FILE, accuracy_rows(summary)),
    (SUMMARY_FILE, summary_rows(summary)),
    (PAIRS_FILE, pair_rows(summary)),
  ):
    file = io.StringIO()
    csv.writer(file).writerows(rows)
    write_text(folder / name, file.getvalue())


def write_text(path: epath.Path, text: str) -> None:
  """Writes a file, which appears whole or not at all.

  Args:
    path: The file; one that exists is replaced.
    text: Its content, written as UTF-8.
  """
  # The name of a file may be no valid text; its bytes are kept.
  content = text.encode("utf-8", errors="surrogateescape")
  storage.write_atomically(path, content)


def accuracy_rows(summary: Summary) -> Iterator[Row]:
  """Yields the accuracies of each strategy at each number of labels.

  Args:
    summary: The numbers.

  Yields:
    The header, then a row for each strategy and number of labels.
  """
  yield (
    "strategy",
    "num_labeled",
    "num_seeds",
    f"{summary.metric.name}_mean",
    f"{summary.metric.name}_sd",
    f"{summary.metric.second}_mean",
  )
  for result in summary.strategies:
    for round_num, labels in enumerate(summary.num_labeled):
      yield (
        result.name,
        labels,
        len(result.seeds),
        result.accuracy[round_num],
        _at(result.accuracy_deviation, round_num),
        _at(result.balanced_accuracy, round_num),
      )


def summary_rows(summary: Summary) -> Iterator[Row]:
  """Yields what each strategy reached.

  Args:
    summary: The numbers.

  Yields:
    The header, then a row for each strategy. Its columns of times are the
    stages that any strategy has.
  """
  stages = list(dict.fromkeys(s for r in summary.strategies for s in r.seconds))
  yield (
    "strategy",
    "seeds",
    "aubc_mean",
    "aubc_sd",
    f"final_{summary.metric.name}_mean",
    f"final_{summary.metric.name}_sd",
    f"final_{summary.metric.second}_mean",
    "labels_needed",
    "labels_saved",
    "penalty",
    *(f"{stage}_seconds_per_round" for stage in stages),
  )
  for result in summary.strategies:
    yield (
      result.name,
      " ".join(map(str, result.seeds)),
      result.aubc,
      result.aubc_deviation,
      result.accuracy[-1],
      _at(result.accuracy_deviation, -1),
      _at(result.balanced_accuracy, -1),
      result.labels_needed,
      result.labels_saved,
      result.penalty,
      *(result.seconds.get(stage) for stage in stages),
    )


def pair_rows(summary: Summary) -> Iterator[Row]:
  """Yields the tests between strategies.

  Args:
    summary: The numbers.

  Yields:
    The header, then a row for each pair.
  """
  yield (
    "first",
    "second",
    "num_seeds",
    "aubc_difference",
    "low",
    "high",
    "t_test_p",
    "holm_p",
    "wilcoxon_p",
  )
  for pair in summary.pairs:
    yield dataclasses.astuple(pair)


def _at(values: Sequence[float] | None, position: int) -> float | None:
  return None if values is None else values[position]
