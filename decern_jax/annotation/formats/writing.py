"""What the writers of formats share: files, JSON, and names of classes."""

import json
import re
from typing import Any
from xml.sax import saxutils

from etils import epath

from decern_jax.annotation.formats.reading import RESERVED
from decern_jax.annotation.query import Query
from decern_jax.io import storage

MIN_PROBABILITY = 0.5
"""From here on, a class is predicted where an image may have several."""

_NOT_IN_XML = re.compile(
  "[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"
)


def name_of(query: Query, extension: str) -> str:
  """Returns the name of a file that is filled in and handed back.

  Each round has its own, so that two of them lie side by side among the
  answers: what is said in a file of the same name as before is nothing new.

  Args:
    query: The query.
    extension: Of the file.
  """
  return f"query-{query.round:04d}.{extension}"


def save(
  folder: epath.PathLike, contents: dict[str, bytes]
) -> tuple[epath.Path, ...]:
  """Writes files, each whole or not at all.

  Args:
    folder: Where; made if it is not there.
    contents: What each file holds, by name.

  Returns:
    The files.

  Raises:
    OSError: If they cannot be written.
  """
  folder = storage.as_path(folder)
  storage.make_folder(folder)
  for name, content in contents.items():
    storage.write_atomically(folder / name, content)
  return tuple(folder / name for name in contents)


def as_json(value: Any) -> bytes:
  """Returns a value as JSON, in ASCII.

  Args:
    value: What JSON can hold.
  """
  # As ASCII: the name of a file, and so an id, may be no valid text.
  return json.dumps(value, indent=1).encode("ascii")


def predicted(query: Query, predictions: tuple[tuple[str, float], ...]):
  """Returns the predictions that a tool shows as the model's choice.

  Args:
    query: The query.
    predictions: Those of one image, the likeliest first.

  Returns:
    The likeliest; where an image may have several classes, all that have a
    probability of at least `MIN_PROBABILITY`.
  """
  if not query.is_multi_label:
    return predictions[:1]
  return tuple(pair for pair in predictions if pair[1] >= MIN_PROBABILITY)


def check_class_names(query: Query) -> None:
  """Checks that no class has a name that answers use for something else.

  Args:
    query: The query.

  Raises:
    ValueError: If one has.
  """
  found = sorted(set(query.class_names) & set(RESERVED))
  if found:
    raise ValueError(
      f"Expected no class named as one of {[*RESERVED]}, which say 'none of"
      f" the labels' and 'skipped', got {found}."
    )


def xml_attribute(text: str) -> str:
  """Returns a text as the value of an attribute of XML, in its quotes.

  Args:
    text: The text.

  Raises:
    ValueError: If XML cannot hold it.
  """
  if _NOT_IN_XML.search(text):
    raise ValueError(f"Expected a name that XML can hold, got {text!r}.")
  return saxutils.quoteattr(text)
