"""Tests of decern_jax/annotation/formats/datumaro.py."""

import json
import pathlib

from hypothesis import given, settings
import pytest

from decern_jax.annotation.formats import datumaro
from tests.annotation.formats import queries
from tests.table import each

GOLDEN = pathlib.Path(__file__).parent / "golden"


def item(name, *labels, **fields):
  annotations = [{"type": "label", "label_id": label} for label in labels]
  return {"id": name, "annotations": annotations, **fields}


def read(*items, names=("cat", "dog", "?", "-")):
  labels = [{"name": name} for name in names]
  value = {"categories": {"label": {"labels": labels}}, "items": [*items]}
  return datumaro.read(json.dumps(value).encode())


def written(asked, tmp_path):
  (path,) = datumaro.write(asked, tmp_path)
  return json.loads(path.read_text())


def fill_in(paths, labels):
  """Annotates the items of a query, as Datumaro writes them."""
  value = json.loads(paths[0].read_text())
  names = [c["name"] for c in value["categories"]["label"]["labels"]]
  for entry in value["items"]:
    id_ = entry["attr"]["decern_id"]
    if id_ in labels:
      given_names = ("?",) if labels[id_] is None else labels[id_] or ("-",)
      entry["annotations"] = [
        {"type": "label", "label_id": names.index(name)} for name in given_names
      ]
  return json.dumps(value).encode()


class TestWrite:
  def test_is_where_datumaro_looks(self, tmp_path):
    (path,) = datumaro.write(queries.query(), tmp_path)
    assert path == tmp_path / "datumaro" / "annotations" / "default.json"

  @settings(max_examples=40, deadline=None, derandomize=True)
  @given(queries.answered())
  def test_annotations_of_its_items_are_read_back(self, case):
    queries.check_round_trip(datumaro.FORMAT, case, fill_in)

  def test_items_have_names_of_their_own(self, tmp_path):
    ids = ("a/1.jpg", "a/1.png", "b.jpg")
    value = written(queries.query(ids=ids), tmp_path)
    names = [entry["id"] for entry in value["items"]]
    assert names == ["a/1.jpg", "a/1.png", "b"]

  def test_predictions_are_attributes(self, tmp_path):
    value = written(queries.query(is_multi_label=True), tmp_path)
    assert value["items"][0]["attr"] == {
      "decern_id": "cats/1.jpg",
      "predicted_1": "cat",
      "probability_1": 0.75,
      "predicted_2": 'dog & "wolf"',
      "probability_2": 0.5,
    }

  def test_has_the_fields_of_a_file_by_datumaro(self, tmp_path):
    golden = json.loads((GOLDEN / "datumaro_single.json").read_text())
    value = written(queries.query(), tmp_path)
    assert set(value) == set(golden)
    assert value["dm_format_version"] == golden["dm_format_version"]
    assert value["media_type"] == golden["media_type"]
    assert set(value["items"][0]) == set(golden["items"][0])
    labels = value["categories"]["label"], golden["categories"]["label"]
    assert set(labels[0]) == set(labels[1])
    assert labels[0]["labels"] == labels[1]["labels"][:4]

  def test_refuses_a_class_with_a_reserved_name(self, tmp_path):
    with pytest.raises(ValueError, match=r"\['-'\]"):
      datumaro.write(queries.query()._replace(class_names=("-",)), tmp_path)


class TestRead:
  @each(
    "name, expected", [("single", queries.SINGLE), ("several", queries.SEVERAL)]
  )
  def test_reads_what_datumaro_writes(self, name, expected):
    found = datumaro.read((GOLDEN / f"datumaro_{name}.json").read_bytes())
    assert queries.said(found) == expected

  @each(
    "fields, id_",
    [
      ({}, "a/b"),
      ({"image": {"path": "a/b.jpg"}}, "a/b.jpg"),
      ({"image": {"path": "/root/a/b.jpg"}}, "a/b.jpg"),
      ({"image": {"path": "other.jpg"}}, "a/b"),
      ({"image": {"path": "a/b"}}, "a/b"),
      ({"image": {"path": 3}}, "a/b"),
      ({"image": "a/b.jpg"}, "a/b"),
      ({"attr": {"decern_id": "c"}, "image": {"path": "a/b.jpg"}}, "c"),
      ({"attr": {"decern_id": 3}}, "a/b"),
    ],
  )
  def test_an_item_is_named_as_its_image(self, fields, id_):
    assert queries.said(read(item("a/b", 0, **fields))) == {id_: ("cat",)}

  def test_says_skipped_and_none_of_the_labels(self):
    found = read(item("a", 2), item("b", 3))
    assert queries.said(found) == {"a": None, "b": ()}

  @each(
    "broken",
    [
      3,
      [],
      {"annotations": [{"type": "label", "label_id": 0}]},
      item(3, 0),
      item("x", 4),
      item("x", -1),
      item("x", True),
      item("x", 0.0),
      item("x", None),
      item("x", "cat"),
      item("x", [0]),
      item("x", 10**30),
      item("x", 0, 2),
      {"id": "x", "annotations": {"type": "label"}},
      {"id": "x", "annotations": [3]},
      {"id": "x", "annotations": [{"type": "bbox", "label_id": 0}]},
    ],
  )
  def test_a_broken_item_costs_that_item_alone(self, broken):
    found = read(item("a", 0), broken, item("b", 1))
    assert [answer.id for answer in found.answers] == ["a", "b"]
    assert found.problems[0].startswith("item 2: ")

  @each(
    "content",
    [b"", b"[]", b"{}", b'{"categories": {}, "items": 3}', b'{"items": []}']
    + [b'{"categories": {"label": {"labels": 3}}, "items": []}'],
  )
  def test_refuses_another_file(self, content):
    with pytest.raises(ValueError, match="Expected"):
      datumaro.read(content)

  def test_names_that_are_none_are_problems_where_they_are_used(self):
    found = read(item("a", 0), item("b", 1), names=("cat", None))
    assert [answer.id for answer in found.answers] == ["a"]
    assert len(found.problems) == 1
