"""What training on all labels reaches: the end of every learning curve."""

import dataclasses
from typing import Any

from decern_jax.report import statistics
from decern_jax.report.comparison import Comparison, differences

# A run on all labels has other budgets, which do not matter to its result.
_BUDGETS = (
  "num_rounds",
  "selection.initial_budget",
  "selection.budget",
  "selection.budget_per_class",
  "selection.num_candidates",
)


@dataclasses.dataclass(frozen=True)
class UpperBound:
  """The accuracy with all labels.

  Attributes:
    num_labeled: Labels: all there are.
    seeds: Seeds of the runs.
    accuracy: Mean test accuracy, or macro F1.
    accuracy_deviation: Its standard deviation over seeds; None for one seed.
  """

  num_labeled: int
  seeds: list[int]
  accuracy: float
  accuracy_deviation: float | None


def find_upper_bound(runs: Comparison, full_data: Comparison) -> UpperBound:
  """Returns what runs on all labels reach at their end.

  Args:
    runs: The runs that the bound is for.
    full_data: Runs of the same settings, but for the budgets, that end with all
      labels; of one strategy, which then makes no difference.

  Returns:
    The bound.

  Raises:
    ValueError: If those are other data or settings, or not all labels.
  """
  for what, one, other in (
    ("settings but for budgets", _settings(runs), _settings(full_data)),
    ("data", runs.data, full_data.data),
  ):
    if one != other:
      raise ValueError(
        f"Expected runs on all labels of the same {what}, which differ:\n  "
        + "\n  ".join(differences(one, other))
      )
  num_labeled, pool = full_data.num_labeled[-1], _pool_size(runs)
  if num_labeled != pool:
    raise ValueError(f"Expected runs on all {pool} labels, got {num_labeled}.")
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


def _settings(runs: Comparison) -> dict[str, Any]:
  return {k: v for k, v in runs.settings.items() if k not in _BUDGETS}


def _pool_size(runs: Comparison) -> int:
  """Returns the size of the pool, of which data.json tells."""
  count = str(runs.data.get("train")).split(" ")[0]
  if not count.isdigit():
    raise ValueError(
      "Expected runs that tell the size of their pool, got data of"
      f" {runs.data.get('train')!r}."
    )
  return int(count)
