"""Writes a report: a page, its pictures, and its numbers as CSV and JSON."""

from collections.abc import Iterable, Iterator, Sequence
import csv
import dataclasses
import io
import json

from etils import epath

from decern_jax.io import storage
from decern_jax.report import gallery, page
from decern_jax.report.comparison import Comparison
from decern_jax.report.summary import Summary, summarize

PAGE_FILE = "report.html"
FIGURE_FOLDER = "figures"
ACCURACY_FILE = "accuracy.csv"
SUMMARY_FILE = "summary.csv"
PAIRS_FILE = "pairs.csv"
JSON_FILE = "report.json"

Row = Sequence[object]


def check_folder(folder: epath.PathLike) -> None:
  """Creates the folder of a report, and checks that it is writable.

  Raises:
    ValueError: If it is a file or cannot be written.
  """
  try:
    storage.check_writable(folder)
  except OSError as error:
    raise ValueError(
      f"Expected a folder for the report that can be written, got {folder}:"
      f" {error}."
    ) from None


def write(
  runs: Comparison,
  folder: epath.PathLike,
  *,
  pool: gallery.PoolView | None = None,
  full_data: Comparison | None = None,
) -> epath.Path:
  """Writes the report on a comparison.

  The folder then holds `report.html`, which needs no other file; the numbers as
  `report.json`, `summary.csv`, `accuracy.csv` and `pairs.csv`; and the pictures
  in `figures`. Existing files of these names are replaced.

  Args:
    runs: The runs.
    folder: The folder, created if needed.
    pool: The images of the pool; None leaves out the pictures of the selected
      images.
    full_data: Runs on all labels, for the upper bound; None leaves it out.

  Returns:
    The path of the page.

  Raises:
    ValueError: If the folder cannot be written, or the pool or the runs on all
      labels do not fit the runs.
  """
  folder = storage.as_path(folder)
  if pool is not None:
    gallery.check_pool(runs, pool)
  summary = summarize(runs, full_data=full_data)
  check_folder(folder)
  notes = page.notes_on(summary)
  pictures = gallery.draw(runs, summary, folder / FIGURE_FOLDER, pool=pool)
  write_numbers(summary, notes, folder)
  path = folder / PAGE_FILE
  write_text(path, page.render(summary, notes, pictures))
  return path


def write_numbers(
  summary: Summary, notes: Sequence[str], folder: epath.PathLike
) -> None:
  """Writes the numbers of a report as CSV and JSON files.

  Shares are in [0, 1], all digits of a number are kept, and an unknown value is
  an empty field, or null in JSON.

  Args:
    summary: The numbers.
    notes: Limits of the comparison, for the JSON file.
    folder: The folder, which gets `report.json`, `accuracy.csv` (a row per
      strategy and number of labels), `summary.csv` (a row per strategy) and
      `pairs.csv` (a row per pair of strategies).
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
    write_csv(folder / name, rows)


def write_csv(path: epath.Path, rows: Iterable[Row]) -> None:
  """Writes a CSV file, atomically."""
  file = io.StringIO()
  csv.writer(file).writerows(rows)
  write_text(path, file.getvalue())


def write_text(path: epath.Path, text: str) -> None:
  """Writes a text file, atomically.

  Args:
    path: The file; an existing one is replaced.
    text: Its content, written as UTF-8.
  """
  # File names that are not valid Unicode keep their bytes.
  content = text.encode("utf-8", errors="surrogateescape")
  storage.write_atomically(path, content)


def accuracy_rows(summary: Summary) -> Iterator[Row]:
  """Yields the accuracies of each strategy at each number of labels.

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
  """Yields the results of each strategy.

  Yields:
    The header, then a row for each strategy. There is a column of times for
    each stage that any strategy has.
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


def _at(values: Sequence[float] | None, index: int) -> float | None:
  return None if values is None else values[index]
