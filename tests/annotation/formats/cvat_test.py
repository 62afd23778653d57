"""Tests of decern_jax/annotation/formats/cvat.py."""

import json
import pathlib
from xml.sax import saxutils

from hypothesis import given, settings
import pytest

from decern_jax.annotation.answers import Answer
from decern_jax.annotation.formats import cvat, naming
from tests.annotation.formats import queries
from tests.table import each

GOLDEN = pathlib.Path(__file__).parent / "golden"


def xml(*images, meta=""):
  body = "".join(images)
  return f"<annotations><meta>{meta}</meta>{body}</annotations>".encode()


def image(name, *labels, inside=""):
  tags = "".join(f'<tag label="{label}"/>' for label in labels)
  return f'<image id="0" name="{name}">{tags}{inside}</image>'


def fill_in(paths, labels):
  """Tags the images of a list, as CVAT exports them."""
  names = paths[0].read_text().splitlines()
  images = []
  for name in names:
    id_ = name.removeprefix(f"{queries.FOLDER}/")
    if id_ in labels:
      tags = ("?",) if labels[id_] is None else labels[id_] or ("-",)
      tags = [saxutils.escape(tag, {'"': "&quot;"}) for tag in tags]
      images.append(image(saxutils.escape(name, {'"': "&quot;"}), *tags))
  return xml(*images)


class TestWrite:
  @settings(max_examples=40, deadline=None, derandomize=True)
  @given(queries.answered(ids=queries.PRINTABLE_IDS))
  def test_tags_of_its_images_are_read_back(self, case):
    queries.check_round_trip(cvat.FORMAT, case, fill_in)

  def test_lists_the_paths(self, tmp_path):
    ids = ("a b/'1'.jpg", "ü.png", "\udcff")
    images, _ = cvat.write(queries.query(ids=ids), tmp_path)
    text = images.read_bytes().decode("utf-8", "surrogateescape")
    assert text == "".join(f"/images/{id_}\n" for id_ in ids)

  def test_has_tags_for_the_classes_and_what_cvat_cannot_say(self, tmp_path):
    for is_multi_label, extra in ((False, ["?"]), (True, ["?", "-"])):
      asked = queries.query(is_multi_label=is_multi_label)
      _, labels = cvat.write(asked, tmp_path)
      found = json.loads(labels.read_text())
      assert [label["name"] for label in found] == [*queries.NAMES, *extra]
      assert {label["type"] for label in found} == {"tag"}

  @each("id_", ["a\nb", "a\rb", "a\u2028b"])
  def test_refuses_paths_that_are_no_line(self, tmp_path, id_):
    with pytest.raises(ValueError, match="one line"):
      cvat.write(queries.query(ids=(id_,)), tmp_path)

  def test_refuses_a_class_with_a_reserved_name(self, tmp_path):
    with pytest.raises(ValueError, match=r"\['\?'\]"):
      cvat.write(queries.query()._replace(class_names=("?",)), tmp_path)


class TestRead:
  @each(
    "name, expected", [("single", queries.SINGLE), ("several", queries.SEVERAL)]
  )
  def test_reads_what_datumaro_writes(self, name, expected):
    found = cvat.read((GOLDEN / f"cvat_{name}.xml").read_bytes())
    assert queries.said(found) == expected

  def test_reads_a_task_with_who_and_when(self):
    found = cvat.read((GOLDEN / "cvat_task.xml").read_bytes())
    when = "2026-11-21 09:30:00.123456+00:00"
    assert found.answers == (
      Answer("1.jpg", ("cat", "zebra"), "mira", when),
      Answer("line\nbreak.jpg", (), "mira", when),
    )
    assert found.problems == ()

  def test_names_without_folders_find_their_images(self):
    found = cvat.read((GOLDEN / "cvat_task.xml").read_bytes())
    items = queries.query(ids=("cats/1.jpg", "b/line\nbreak.jpg")).items
    ids = [answer.id for answer in naming.to_ids(found, items).answers]
    assert ids == ["cats/1.jpg", "b/line\nbreak.jpg"]

  def test_an_image_without_tags_is_not_answered(self):
    assert cvat.read(xml(image("a"), image("b", "cat"))).answers == (
      Answer("b", ("cat",)),
    )

  def test_a_tag_may_have_attributes(self):
    inside = '<tag label="cat"><attribute name="x">y</attribute></tag>'
    found = cvat.read(xml(image("a", inside=inside)))
    assert found == ((Answer("a", ("cat",)),), ())

  def test_people_of_several_tasks_are_not_mixed_up(self):
    person = "<task><assignee><username>{}</username></assignee></task>"
    meta = person.format("mira") + person.format("noor")
    (answer,) = cvat.read(xml(image("a", "cat"), meta=meta)).answers
    assert answer.annotator == ""

  def test_the_owner_is_not_who_answers(self):
    meta = "<task><owner><username>admin</username></owner></task>"
    (answer,) = cvat.read(xml(image("a", "cat"), meta=meta)).answers
    assert answer.annotator == ""

  @each("shape", ["box", "polygon", "mask", "skeleton"])
  def test_a_shape_is_no_label_of_the_image(self, shape):
    found = cvat.read(xml(image("a", inside=f'<{shape} label="cat"/>')))
    assert found.answers == ()
    assert shape in found.problems[0]

  def test_tags_elsewhere_are_none_of_an_image(self):
    assert cvat.read(xml('<tag label="cat"/>')) == ((), ())
    assert cvat.read(xml('<track label="cat"></track>')) == ((), ())

  @each(
    "broken",
    [
      '<image><tag label="cat"/></image>',
      '<image name=""><tag label="cat"/></image>',
      '<image name="x"><tag/></image>',
      '<image name="x"><tag label=" "/></image>',
      image("x", "cat", "?"),
      image("x", "-", "?"),
    ],
  )
  def test_a_broken_image_costs_that_image_alone(self, broken):
    found = cvat.read(xml(image("a", "cat"), broken, image("b", "dog")))
    assert [answer.id for answer in found.answers] == ["a", "b"]
    assert found.problems[0].startswith("image 2: ")

  @each("end", ["", "<", "</x>", "&lol;", "\xff", "\0"])
  def test_a_file_that_is_cut_off_keeps_whole_images(self, end):
    content = xml(image("a", "cat"), image("b", "cat", "dog"))
    cut = content[: content.index(b'<tag label="dog"')]
    found = cvat.read(cut + end.encode("latin-1"))
    assert found.answers == (Answer("a", ("cat",)),)
    assert found.problems

  @each(
    "inside",
    [
      '<!ENTITY a "x"><!ENTITY b "&a;&a;&a;&a;">',
      '<!ENTITY a SYSTEM "file:///etc/passwd">',
      '<!ENTITY % a SYSTEM "http://127.0.0.1:1/"> %a;',
      "",
    ],
  )
  def test_refuses_document_types(self, inside):
    content = f"<!DOCTYPE x [{inside}]>".encode() + xml(image("&b;", "cat"))
    with pytest.raises(ValueError, match="document type"):
      cvat.read(content)

  def test_refuses_entities_that_nobody_defined(self):
    found = cvat.read(xml(image("a", "cat"), image("&b;", "cat")))
    assert [answer.id for answer in found.answers] == ["a"]
    assert found.problems

  @each(
    "content",
    [
      b"",
      b"<",
      b"<x/>",
      b"<x><annotations/></x>",
      b"id,label",
      b'<?xml version="1.0" encoding="none"?><annotations/>',
      b"\xff\xfe<",
    ],
  )
  def test_refuses_another_file(self, content):
    with pytest.raises(ValueError, match="Expected"):
      cvat.read(content)

  def test_depth_is_no_danger(self):
    content = xml(image("a", "cat"), "<x>" * 100_000 + "</x>" * 100_000)
    assert len(cvat.read(content).answers) == 1
