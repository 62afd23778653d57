"""Tables of cases in one test, which reports every row that fails."""

from collections.abc import Callable, Iterable
import functools
import inspect
import itertools
from typing import Any

Row = dict[str, Any]


def each(names: str, rows: Iterable) -> Callable[[Callable], Callable]:
  """Runs a test once per row, as subtests of one test.

  It takes the place of `pytest.mark.parametrize` where a row takes no time of
  its own: a table is one test, and a failure names its row. Several of these
  on one test give all combinations. The rows share the test's fixtures, but
  for `tmp_path`, of which each row has a folder of its own.

  Args:
    names: Arguments of the test that a row gives, separated by commas.
    rows: The rows: a value, or with several names a tuple of values.

  Returns:
    The decorator.
  """
  columns = [name.strip() for name in names.split(",")]
  table: list[Row] = [
    dict(zip(columns, row if len(columns) > 1 else (row,), strict=True))
    for row in rows
  ]
  assert table, f"the table of {names} has no rows"

  def decorate(test: Callable) -> Callable:
    inner, others = getattr(test, "table", (test, [{}]))
    combined = [
      {**row, **other} for row, other in itertools.product(table, others)
    ]

    @functools.wraps(inner)
    def run(*args, subtests, **fixtures):
      for index, row in enumerate(combined):
        own = dict(fixtures)
        if "tmp_path" in own:
          own["tmp_path"] = own["tmp_path"] / f"row{index}"
          own["tmp_path"].mkdir()
        with subtests.test(**row):
          inner(*args, **own, **row)

    signature = inspect.signature(inner)
    kept = [
      p for p in signature.parameters.values() if p.name not in combined[0]
    ]
    subtests = inspect.Parameter("subtests", inspect.Parameter.KEYWORD_ONLY)
    vars(run).update(
      __signature__=signature.replace(parameters=[*kept, subtests]),
      table=(inner, combined),
    )
    return run

  return decorate
