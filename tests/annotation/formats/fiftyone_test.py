"""Tests of decern_jax/annotation/formats/fiftyone.py."""

import json
import pathlib

from hypothesis import given, settings
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


def fill_in(paths, labels):
  """Labels the samples of a query, as FiftyOne does."""
  value = json.loads(paths[0].read_text())
  for entry in value["samples"]:
    id_ = entry["decern_id"]
    if id_ in labels:
      names = ("?",) if labels[id_] is None else labels[id_]
      is_single = len(names) == 1
      entry["ground_truth"] = single(*names) if is_single else several(*names)
  return json.dumps(value).encode()


class TestWrite:
  @settings(max_examples=40, deadline=None, derandomize=True)
  @given(queries.answered())
  def test_labels_of_its_samples_are_read_back(self, case):
    queries.check_round_trip(fiftyone.FORMAT, case, fill_in)

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
    ids = [entry["_id"]["$oid"] for entry in value["samples"]]
    assert len({*ids}) == len(queries.IDS)
    assert all(len(id_) == 24 and int(id_, 16) >= 0 for id_ in ids)
    assert all(0 <= entry["_rand"] < 1 for entry in value["samples"])

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

  def test_the_field_with_the_id_counts_before_the_path(self):
    found = read(sample("x", decern_id="a", ground_truth=single("cat")))
    assert queries.said(found) == {"a": ("cat",)}

  def test_predictions_are_no_answers(self):
    assert read(sample("a", predictions=single("dog"))) == ((), ())

  def test_refuses_to_guess_among_fields(self):
    with pytest.raises(ValueError, match=r"\['model', 'people'\]"):
      read(sample("a", people=single("cat")), sample("b", model=single("b")))

  def test_the_known_field_is_first(self):
    both = sample("a", model=single("dog"), ground_truth=single("cat"))
    assert queries.said(read(both)) == {"a": ("cat",)}

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
