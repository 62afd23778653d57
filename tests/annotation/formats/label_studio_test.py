"""Tests of decern_jax/annotation/formats/label_studio.py."""

import json
import pathlib
from xml.etree import ElementTree

from hypothesis import given, settings
import pytest

from decern_jax.annotation.formats import label_studio
from tests.annotation.formats import queries
from tests.table import each

GOLDEN = pathlib.Path(__file__).parent / "golden"


def golden(name):
  return (GOLDEN / f"label_studio_{name}.json").read_bytes()


def task(*annotations, **fields):
  data = {"image": "x", "id": "a.jpg", "decern_id": "a.jpg"}
  return {"id": 7, "data": data, "annotations": [*annotations], **fields}


def annotation(*choices, person=1, time="2026-11-21T10:00:00Z", **fields):
  result = [{"from_name": "label", "value": {"choices": [*choices]}}]
  return {
    "id": 3,
    "completed_by": person,
    "result": result if choices else [],
    "was_cancelled": False,
    "created_at": time,
    **fields,
  }


def read(*tasks):
  return label_studio.read(json.dumps([*tasks]).encode())


def fill_in(paths, labels):
  """Annotates the tasks of a query, as the server exports them."""
  tasks = json.loads(paths[0].read_text())
  for entry in tasks:
    id_ = entry["data"]["id"]
    if id_ in labels:
      names = labels[id_] or ()
      is_skipped = labels[id_] is None
      entry["annotations"] = [annotation(*names, was_cancelled=is_skipped)]
  return json.dumps(tasks).encode()


class TestWrite:
  def test_the_server_has_read_this(self, tmp_path):
    # The golden files were made from it: their tasks and predictions are it.
    label_studio.write(queries.query(), tmp_path)
    written = json.loads((tmp_path / "label_studio_tasks.json").read_text())
    kept = json.loads(golden("single"))
    assert [t["data"] for t in kept] == [t["data"] for t in written]
    back = kept[0]["annotations"][0]["prediction"]
    (prediction,) = written[0]["predictions"]
    assert back["result"] == prediction["result"]
    assert back["score"] == prediction["score"] == 0.75
    assert back["model_version"] == prediction["model_version"]

  @settings(max_examples=40, deadline=None, derandomize=True)
  @given(queries.answered())
  def test_annotations_of_its_tasks_are_read_back(self, case):
    queries.check_round_trip(label_studio.FORMAT, case, fill_in)

  def test_writes_nothing_that_cannot_be_asked(self, tmp_path):
    with pytest.raises(ValueError, match="none"):
      label_studio.write(queries.query()._replace(class_names=()), tmp_path)
    assert not (tmp_path / "label_studio_tasks.json").exists()


class TestTasks:
  def test_no_model_predicts_nothing(self):
    asked = queries.query()
    items = tuple(item._replace(predictions=()) for item in asked.items)
    (first, *_) = label_studio.tasks(asked._replace(items=items))
    assert set(first) == {"data"}

  def test_several_labels_show_all_likely_classes(self):
    (first, *_) = label_studio.tasks(queries.query(is_multi_label=True))
    (result,) = first["predictions"][0]["result"]
    assert result["value"] == {"choices": ["cat", 'dog & "wolf"']}


def choices_of(asked) -> ElementTree.Element:
  view = ElementTree.fromstring(label_studio.labeling_config(asked))
  (choices,) = view.findall("Choices")
  return choices


class TestLabelingConfig:
  @each("is_multi_label", [False, True])
  def test_offers_the_classes(self, is_multi_label):
    asked = queries.query(is_multi_label=is_multi_label)
    choices = choices_of(asked)
    assert [c.get("value") for c in choices] == list(queries.NAMES)
    assert choices.get("choice") == ["single", "multiple"][is_multi_label]
    # Where there may be none of the labels, no choice must be one.
    assert choices.get("required") == [("true"), None][is_multi_label]

  @each("name", ["\0", "a\x1b", "\udcff", "\uffff"])
  def test_refuses_what_xml_cannot_hold(self, name):
    asked = queries.query()._replace(class_names=("cat", name))
    with pytest.raises(ValueError, match="XML"):
      label_studio.labeling_config(asked)

  @each("name", ["<a>&", "'\"", "a\nb\tc", "猫", "\U0001f408"])
  def test_takes_every_other_name(self, name):
    asked = queries.query()._replace(class_names=("cat", name))
    assert choices_of(asked)[1].get("value") == name


class TestImageAddress:
  def test_quotes_paths(self):
    address = label_studio.image_address("/a b/ü?#&.jpg")
    assert address == "/data/local-files/?d=a%20b/%C3%BC%3F%23%26.jpg"

  def test_takes_names_that_are_no_text(self):
    assert label_studio.image_address("/\udcff").endswith("?d=%FF")

  def test_leaves_those_of_a_store(self):
    assert label_studio.image_address("gs://a/b c") == "gs://a/b c"


class TestRead:
  def test_reads_what_the_server_exports(self):
    found = label_studio.read(golden("single"))
    assert queries.said(found) == queries.SINGLE
    assert {answer.annotator for answer in found.answers} == {"1"}
    assert all(answer.time[:4] == "2026" for answer in found.answers)

  def test_reads_several_labels(self):
    found = label_studio.read(golden("several"))
    assert queries.said(found) == queries.SEVERAL

  @each(
    "name, expected",
    [("single_min", queries.SINGLE), ("several_min", queries.SEVERAL)],
  )
  def test_reads_the_small_export_which_leaves_out_skipped(
    self, name, expected
  ):
    expected = {id_: said for id_, said in expected.items() if said is not None}
    found = label_studio.read(golden(name))
    # The last ones: the server writes the later annotation of a task first.
    assert queries.said(found) == expected
    assert len(found.answers) == len(expected) + 1

  def test_keeps_every_annotation_of_a_task(self):
    found = label_studio.read(golden("single"))
    first = [a.labels for a in found.answers if a.id == "cats/1.jpg"]
    assert first == [("zebra",), ("cat",)]

  def test_the_later_annotation_is_last(self):
    found = read(
      task(
        annotation("cat", time="2026-11-21", updated_at="2026-11-23"),
        annotation("dog", time="2026-11-22"),
      )
    )
    assert [a.labels for a in found.answers] == [("dog",), ("cat",)]
    assert [a.time for a in found.answers] == ["2026-11-22", "2026-11-23"]

  @each(
    "person, name",
    [
      (12, "12"),
      ({"id": 12, "email": "mira@example.com"}, "mira@example.com"),
      ({"id": 12, "email": ""}, "12"),
      ("mira", "mira"),
      (None, ""),
    ],
  )
  def test_tells_who(self, person, name):
    (answer,) = read(task(annotation("cat", person=person))).answers
    assert answer.annotator == name

  def test_people_of_one_task_are_told_apart(self):
    found = read(task(annotation("cat", person=1), annotation("dog", person=2)))
    assert [a.annotator for a in found.answers] == ["1", "2"]

  def test_a_cancelled_annotation_is_a_skipped_image(self):
    (answer,) = read(task(annotation("cat", was_cancelled=True))).answers
    assert answer.labels is None

  def test_predictions_are_no_answers(self):
    predictions = [{"result": annotation("cat")["result"]}]
    assert read(task(predictions=predictions)) == ((), ())

  def test_a_draft_is_told(self):
    found = read(task(drafts=[annotation("cat")]))
    assert found.answers == ()
    assert "not submitted" in found.problems[0]

  @each("name", ["-", "?"])
  def test_no_name_is_reserved(self, name):
    (answer,) = read(task(annotation(name))).answers
    assert answer.labels == (name,)

  def test_takes_the_choices_beside_other_parts(self):
    several = annotation("cat")
    several["result"] += [
      {"from_name": "quality", "value": {"choices": ["poor"]}},
      {"from_name": "box", "value": {"x": 1, "rectanglelabels": ["eye"]}},
    ]
    (answer,) = read(task(several)).answers
    assert answer.labels == ("cat",)

  @each(
    "result",
    [
      [{"from_name": "box", "value": {"rectanglelabels": ["eye"]}}],
      [
        {"from_name": "a", "value": {"choices": ["x"]}},
        {"from_name": "b", "value": {"choices": ["y"]}},
      ],
      [{"from_name": "quality", "value": {"choices": ["poor"]}}],
      [{"from_name": "label", "value": {"choices": "cat"}}],
      [{"from_name": "label", "value": {"choices": [1]}}],
      [3],
      "cat",
    ],
  )
  def test_other_results_are_a_problem_and_never_an_answer(self, result):
    found = read(task({**annotation(), "result": result}), task())
    assert found.answers == ()
    assert found.problems[0].startswith("task 1")

  @each(
    "broken",
    [
      3,
      "task",
      [],
      {},
      {"data": 3, "annotations": [annotation("cat")]},
      {"data": {"image": "x"}, "annotations": [annotation("cat")]},
      {"data": {"id": 4}, "annotations": [annotation("cat")]},
      {"data": {"id": "a"}, "annotations": annotation("cat")},
      {"data": {"id": "a"}, "annotations": [3]},
      {"annotation_id": 4, "label": "cat"},
      {"annotation_id": 4, "decern_id": "a", "label": 3},
      {"annotation_id": 4, "decern_id": "a", "label": {"choices": "cat"}},
      {"annotation_id": 4, "decern_id": "a", "kind": "cat"},
    ],
  )
  def test_a_broken_task_costs_that_task_alone(self, broken):
    found = read(task(annotation("cat")), broken, task(annotation("dog")))
    assert [a.labels for a in found.answers] == [("cat",), ("dog",)]
    assert found.problems[0].startswith("task 2")

  @each("content", [b"", b"{}", b"[", b"3", b"\xff"])
  def test_refuses_another_file(self, content):
    with pytest.raises(ValueError, match="Expected"):
      label_studio.read(content)
