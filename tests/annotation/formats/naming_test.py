"""Tests of decern_jax/annotation/formats/naming.py."""

from decern_jax.annotation.answers import Answer, ParsedAnswers
from decern_jax.annotation.formats import naming
from decern_jax.annotation.query import Item
from tests.table import each


def ids_of(name, *ids, root="/data/images"):
  """The ids that a name is replaced by: one, or none if it is a problem."""
  items = [Item(id_, f"{root}/{id_}") for id_ in ids]
  found = naming.to_ids(ParsedAnswers((Answer(name, ("cat",)),), ()), items)
  assert len(found.answers) + len(found.problems) == 1
  return [answer.id for answer in found.answers]


class TestToIds:
  @each(
    "name",
    [
      "cats/1.jpg",
      "/data/images/cats/1.jpg",
      "1.jpg",
      "/1.jpg",
      "upload/cats/1.jpg",
      "/other/root/cats/1.jpg",
      "1",
      "cats/1",
      "/other/cats/1",
    ],
  )
  def test_finds_the_image(self, name):
    assert ids_of(name, "cats/1.jpg", "cats/2.jpg") == ["cats/1.jpg"]

  @each("name", ["3.jpg", "11.jpg", "s/1.jpg", "1.jp", ".jpg", "", "/", "cats"])
  def test_leaves_other_names(self, name):
    assert ids_of(name, "cats/1.jpg", "cats/2.jpg") == [name]

  @each(
    "name, ids",
    [
      ("1.jpg", ("cats/1.jpg", "dogs/1.jpg")),
      ("1", ("1.jpg", "1.png")),
      ("x/cats/1.jpg", ("cats/1.jpg", "1.jpg")),
      ("cats/1", ("cats/1.jpg", "1")),
      ("1.jpg", tuple(f"{n}/1.jpg" for n in range(9))),
    ],
  )
  def test_never_guesses(self, name, ids):
    assert ids_of(name, *ids) == []

  def test_a_name_that_is_an_id_means_it(self):
    assert ids_of("1.jpg", "1.jpg", "cats/1.jpg") == ["1.jpg"]
    assert ids_of("1", "1", "1.jpg") == ["1"]

  def test_an_id_is_never_taken_for_the_path_of_another(self):
    items = [Item("a", "b"), Item("b", "a")]
    given = tuple(Answer(id_, ()) for id_ in "ab")
    assert naming.to_ids(ParsedAnswers(given, ()), items).answers == given

  def test_a_problem_tells_what_was_said(self):
    items = [Item("a/1.jpg", "x"), Item("b/1.jpg", "y")]
    given = ParsedAnswers((Answer("1.jpg", ("cat",)),), ("before",))
    before, problem = naming.to_ids(given, items).problems
    assert before == "before"
    for shown in ("'1.jpg'", "a/1.jpg", "b/1.jpg", "cat"):
      assert shown in problem

  def test_nothing_is_known_without_images(self):
    given = ParsedAnswers((Answer("1.jpg", ("cat",)),), ())
    assert naming.to_ids(given, ()) == given

  def test_many_images_that_share_names_are_found(self):
    ids = [f"{n}/a/b/same.jpg" for n in range(5_000)]
    given = tuple(Answer(f"root/{id_}", ()) for id_ in ids)
    items = [Item(i, f"/{i}") for i in ids]
    # In quadratic time this would take minutes.
    found = naming.to_ids(ParsedAnswers(given, ()), items)
    assert [answer.id for answer in found.answers] == ids
