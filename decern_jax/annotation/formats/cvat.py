"""CVAT: lists of images and labels, and "CVAT for images 1.1" XML.

CVAT has tags for whole images, but no way to say that one was skipped or has
none of the labels: the labels that are written have `?` and `-` for that.
"""

from typing import Any
from xml.parsers import expat

from etils import epath

from decern_jax.annotation import answer
from decern_jax.annotation.formats import writing
from decern_jax.annotation.formats.reading import NONE, SKIPPED, Gathering, show
from decern_jax.annotation.query import Query

IMAGES_FILE_NAME = "cvat_images.txt"
LABELS_FILE_NAME = "cvat_labels.json"

_ROOT = b"<annotations"
_HEAD_LENGTH = 4096

# Parts of an image that are no labels of it as a whole.
_SHAPES = frozenset(
  ("box", "polygon", "polyline", "points", "cuboid", "ellipse", "mask")
  + ("skeleton",)
)


def matches(content: bytes, value: Any) -> bool:
  """Says whether a file begins as the XML of CVAT does.

  Args:
    content: The file.
    value: What it holds as JSON; None if it is not valid.
  """
  return value is None and _ROOT in content[:_HEAD_LENGTH]


def read(content: bytes) -> answer.Found:
  """Reads the tags of images.

  An image without tags is not answered. The person is the assignee, if all
  tasks of the file have the same; the time is that of the export.

  Args:
    content: The file, from a task, a job or a project.

  Returns:
    The answers, and what was wrong with other images; of a file that is broken
    somewhere, those before that place.

  Raises:
    ValueError: If it is no such XML, or has a document type: what that defines
      may grow without bounds.
  """
  images = _Images()
  parser = expat.ParserCreate()
  parser.StartDoctypeDeclHandler = _refuse_document_type
  parser.StartElementHandler = images.start
  parser.EndElementHandler = images.end
  parser.CharacterDataHandler = images.text
  try:
    parser.Parse(content, True)
  except (expat.ExpatError, LookupError) as error:
    if not images.has_root:
      raise ValueError(f"Expected valid XML, got {error}.") from None
    images.gathering.refuse("file", f"Expected valid XML to its end: {error}.")
  if not images.has_root:
    raise ValueError("Expected annotations of CVAT, got other XML.")
  return images.found()


def write(query: Query, folder: epath.PathLike) -> tuple[epath.Path, ...]:
  r"""Writes the images of a query as a list, and their labels.

  The list has a path on each line, as `xargs -d '\n' cvat-cli task create
  NAME --labels @cvat_labels.json local` and `resources` of the SDK take them;
  the labels are also what the page's "Raw" constructor takes. Predictions are
  left out: CVAT exports them as if people had given them.

  Args:
    query: The query.
    folder: Where the files are to be.

  Returns:
    The list and the labels.

  Raises:
    OSError: If they cannot be written.
    ValueError: If a path has more than one line, or a class a reserved name.
  """
  writing.check_class_names(query)
  broken = [i.path for i in query.items if len(i.path.splitlines()) > 1]
  if broken:
    raise ValueError(
      f"Expected paths of one line in a list for CVAT, got {show(broken)}."
    )
  names = [*query.class_names, SKIPPED]
  names += [NONE] if query.is_multi_label else []
  labels = [{"name": n, "type": "tag", "attributes": []} for n in names]
  paths = "".join(f"{item.path}\n" for item in query.items)
  contents = {
    IMAGES_FILE_NAME: paths.encode("utf-8", "surrogateescape"),
    LABELS_FILE_NAME: writing.as_json(labels),
  }
  return writing.save(folder, contents)


class _Images:
  """What the parser tells, part by part.

  Attributes:
    gathering: Problems, and answers when all is known.
    has_root: Whether it is a file of CVAT.
  """

  def __init__(self):
    self.gathering = Gathering(has_reserved=True)
    self.has_root = False
    self._open: list[str] = []
    self._texts: dict[tuple[str, ...], set[str]] = {}
    self._text = ""
    self._answers: list[tuple[str, str | None, list[str | None]]] = []
    self._num_images = 0
    self._name: str | None = None
    self._tags: list[str | None] = []

  def start(self, name: str, attributes: dict[str, str]) -> None:
    """Takes the beginning of an element."""
    if not self._open:
      self.has_root = name == "annotations"
    self._open.append(name)
    self._text = ""
    if self._open == ["annotations", "image"]:
      self._num_images += 1
      self._name, self._tags = attributes.get("name"), []
    elif self._open == ["annotations", "image", "tag"]:
      self._tags.append(attributes.get("label"))
    elif self._open[1:2] == ["image"] and name in _SHAPES:
      self.gathering.refuse(
        f"image {self._num_images}",
        f"Expected tags of the whole image, got a {name}.",
      )

  def text(self, text: str) -> None:
    """Takes a part of a text."""
    if self._open[1:2] == ["meta"]:
      self._text += text

  def end(self, name: str) -> None:
    """Takes the end of an element."""
    # Here, not at its beginning: of an image that is cut off, tags may miss.
    if self._open == ["annotations", "image"] and self._tags:
      where = f"image {self._num_images}"
      self._answers.append((where, self._name, self._tags))
    if self._open[1:2] == ["meta"] and self._text.strip():
      key = tuple(self._open[-2:])
      self._texts.setdefault(key, set()).add(self._text.strip())
    self._open.pop()
    self._text = ""

  def found(self) -> answer.Found:
    """Returns the answers of images that have tags."""
    people = self._texts.get(("assignee", "username"), set())
    times = self._texts.get(("meta", "dumped"), set())
    annotator = people.pop() if len(people) == 1 else ""
    time = times.pop() if len(times) == 1 else ""
    for where, id_, labels in self._answers:
      fields = {"id": id_, "annotator": annotator, "time": time}
      self.gathering.add(where, labels, **fields)
    return self.gathering.found()


def _refuse_document_type(name: str, *_: object) -> None:
  raise ValueError(f"Expected XML without a document type, got {name!r}.")
