"""Tests of decern_jax/annotation/formats/fiftyone.py."""

import json
import pathlib

import pytest

from decern_jax.annotation.formats import fiftyone
from tests.annotation.formats import queries
from tests.table import each

GOLDEN = pathlib.Path(__file__).parent / "golden"


def single(label):
  return {"_cls": "Classification", "label": label}


def several(*labels):
  return {
    "_cls": "Classifications",
    "classifications": [single(label) for label in labels],
  }


def sample(path, **fields):
  return {"filepath": path, **fields}


def read(*samples):
  return fiftyone.read(json.dumps({"samples": [*samples]}).encode())


def written(asked, tmp_path):
  samples, metadata = fiftyone.write(asked, tmp_path)
  return json.loads(samples.read_text()), json.loads(metadata.read_text())


class TestWrite:
  def test_what_is_written_is_not_answered(self, tmp_path):
    for is_multi_label in (False, True):
      asked = queries.query(is_multi_label=is_multi_label)
      path, _ = fiftyone.write(asked, tmp_path)
      assert fiftyone.read(path.read_bytes()) == ((), ())

  def test_answers_to_what_is_written_have_its_ids(self, tmp_path):
    value, _ = written(queries.query(ids=("a b", "\udcff\n")), tmp_path)
    for given in value["samples"]:
      given["ground_truth"] = single("cat")
    found = fiftyone.read(json.dumps(value).encode())
    assert queries.said(found) == {"a b": ("cat",), "\udcff\n": ("cat",)}

  @each("is_multi_label", [False, True])
  def test_predictions_are_labels_of_fiftyone(self, tmp_path, is_multi_label):
    asked = queries.query(is_multi_label=is_multi_label)
    name = ["single", "several"][is_multi_label]
    value, metadata = written(asked, tmp_path)
    path = GOLDEN / f"fiftyone_{name}.json"
    golden = json.loads(path.read_text())["samples"][0]
    mine = value["samples"][0]["predictions"]
    assert set(mine) == set(golden["predictions"])
    assert mine["_cls"] == golden["predictions"]["_cls"]
    (kind,) = (
      found["embedded_doc_type"]
      for found in metadata["sample_fields"]
      if found["name"] == "ground_truth"
    )
    assert kind == f"fiftyone.core.labels.{mine['_cls']}"

  def test_ids_are_those_of_mongodb_and_differ(self, tmp_path):
    value, _ = written(queries.query(), tmp_path)
    ids = [given["_id"]["$oid"] for given in value["samples"]]
    assert len({*ids}) == len(queries.IDS)
    assert all(len(id_) == 24 and int(id_, 16) >= 0 for id_ in ids)
    assert all(0 <= given["_rand"] < 1 for given in value["samples"])

  def test_no_model_predicts_nothing(self, tmp_path):
    asked = queries.query()
    items = tuple(item._replace(predictions=()) for item in asked.items)
    value, _ = written(asked._replace(items=items), tmp_path)
    assert "predictions" not in value["samples"][0]

  def test_refuses_a_class_with_a_reserved_name(self, tmp_path):
    with pytest.raises(ValueError, match=r"\['-'\]"):
      fiftyone.write(queries.query()._replace(class_names=("-",)), tmp_path)


class TestRead:
  @each(
    "name, expected", [("single", queries.SINGLE), ("several", queries.SEVERAL)]
  )
  def test_reads_what_fiftyone_writes(self, name, expected):
    found = fiftyone.read((GOLDEN / f"fiftyone_{name}.json").read_bytes())
    assert queries.said(found) == expected
    assert all(answer.time[:4] == "2026" for answer in found.answers)

  def test_takes_the_only_field_under_another_name(self):
    found = read(sample("a", kind=single("cat"), predictions=single("dog")))
    assert queries.said(found) == {"a": ("cat",)}

  def test_predictions_are_no_answers(self):
    assert read(sample("a", predictions=single("dog"))) == ((), ())

  def test_refuses_to_guess_among_fields(self):
    with pytest.raises(ValueError, match=r"\['model', 'people'\]"):
      read(sample("a", people=single("cat")), sample("b", model=single("b")))

  def test_the_known_field_is_first(self):
    given = sample("a", model=single("dog"), ground_truth=single("cat"))
    assert queries.said(read(given)) == {"a": ("cat",)}

  def test_says_skipped_and_none_of_the_labels(self):
    found = read(
      sample("a", ground_truth=several("?")),
      sample("b", ground_truth=several("-")),
      sample("c", ground_truth=several()),
      sample("d", ground_truth=None),
      sample("e"),
    )
    assert queries.said(found) == {"a": None, "b": (), "c": ()}

  @each(
    "broken",
    [
      3,
      None,
      [],
      {"ground_truth": single("cat")},
      sample(3, ground_truth=single("cat")),
      sample("x", ground_truth=single(None)),
      sample("x", ground_truth=single(3)),
      sample("x", ground_truth=several("cat", None)),
      sample("x", ground_truth={"_cls": "Detections"}),
      sample("x", ground_truth="cat"),
      sample(
        "x", ground_truth={"_cls": "Classifications"} | {"classifications": 3}
      ),
    ],
  )
  def test_a_broken_sample_costs_that_sample_alone(self, broken):
    good = single("cat")
    found = read(
      sample("a", ground_truth=good), broken, sample("b", ground_truth=good)
    )
    assert [answer.id for answer in found.answers] == ["a", "b"]
    assert found.problems[0].startswith("sample 2: ")

  @each("content", [b"", b"[]", b"{}", b'{"samples": 3}'])
  def test_refuses_another_file(self, content):
    with pytest.raises(ValueError, match="Expected"):
      fiftyone.read(content)
