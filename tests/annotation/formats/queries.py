"""The query that tests and golden files share, and queries drawn at random."""

import os
import tempfile

from hypothesis import strategies as st

from decern_jax.annotation import formats
from decern_jax.annotation.formats import naming
from decern_jax.annotation.query import Item, Query

NAMES = ("cat", 'dog & "wolf"', "zebra")
IDS = ("cats/1.jpg", "a b.jpg", "ünï.png", "plain.jpg", "many.jpg")
FOLDER = "/images"


def query(
  *, is_multi_label: bool = False, ids=IDS, folder: str = FOLDER
) -> Query:
  """A query whose model likes the first class best."""
  predictions = ((NAMES[0], 0.75), (NAMES[1], 0.5), (NAMES[2], 0.125))
  items = tuple(
    Item(id_, f"{folder}/{id_}", 0.25 * n, predictions)
    for n, id_ in enumerate(ids)
  )
  return Query(3, NAMES, is_multi_label, items, "decern")


Labels = dict[str, tuple[str, ...] | None]

SINGLE: Labels = {
  "cats/1.jpg": ("cat",),
  "a b.jpg": ('dog & "wolf"',),
  "ünï.png": ("zebra",),
  "many.jpg": None,
}
"""What people say in the golden files; `plain.jpg` is not answered."""

SEVERAL: Labels = {
  "cats/1.jpg": ("cat",),
  "a b.jpg": ('dog & "wolf"', "zebra"),
  "ünï.png": (),
  "many.jpg": None,
}
"""The same where an image may have several labels."""


def said(found) -> Labels:
  """The last labels of each image, of answers without problems."""
  assert found.problems == ()
  return {answer.id: answer.labels for answer in found.answers}


# As file systems have them: any bytes but NUL, decoded as Python does.
ANY_IDS = (
  st.binary(min_size=1, max_size=9)
  .filter(lambda name: b"\0" not in name)
  .map(os.fsdecode)
)
PRINTABLE_IDS = st.text(
  st.characters(exclude_categories=["Cs", "C", "Z"]), min_size=1, max_size=9
)
CLASS_NAMES = (
  st.text(st.characters(exclude_categories=["C"], exclude_characters=";"))
  .map(str.strip)
  .filter(lambda name: name not in ("", "-", "?"))
)


@st.composite
def answered(draw, *, ids=ANY_IDS) -> tuple[Query, Labels]:
  """Draws a query, and the labels that people give some of its images."""
  is_multi_label = draw(st.booleans())
  asked = query(
    is_multi_label=is_multi_label,
    ids=draw(st.lists(ids, min_size=1, max_size=4, unique=True)),
  )
  names = draw(st.lists(CLASS_NAMES, min_size=1, max_size=3, unique=True))
  one = st.sampled_from(names).map(lambda name: (name,))
  some = st.lists(st.sampled_from(names), unique=True).map(tuple)
  labels = st.none() | (some if is_multi_label else one)
  answers = {i.id: draw(labels) for i in asked.items if draw(st.booleans())}
  return asked._replace(class_names=tuple(names)), answers


def check_round_trip(format_: formats.Format, case, fill_in) -> None:
  """Checks that the answers to a query that a format has written come back.

  Args:
    format_: The format.
    case: What `answered` has drawn.
    fill_in: Maps the files of the query and the labels of some images to a file
      of answers, as the tool that the format is for exports it.
  """
  asked, labels = case
  with tempfile.TemporaryDirectory() as folder:
    content = fill_in(format_.write(asked, folder), labels)
  found = naming.to_ids(format_.read(content), asked.items)
  assert {k: v and sorted(v) for k, v in said(found).items()} == {
    k: v and sorted(v) for k, v in labels.items()
  }
