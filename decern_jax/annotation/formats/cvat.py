"""CVAT: lists of images and labels, and "CVAT for images 1.1" XML.

CVAT has tags for whole images, but no way to say that an image was skipped or
has none of the labels. The labels `?` and `-` stand for that.
"""

from typing import Any
from xml.parsers import expat

from etils import epath

from decern_jax.annotation.answers import ParsedAnswers
from decern_jax.annotation.formats import format as shared
from decern_jax.annotation.formats.format import AnswerCollector, Format, show
from decern_jax.annotation.query import Query

IMAGES_FILE_NAME = "cvat_images.txt"
LABELS_FILE_NAME = "cvat_labels.json"

_ROOT = b"<annotations"
_HEAD_LENGTH = 4096

# Elements of an image that do not label it as a whole.
_SHAPES = frozenset(
  ("box", "polygon", "polyline", "points", "cuboid", "ellipse", "mask")
  + ("skeleton",)
)


def matches(content: bytes, value: Any) -> bool:
  """Returns whether a file begins like the XML of CVAT."""
  return value is None and _ROOT in content[:_HEAD_LENGTH]


def read(content: bytes) -> ParsedAnswers:
  """Reads the tags of images.

  An image without tags is not answered yet. The annotator is the assignee, if
  all tasks of the file have the same one; the time is that of the export.

  Args:
    content: The file, exported from a task, a job or a project.

  Returns:
    The answers and problems. If the file is damaged, only the images before the
    damage are read.

  Raises:
    ValueError: If it is not XML of CVAT, or has a document type, whose entities
      may expand without bounds.
  """
  images = _ImageHandler()
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
    images.collector.add_problem(
      "file", f"Expected valid XML to its end: {error}."
    )
  if not images.has_root:
    raise ValueError("Expected annotations of CVAT, got other XML.")
  return images.result()


def write(query: Query, folder: epath.PathLike) -> tuple[epath.Path, ...]:
  r"""Writes a list of the images of a query, and its labels.

  The list has one path per line, for `xargs -d '\n' cvat-cli task create NAME
  --labels @cvat_labels.json local` and for `resources` of the SDK. The labels
  can also be pasted into the "Raw" constructor of CVAT's page. Predictions are
  left out, because CVAT would export them as if people had given them.

  Raises:
    OSError: If they cannot be written.
    ValueError: If a path has a line break, or a class has a reserved name.
  """
  names = shared.choices(query)
  broken = [i.path for i in query.items if len(i.path.splitlines()) > 1]
  if broken:
    raise ValueError(
      f"Expected paths of one line in a list for CVAT, got {show(broken)}."
    )
  labels = [{"name": n, "type": "tag", "attributes": []} for n in names]
  paths = "".join(f"{item.path}\n" for item in query.items)
  contents = {
    IMAGES_FILE_NAME: paths.encode("utf-8", "surrogateescape"),
    LABELS_FILE_NAME: shared.to_json(labels),
  }
  return shared.save(folder, contents)


FORMAT = Format(
  name="cvat",
  title="CVAT for images 1.1 XML",
  endings=(".xml",),
  matches=matches,
  read=read,
  write=write,
)


class _ImageHandler:
  """Handles the events of the XML parser.

  Attributes:
    collector: The problems so far. Answers are added at the end, when the
      annotator is known.
    has_root: Whether the root element is that of CVAT.
  """

  def __init__(self):
    self.collector = AnswerCollector(has_reserved=True)
    self.has_root = False
    self._open: list[str] = []
    # The texts of the metadata, by the names of the innermost two elements.
    self._texts: dict[tuple[str, ...], set[str]] = {}
    self._text = ""
    self._images: list[tuple[str, str | None, list[str | None]]] = []
    self._num_images = 0
    self._name: str | None = None
    self._tags: list[str | None] = []

  def start(self, name: str, attributes: dict[str, str]) -> None:
    """Handles the start of an element."""
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
      self.collector.add_problem(
        f"image {self._num_images}",
        f"Expected tags of the whole image, got a {name}.",
      )

  def text(self, text: str) -> None:
    """Handles a piece of text."""
    if self._open[1:2] == ["meta"]:
      self._text += text

  def end(self, name: str) -> None:
    """Handles the end of an element."""
    # An image without an end is left out, since its last tags may be missing.
    if self._open == ["annotations", "image"] and self._tags:
      where = f"image {self._num_images}"
      self._images.append((where, self._name, self._tags))
    if self._open[1:2] == ["meta"] and self._text.strip():
      key = tuple(self._open[-2:])
      self._texts.setdefault(key, set()).add(self._text.strip())
    self._open.pop()
    self._text = ""

  def result(self) -> ParsedAnswers:
    """Returns the answers of the images that have tags."""
    annotator = self._only_text("assignee", "username")
    time = self._only_text("meta", "dumped")
    for where, id_, labels in self._images:
      with self.collector.item(where):
        self.collector.add(labels, id=id_, annotator=annotator, time=time)
    return self.collector.result()

  def _only_text(self, *names: str) -> str:
    """Returns the text of an element, or "" if there are several texts."""
    texts = self._texts.get(names, set())
    return next(iter(texts)) if len(texts) == 1 else ""


def _refuse_document_type(name: str, *_: object) -> None:
  raise ValueError(f"Expected XML without a document type, got {name!r}.")
