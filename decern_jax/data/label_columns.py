"""Which column of a table of labels holds what."""

from collections.abc import Sequence
from typing import NamedTuple

from decern_jax.data.label_rows import Table

PATH_COLUMNS = (
  "path",
  "image",
  "image_path",
  "file",
  "filename",
  "file_name",
  "image\\label",
)
"""Names, in any case, that the column of the images is told by."""

SPLIT_COLUMNS = ("split", "subset")
"""Names, in any case, that the column of the parts is told by."""

SINGULAR_COLUMNS = ("class", "label")
PLURAL_COLUMNS = ("classes", "labels", "tags")
"""Names, in any case, that a column of names of labels is told by."""


class Columns(NamedTuple):
  """Which column of a table holds what; None: told by its name.

  Attributes:
    path: Column of the images.
    split: Column of the part, "train", "val" or "test".
    names: Column of names of labels.
    binary: Columns of 0 or 1, one per label. Empty: `names`; where there is no
      such column, all that are nothing else.
    ignored: Columns that are nothing of this.
  """

  path: str | None = None
  split: str | None = None
  names: str | None = None
  binary: tuple[str, ...] = ()
  ignored: tuple[str, ...] = ()


def find_columns(table: Table, given: Columns) -> Columns:
  """Tells the columns of a table apart.

  Args:
    table: The table.
    given: What is known; None or empty where the names are to tell.

  Returns:
    The columns, `path` and one of `names` and `binary` among them; whether the
    cells fit is not looked at.

  Raises:
    ValueError: If a column that is given is not there, none or several have the
      name that is looked for, or there is no column of images.
  """
  wanted = [given.path, given.split, given.names, *given.binary, *given.ignored]
  missing = [
    name for name in wanted if name is not None and name not in table.columns
  ]
  if missing:
    raise ValueError(
      f"Expected the columns {missing} in {table.file}, got "
      f"{list(table.columns)}."
    )
  path = given.path or _find(table, given, PATH_COLUMNS, "path_column")
  if path is None:
    raise ValueError(
      f"Expected a column of images named one of {PATH_COLUMNS} in "
      f"{table.file}, got {list(table.columns)}. Name it in `path_column`."
    )
  split = given.split or _find(table, given, SPLIT_COLUMNS, "split_column")
  names, binary = given.names, given.binary
  if names is None and not binary:
    known = SINGULAR_COLUMNS + PLURAL_COLUMNS
    names = _find(table, given, known, "label_column")
  if names is None and not binary:
    others = {path, split, *given.ignored}
    binary = tuple(name for name in table.columns if name not in others)
  return Columns(path, split, names, binary, given.ignored)


def _find(
  table: Table, given: Columns, known: Sequence[str], option: str
) -> str | None:
  """Returns the one column with a known name, None where there is none."""
  found = [
    name
    for name in table.columns
    if name.lower() in known and name not in given.ignored
  ]
  if len(found) > 1:
    raise ValueError(
      f"Expected one column among {found} of {table.file} to be meant, got "
      f"{len(found)}. Name it in `{option}`."
    )
  return found[0] if found else None
