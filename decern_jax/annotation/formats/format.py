"""What a format is: how it is recognised, read and written."""

from collections.abc import Callable
from typing import Any, NamedTuple

from etils import epath

from decern_jax.annotation.answer import Found
from decern_jax.annotation.query import Query


class Format(NamedTuple):
  """A format of answers and queries.

  Attributes:
    title: What it is, for messages.
    endings: Endings of its files, in lower case. A file that is of no format
      by its content is taken for one by its ending, so that the reader says
      what is wrong with it.
    matches: From a file, and what it holds if it is valid JSON (else None), to
      whether it has the format.
    read: From a file to its answers and problems; `ValueError` if nothing of it
      can be read.
    write: Writes a query into a folder, for the tool that gives the answers;
      returns the files. `ValueError` if the tool cannot take it.
  """

  title: str
  endings: tuple[str, ...]
  matches: Callable[[bytes, Any], bool]
  read: Callable[[bytes], Found]
  write: Callable[[Query, epath.PathLike], tuple[epath.Path, ...]]
