"""Limits of a selection: so many of each group, so many of each stratum."""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
from typing import Any

import jax
import numpy as np

from decern_jax.distributed.sharding import to_host
from decern_jax.io.validation import check_integer
from decern_jax.strategies.base import Selection


@dataclasses.dataclass(frozen=True)
class Limit:
  """How many examples may be selected of each part of the pool.

  Attributes:
    name: What a part is, for messages.
    parts: int [pool], the part of each example.
    most: int [parts], the largest number.
  """

  name: str
  parts: np.ndarray
  most: np.ndarray


def group_limit(
  candidates: np.ndarray, budget: int, groups: Any, max_per_group: int
) -> Limit:
  """Checks and returns the limit on the examples of each group.

  Args:
    candidates: bool [pool], the examples that may be selected.
    budget: Examples to select.
    groups: [pool], the group of each example: numbers or strings.
    max_per_group: Largest number of examples to select from one group.

  Raises:
    ValueError: If a value is not valid, or the candidates are too few.
  """
  names, parts = _parts("groups", groups, len(candidates))
  most = check_integer("max_per_group", max_per_group, low=1)
  counts = np.bincount(parts[candidates], minlength=len(names))
  reachable = int(np.minimum(counts, most).sum())
  if reachable < budget:
    raise ValueError(
      f"Expected `budget` <= {reachable}, which {most} of each of"
      f" {np.count_nonzero(counts)} groups give, got {budget}."
    )
  return Limit("group", parts, np.full(len(names), most))


def quota_limit(
  candidates: np.ndarray, budget: int, strata: Any, quotas: Mapping[Any, int]
) -> Limit:
  """Checks and returns the quotas of the strata as a limit.

  Args:
    candidates: bool [pool], the examples that may be selected.
    budget: Examples to select.
    strata: [pool], the stratum of each example: numbers or strings.
    quotas: How many examples to select of each stratum; others get none.

  Raises:
    ValueError: If a value is not valid, a stratum has fewer candidates than its
      quota, or the sum of the quotas is not the budget.
  """
  names, parts = _parts("strata", strata, len(candidates))
  counts = np.bincount(parts[candidates], minlength=len(names))
  most = np.zeros(len(names), int)
  for stratum, quota in quotas.items():
    quota = check_integer(f"quotas[{stratum!r}]", quota, low=0)
    found = int(counts[names == stratum].sum())
    if found < quota:
      raise ValueError(
        f"Expected at least {quota} candidates of the stratum {stratum!r},"
        f" got {found}."
      )
    most[names == stratum] = quota
  if most.sum() != budget:
    raise ValueError(
      f"Expected quotas with the sum `budget` {budget}, got {most.sum()}."
    )
  return Limit("stratum", parts, most)


def _parts(name: str, values: Any, size: int) -> tuple[np.ndarray, np.ndarray]:
  """Returns the distinct values, and the number of each example's value."""
  if hasattr(values, "to_numpy"):
    values = values.to_numpy()
  array = np.asarray(values)
  if array.shape != (size,):
    raise ValueError(
      f"Expected `{name}` [{size}], a value per example, got the shape"
      f" {array.shape}."
    )
  return np.unique(array, return_inverse=True)


def fill(
  key: jax.Array,
  select: Callable[[jax.Array, int, np.ndarray], Selection],
  candidates: np.ndarray,
  *,
  budget: int,
  limits: Sequence[Limit],
) -> tuple[np.ndarray, np.ndarray | None]:
  """Selects until the budget is filled and every limit is kept.

  The strategy selects a whole budget, of which the examples that the limits
  allow are kept. It then selects again among the examples still allowed.

  Args:
    key: Random key.
    select: Selects a number of examples, given a key, the number, and a mask
      [pool] of the examples that may be selected.
    candidates: bool [pool], the examples that may be selected.
    budget: Examples to select.
    limits: The limits.

  Returns:
    int64 [budget], distinct indices, and their scores, float32 [budget], or
    None if the strategy computes no scores.

  Raises:
    ValueError: If no example is left that the limits allow.
  """
  free = candidates.copy()
  left = [limit.most.copy() for limit in limits]
  taken, scores = [], []
  while len(taken) < budget:
    for limit, rest in zip(limits, left, strict=True):
      free &= rest[limit.parts] > 0
    num_free = int(free.sum())
    if not num_free:
      full = " and ".join(limit.name for limit in limits)
      raise ValueError(
        f"Expected {budget} examples within the limits by {full}, found only"
        f" {len(taken)}."
      )
    draw = jax.random.fold_in(key, len(taken)) if taken else key
    selection = select(draw, min(budget, num_free), free)
    values = None if selection.scores is None else to_host(selection.scores)
    for index in to_host(selection.indices).tolist():
      parts = [limit.parts[index] for limit in limits]
      is_allowed = all(
        rest[part] > 0 for rest, part in zip(left, parts, strict=True)
      )
      if not is_allowed or len(taken) == budget:
        continue
      taken.append(index)
      free[index] = False
      scores.append(0.0 if values is None else values[index])
      for rest, part in zip(left, parts, strict=True):
        rest[part] -= 1
  indices = np.array(taken, np.int64)
  return indices, None if values is None else np.array(scores, np.float32)
