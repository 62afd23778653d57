"""From the names that a tool gives images to their ids.

CVAT keeps the name of a file without its folders, Datumaro leaves out its
ending, FiftyOne has its path on the machine.
"""

from collections.abc import Iterable, Iterator
import posixpath

from decern_jax.annotation.answer import Found
from decern_jax.annotation.formats.reading import show
from decern_jax.annotation.query import Item


def to_ids(found: Found, items: Iterable[Item]) -> Found:
  """Replaces the names of images by their ids, where only one can be meant.

  A name means the image with that id or path; else those whose id ends with the
  name, or is the end of it, by whole folders, with the ending of the file or
  without.

  Args:
    found: Answers, whose ids may be such names.
    items: All images that a name may mean.

  Returns:
    The answers; one that several images may be meant by is a problem. One that
    means none keeps its name.
  """
  index = _Index(items)
  answers, problems = [], []
  for answer in found.answers:
    ids = index.find(answer.id)
    if len(ids) > 1:
      problems.append(
        f"{show(answer.id)}: Expected the name of one image, got one of"
        f" several, among them {show(sorted(ids))}. Its labels are"
        f" {show(answer.labels)}."
      )
    else:
      answers.append(answer._replace(id=next(iter(ids), answer.id)))
  return Found(tuple(answers), (*found.problems, *problems))


class _Index:
  """The ids of images, by all that may be meant by them."""

  def __init__(self, items: Iterable[Item]):
    self._exact: dict[str, str] = {}
    self._tables: tuple[_Ends, ...] = (_Ends(), _Ends())
    for item in items:
      self._exact.setdefault(item.path, item.id)
      self._tables[0].add(item.id, item.id)
      self._tables[1].add(posixpath.splitext(item.id)[0], item.id)
      # An id is never taken for the path of another image.
      self._exact[item.id] = item.id

  def find(self, name: str) -> set[str]:
    """Returns the ids that a name may mean: two stand for several."""
    if name in self._exact:
      return {self._exact[name]}
    return set().union(*(table.find(name) for table in self._tables))


class _Ends:
  """Names, by their ends."""

  def __init__(self):
    self._whole: dict[str, set[str]] = {}
    self._ends: dict[str, set[str]] = {}

  def add(self, name: str, id_: str) -> None:
    _note(self._whole, name, id_)
    for end in _ends_of(name):
      _note(self._ends, end, id_)

  def find(self, name: str) -> set[str]:
    found = set(self._ends.get(name.strip("/"), ()))
    for end in _ends_of(name):
      found |= self._whole.get(end, set())
    return found


def _note(table: dict[str, set[str]], name: str, id_: str) -> None:
  ids = table.setdefault(name, set())
  # Two tell as well as all that a name is not enough.
  if len(ids) < 2:
    ids.add(id_)


def _ends_of(name: str) -> Iterator[str]:
  """Yields a path, then it without its first folder, and so on."""
  while name:
    yield name
    name = name.partition("/")[2]
