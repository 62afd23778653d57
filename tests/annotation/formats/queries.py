"""The query that the tests and the golden files share."""

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


SINGLE = {
  "cats/1.jpg": ("cat",),
  "a b.jpg": ('dog & "wolf"',),
  "ünï.png": ("zebra",),
  "many.jpg": None,
}
"""What people say in the golden files; `plain.jpg` is not answered."""

SEVERAL = {
  "cats/1.jpg": ("cat",),
  "a b.jpg": ('dog & "wolf"', "zebra"),
  "ünï.png": (),
  "many.jpg": None,
}
"""The same where an image may have several labels."""


def said(found) -> dict[str, tuple[str, ...] | None]:
  """The labels of a `ParsedAnswers` without problems, by id; the last ones."""
  assert found.problems == ()
  return {answer.id: answer.labels for answer in found.answers}
