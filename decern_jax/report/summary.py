"""The numbers of a report on a comparison of strategies."""

from collections.abc import Iterable, Sequence
import dataclasses
import math
from typing import Any

import numpy as np

from decern_jax.models import MODELS
from decern_jax.report import statistics
from decern_jax.report.comparison import REFERENCE, Comparison, differences
from decern_jax.report.statistics import PairResult
from decern_jax.runs.records import Metric, Record

# The stage of a round that strategies differ in.
SELECTION = "select"

# Budgets of a run on all labels differ, but do not change its result.
_BUDGETS = (
  "num_rounds",
  "selection.initial_budget",
  "selection.budget",
  "selection.budget_per_class",
  "selection.num_candidates",
)


@dataclasses.dataclass(frozen=True)
class StrategyResult:
  """The results of one strategy.

  Attributes:
    name: The strategy, with the options that its runs vary.
    seeds: Seeds of its runs.
    accuracy: Mean test accuracy in each round; macro F1 in place of accuracy
      where an example has several labels (`Summary.metric`).
    accuracy_deviation: Its standard deviation over seeds; None for one seed.
    balanced_accuracy: Mean balanced accuracy in each round, or mAP with several
      labels; None where a record has no such value.
    aubc_by_seed: Area under the learning curve of each seed.
    aubc: Mean of these areas.
    aubc_deviation: Their standard deviation; None for one seed.
    labels_needed: Number of labels with which its mean curve reaches the last
      accuracy of the random strategy, on the seeds that both have; None if
      never, or without a random strategy.
    labels_saved: Difference to the number of labels that random ends with; None
      where `labels_needed` is None.
    penalty: How often it is beaten, from `statistics.column_means`.
    seconds: Mean time of each stage of a round. That of selection is over the
      rounds that select.
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
class UpperBound:
  """The accuracy with all labels.

  Attributes:
    num_labeled: Number of all labels.
    seeds: Seeds of the runs.
    accuracy: Mean test accuracy, or macro F1.
    accuracy_deviation: Its standard deviation over seeds; None for one seed.
  """

  num_labeled: int
  seeds: list[int]
  accuracy: float
  accuracy_deviation: float | None


@dataclasses.dataclass(frozen=True)
class Summary:
  """All numbers of a report.

  Attributes:
    metric: The metric that the runs are compared by.
    settings: The settings that all runs share.
    data: What identifies their data and model.
    is_frozen: Whether only the head was trained.
    num_labeled: Labels in each round.
    seeds: The seeds of all strategies.
    reference: The strategy that others are compared with; None if it is not
      among them.
    strategies: Results, the largest area first.
    pairs: All pairs, the strategy with the larger area first.
    penalty_matrix: Shares of budgets won, [strategies][strategies], in the
      order of `strategies`; None where a pair could not be tested.
    upper_bound: The accuracy with all labels; None if not known.
    unfinished: A line for each run that was left out.
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
    """Returns the difference between two strategies.

    Raises:
      ValueError: If the comparison has no such pair.
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
    full_data: Runs on all labels for `find_upper_bound`; None if there are
      none.

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
  matrix = statistics.penalty_matrix({name: curves[name] for name in names})
  penalties = statistics.column_means(matrix)
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
    pairs=statistics.compare_pairs(names, areas),
    penalty_matrix=[
      [None if math.isnan(share) else share for share in row]
      for row in matrix.tolist()
    ],
    upper_bound=full_data and find_upper_bound(runs, full_data),
    unfinished=list(runs.unfinished),
  )


def find_upper_bound(runs: Comparison, full_data: Comparison) -> UpperBound:
  """Returns the final accuracy of runs that end with all labels.

  Args:
    runs: The runs that the bound is for.
    full_data: Runs that end with all labels. They have the same settings except
      for the budgets, and one strategy, which does not affect the result.

  Raises:
    ValueError: If data or settings differ, or labels are missing.
  """
  for what, one, other in (
    ("settings but for budgets", _no_budgets(runs), _no_budgets(full_data)),
    ("data", runs.data, full_data.data),
  ):
    if one != other:
      raise ValueError(
        f"Expected runs on all labels of the same {what}, which differ:\n  "
        + "\n  ".join(differences(one, other))
      )
  # The data are identified by text such as "2640 examples 1f0c".
  pool_size = int(runs.data["train"].split(" ")[0])
  num_labeled = full_data.num_labeled[-1]
  if num_labeled != pool_size:
    raise ValueError(
      f"Expected runs on all {pool_size} labels, got {num_labeled}."
    )
  curves = full_data.curves(full_data.metric.name)
  if len(curves) != 1:
    raise ValueError(
      f"Expected runs on all labels of one strategy, got {list(curves)}."
    )
  (by_seed,) = curves.values()
  last = [curve[-1] for curve in by_seed.values()]
  mean, deviation = statistics.mean_and_deviation(last)
  return UpperBound(
    num_labeled=num_labeled,
    seeds=list(by_seed),
    accuracy=float(mean),
    accuracy_deviation=None if deviation is None else float(deviation),
  )


def _no_budgets(runs: Comparison) -> dict[str, Any]:
  return {k: v for k, v in runs.settings.items() if k not in _BUDGETS}


def _is_frozen(settings: dict[str, Any]) -> bool:
  """Whether only the head was trained."""
  scope = settings["train.scope"]
  model = MODELS.get(settings["model.name"])
  is_fixed = model is not None and not model.published
  return scope == "head" or (scope == "published" and is_fixed)


def _summarize_strategy(
  runs: Comparison, name: str, areas: dict[int, float], penalty: float | None
) -> StrategyResult:
  """Returns the results of one strategy."""
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
  """Returns the number of labels that reaches the last accuracy of random."""
  curves = runs.curves(runs.metric.name)
  common = sorted(set(curves.get(REFERENCE, ())) & set(curves[name]))
  if not common:
    return None
  target = float(np.mean([curves[REFERENCE][seed][-1] for seed in common]))
  curve = np.mean([curves[name][seed] for seed in common], axis=0)
  return statistics.labels_to_reach(runs.num_labeled, curve, target)


def _second_metric(
  metric: Metric, seeds: Iterable[Sequence[Record]]
) -> list[float] | None:
  """Returns the mean of the second metric, None if a record has no value."""
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
