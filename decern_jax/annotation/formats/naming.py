"""Finds the images that the file names in an answer file refer to.

Tools change the names of images: CVAT drops the folders, Datumaro drops the
ending, FiftyOne writes the path on the machine.
"""

from collections.abc import Iterable, Iterator
import posixpath

from decern_jax.annotation.answers import ParsedAnswers
from decern_jax.annotation.formats.format import show
from decern_jax.annotation.query import Item


def to_ids(found: ParsedAnswers, items: Iterable[Item]) -> ParsedAnswers:
  """Replaces file names by image ids, where exactly one image fits.

  A name that equals the id or path of an image refers to it. A name also fits
  an image if its id ends with the name, or the name with its id. Only whole
  folders are compared, and the file ending may be missing.

  Returns:
    The answers. Names that fit no image stay as they are. Names that fit
    several images become problems.
  """
  index = _Index(items)
  answers, problems = [], []
  for answer in found.answers:
    ids = index.find(answer.id)
    if len(ids) > 1:
      problems.append(
        f"{show(answer.id)}: Expected a name that fits one image, got one that"
        f" fits several, among them {show(sorted(ids))}. The labels given are"
        f" {show(answer.labels)}."
      )
    else:
      answers.append(answer._replace(id=next(iter(ids), answer.id)))
  return ParsedAnswers(tuple(answers), (*found.problems, *problems))


class _Index:
  """Looks up the ids of images by everything that may refer to them."""

  def __init__(self, items: Iterable[Item]):
    self._exact: dict[str, str] = {}
    self._tables = (_SuffixTable(), _SuffixTable())
    for item in items:
      self._exact.setdefault(item.path, item.id)
      self._tables[0].add(item.id, item.id)
      self._tables[1].add(posixpath.splitext(item.id)[0], item.id)
      # An id takes precedence over an equal path of another image.
      self._exact[item.id] = item.id

  def find(self, name: str) -> set[str]:
    """Returns the ids that a name fits; two ids stand for two or more."""
    if name in self._exact:
      return {self._exact[name]}
    return set().union(*(table.find(name) for table in self._tables))


class _SuffixTable:
  """Looks up names that end with another name, or are the end of it."""

  def __init__(self):
    self._whole: dict[str, set[str]] = {}
    self._suffixes: dict[str, set[str]] = {}

  def add(self, name: str, id_: str) -> None:
    _add_id(self._whole, name, id_)
    for suffix in _suffixes(name):
      _add_id(self._suffixes, suffix, id_)

  def find(self, name: str) -> set[str]:
    found = set(self._suffixes.get(name.strip("/"), ()))
    for suffix in _suffixes(name):
      found |= self._whole.get(suffix, set())
    return found


def _add_id(table: dict[str, set[str]], name: str, id_: str) -> None:
  ids = table.setdefault(name, set())
  # Two ids suffice to show that a name is ambiguous, and bound the memory.
  if len(ids) < 2:
    ids.add(id_)


def _suffixes(name: str) -> Iterator[str]:
  """Yields a path, then the path without its first folder, and so on."""
  while name:
    yield name
    name = name.partition("/")[2]
