"""What a comparison of strategies found, in numbers."""

from collections.abc import Iterable, Sequence
import dataclasses
import math
from typing import Any

import numpy as np

from decern_jax.models import MODELS
from decern_jax.report import paired, statistics
from decern_jax.report.comparison import REFERENCE, Comparison
from decern_jax.report.pairs import PairResult, compare_pairs
from decern_jax.report.upper_bound import UpperBound, find_upper_bound
from decern_jax.runs.records import Metric, Record

# The stage of a round that strategies differ in.
SELECTION = "select"


@dataclasses.dataclass(frozen=True)
class StrategyResult:
  """What one strategy reached.

  Attributes:
    name: The strategy, with the options that its runs vary.
    seeds: Seeds of its runs.
    accuracy: Mean test accuracy in each round; where an example has several
      labels, mean macro F1 (`Summary.metric`).
    accuracy_deviation: Its standard deviation over seeds; None for one seed.
    balanced_accuracy: As `accuracy`, each class counting alike; with several
      labels, mAP. None where the records lack it.
    aubc_by_seed: Area under the learning curve of each seed.
    aubc: Its mean.
    aubc_deviation: Its standard deviation; None for one seed.
    labels_needed: Labels with which its mean curve reaches the last accuracy of
      the random strategy, on the seeds that both have; None if never, or where
      there is no random strategy.
    labels_saved: How many fewer these are than random's last; None likewise.
    penalty: How often it is beaten, as of `paired.column_means`.
    seconds: Mean time of each stage of a round; of selection, over the rounds
      that select.
  """

  name: str
  seeds: list[int]
  accuracy: list[float]
  accuracy_deviation: list[float] | None
  balanced_accuracy: list[float] | None
  aubc_by_seed: dict[int, float]
  aubc: float
  aubc_deviation: float | None
  labels_needed: float | None
  labels_saved: float | None
  penalty: float | None
  seconds: dict[str, float]


@dataclasses.dataclass(frozen=True)
class Summary:
  """All numbers of a report.

  Attributes:
    metric: What the runs are judged by.
    settings: The settings that all runs share.
    data: What identifies their data and model.
    is_frozen: Whether nothing but the head was trained.
    num_labeled: Labels in each round.
    seeds: The seeds that any strategy has.
    reference: The strategy that others are compared with; None if it is not
      among them.
    strategies: Results, the largest area first.
    pairs: All pairs, the strategy with the larger area first.
    penalty_matrix: Shares of budgets won, [strategies][strategies], in the
      order of `strategies`; None where a pair could not be tested.
    upper_bound: What all labels reach; None if not known.
    unfinished: A line for each run left out.
  """

  metric: Metric
  settings: dict[str, Any]
  data: dict[str, Any]
  is_frozen: bool
  num_labeled: list[int]
  seeds: list[int]
  reference: str | None
  strategies: list[StrategyResult]
  pairs: list[PairResult]
  penalty_matrix: list[list[float | None]]
  upper_bound: UpperBound | None
  unfinished: list[str]

  def pair(self, first: str, second: str) -> PairResult:
    """Returns a pair in the order asked for.

    Args:
      first: One strategy.
      second: Another one.

    Raises:
      ValueError: If they are no pair of the strategies.
    """
    for pair in self.pairs:
      if (pair.first, pair.second) == (first, second):
        return pair
      if (pair.first, pair.second) == (second, first):
        return pair.flipped()
    raise ValueError(f"Expected a pair, got {first!r} and {second!r}.")


def summarize(
  runs: Comparison, *, full_data: Comparison | None = None
) -> Summary:
  """Computes the numbers of a report.

  Args:
    runs: The runs.
    full_data: Runs on all labels, as `find_upper_bound` takes them; None: the
      upper bound is not known.

  Returns:
    The numbers.

  Raises:
    ValueError: As in `find_upper_bound`.
  """
  labels = runs.num_labeled
  curves = runs.curves(runs.metric.name)
  areas = {
    name: {
      seed: statistics.area_under_budget_curve(labels, curve)
      for seed, curve in by_seed.items()
    }
    for name, by_seed in curves.items()
  }
  names = sorted(areas, key=lambda name: -np.mean([*areas[name].values()]))
  matrix = paired.penalty_matrix({name: curves[name] for name in names})
  penalties = paired.column_means(matrix)
  return Summary(
    metric=runs.metric,
    settings=runs.settings,
    data=runs.data,
    is_frozen=_is_frozen(runs.settings),
    num_labeled=labels,
    seeds=runs.seeds,
    reference=REFERENCE if REFERENCE in names else None,
    strategies=[
      _summarize_strategy(runs, name, areas[name], penalty)
      for name, penalty in zip(names, penalties, strict=True)
    ],
    pairs=compare_pairs(names, areas),
    penalty_matrix=[
      [None if math.isnan(share) else share for share in row]
      for row in matrix.tolist()
    ],
    upper_bound=full_data and find_upper_bound(runs, full_data),
    unfinished=list(runs.unfinished),
  )


def _is_frozen(settings: dict[str, Any]) -> bool:
  """Says whether only the head was trained."""
  scope = settings.get("train.scope", "head")
  model = MODELS.get(settings.get("model.name"))
  is_fixed = model is not None and not model.published
  return scope == "head" or (scope == "published" and is_fixed)


def _summarize_strategy(
  runs: Comparison,
  name: str,
  areas: dict[int, float],
  penalty: float | None,
) -> StrategyResult:
  """Returns the result of one strategy."""
  of_strategy = runs.runs[name]
  accuracy, deviation = statistics.mean_and_deviation(
    [*runs.curves(runs.metric.name)[name].values()]
  )
  area, area_deviation = statistics.mean_and_deviation([*areas.values()])
  needed = _labels_needed(runs, name)
  return StrategyResult(
    name=name,
    seeds=list(of_strategy),
    accuracy=accuracy.tolist(),
    accuracy_deviation=None if deviation is None else deviation.tolist(),
    balanced_accuracy=_second_metric(runs.metric, of_strategy.values()),
    aubc_by_seed=areas,
    aubc=float(area),
    aubc_deviation=None if area_deviation is None else float(area_deviation),
    labels_needed=needed,
    labels_saved=None if needed is None else runs.num_labeled[-1] - needed,
    penalty=penalty,
    seconds=_mean_seconds(of_strategy.values()),
  )


def _labels_needed(runs: Comparison, name: str) -> float | None:
  """Returns the labels to reach what random has at its end."""
  curves = runs.curves(runs.metric.name)
  common = sorted(set(curves.get(REFERENCE, ())) & set(curves[name]))
  if not common:
    return None
  target = np.mean([curves[REFERENCE][seed][-1] for seed in common])
  curve = np.mean([curves[name][seed] for seed in common], axis=0)
  return statistics.labels_to_reach(runs.num_labeled, curve, target)


def _second_metric(
  metric: Metric, seeds: Iterable[Sequence[Record]]
) -> list[float] | None:
  """Returns the mean of the second metric, where all records have it."""
  values = [[r["test"].get(metric.second) for r in run] for run in seeds]
  if any(value is None for run in values for value in run):
    return None
  return np.mean(values, axis=0).tolist()


def _mean_seconds(seeds: Iterable[Sequence[Record]]) -> dict[str, float]:
  """Returns the mean time of each stage."""
  laps: dict[str, list[float]] = {}
  for record in (record for run in seeds for record in run):
    for stage, seconds in record["seconds"].items():
      if stage != SELECTION or record["selected"]:
        laps.setdefault(stage, []).append(seconds)
  return {stage: float(np.mean(values)) for stage, values in laps.items()}
