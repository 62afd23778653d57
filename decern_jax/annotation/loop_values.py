"""Ids and labels as users of a loop give them, in the form of its state."""

from collections.abc import Iterable, Sequence
import dataclasses
from typing import Any

import jax
import numpy as np

from decern_jax.io.validation import repeated, shorten

Id = str | int
"""The id of a row. All ids of a loop are of one type."""


@dataclasses.dataclass
class LabelParser:
  """Parses labels, which are all names or all numbers of classes.

  Attributes:
    is_multi_label: Whether a row may have any number of labels.
    kind: `str` for names, `int` for numbers, None before the first label.
    num_numbers: One more than the largest number so far.
  """

  is_multi_label: bool
  kind: type | None = None
  num_numbers: int = 0

  def parse(
    self, labels: Any, count: int, names: Sequence[str]
  ) -> list[tuple[str, ...] | None]:
    """Returns the names of the classes of each answer; None if skipped.

    Args:
      labels: As for `Loop.tell`.
      count: Number of answers.
      names: Names of the columns of an array of 0 and 1.

    Raises:
      ValueError: If a label is not valid; then nothing has changed.
    """
    before = self.kind, self.num_numbers
    try:
      return self._parse(labels, count, names)
    except ValueError:
      self.kind, self.num_numbers = before
      raise

  def _parse(
    self, labels: Any, count: int, names: Sequence[str]
  ) -> list[tuple[str, ...] | None]:
    values = as_list("labels", labels)
    if len(values) != count:
      raise ValueError(
        f"Expected {count} `labels`, one for each id, got {len(values)}."
      )
    # Lists of lists hold classes, an array is a table of 0 and 1.
    if self.is_multi_label and len(getattr(labels, "shape", ())) == 2:
      values = self._parse_indicators(np.asarray(_plain(labels)), names)
    return [self._parse_label(value) for value in values]

  def _parse_indicators(
    self, array: np.ndarray, names: Sequence[str]
  ) -> list[list[Any]]:
    """Returns the classes of each row of an array of 0 and 1."""
    bad = array[(array != 0) & (array != 1)]
    if bad.size:
      raise ValueError(f"Expected 0 and 1 in `labels`, got {bad[0]}.")
    columns: Sequence[Any] = names
    if self.kind is str:
      if array.shape[1] != len(names):
        raise ValueError(
          f"Expected `labels` [ids, {len(names)}], with a column for each of"
          f" `class_names`, got the shape {array.shape}."
        )
    else:
      columns = range(array.shape[1])
      self.check(array.shape[1] - 1)
    return [
      [columns[column] for column in np.flatnonzero(row).tolist()]
      for row in array
    ]

  def _parse_label(self, value: Any) -> tuple[str, ...] | None:
    if value is None:
      return None
    if not self.is_multi_label:
      return (self.check(value),)
    if not isinstance(value, list | tuple | set | frozenset | np.ndarray):
      raise ValueError(
        "Expected a list of classes for each id, as a row may have several"
        f" labels, or None for a row that was skipped, got {value!r}."
      )
    return tuple(sorted({self.check(name) for name in value}))

  def check(self, value: Any) -> str:
    """Returns a class as the state keeps it; the first one sets the type.

    Raises:
      ValueError: If it is neither a name nor a number, or not as the others.
    """
    if isinstance(value, np.generic):
      value = value.item()
    is_name = isinstance(value, str) and bool(value.strip())
    number = value if type(value) is int and value >= 0 else None
    is_number = number is not None
    if not is_name and not is_number:
      raise ValueError(
        "Expected the name of a class, its number >= 0, or None for a row that"
        f" was skipped, got {value!r}."
      )
    kind = int if is_number else str
    if self.kind not in (None, kind):
      expected = "names" if self.kind is str else "numbers"
      raise ValueError(f"Expected {expected} of classes, got {value!r}.")
    self.kind = kind
    if number is not None:
      self.num_numbers = max(self.num_numbers, number + 1)
    return str(value)


def check_ids(
  ids: Iterable[Id] | None,
  count: int,
  *,
  start: int | None,
  like: Id | None = None,
) -> list[Id]:
  """Returns the ids of new rows as Python's own text or integers.

  Args:
    ids: What the user gave.
    count: Number of rows.
    start: The first id where the user gave none; None if they must be given.
    like: An id whose type they must have; None for the type of the first.

  Raises:
    ValueError: If they are missing, not of one type or not distinct.
  """
  if ids is None:
    if start is None:
      raise ValueError(f"Expected `ids` of {count} rows, got none.")
    return [*range(start, start + count)]
  found = as_list("ids", ids)
  if len(found) != count:
    raise ValueError(
      f"Expected {count} `ids`, one for each row, got {len(found)}."
    )
  kind = type(found[0] if like is None else like)
  for id_ in found:
    if kind not in (str, int) or type(id_) is not kind:
      raise ValueError(
        f"Expected `ids` that are all text or all integers, got {id_!r}."
      )
  twice = repeated(map(str, found))
  if twice:
    raise ValueError(f"Expected distinct `ids`, got {shorten(twice)} twice.")
  return found


def _plain(values: Any) -> Any:
  """Returns an array of PyTorch or pandas as one of NumPy."""
  if hasattr(values, "detach"):
    return np.asarray(values.detach().cpu())
  return values.to_numpy() if hasattr(values, "to_numpy") else values


def as_list(name: str, values: Any) -> list[Any]:
  """Returns values of any library as a list of Python's own types.

  Raises:
    ValueError: If they are no list or array; shows them.
  """
  values = _plain(values)
  if isinstance(values, np.ndarray | jax.Array):
    values = np.asarray(values).tolist()
  if isinstance(values, str | bytes) or not isinstance(values, Iterable):
    raise ValueError(f"Expected `{name}` as a list, got {values!r}.")
  return [v.item() if isinstance(v, np.generic) else v for v in values]
