"""Tests of decern_jax/annotation/quality/report_files.py and report_page.py."""

import csv
import dataclasses
import html.parser
import json

import numpy as np
import pytest

from decern_jax.annotation.quality import report_files, report_page
from decern_jax.annotation.quality.findings import collect
from decern_jax.annotation.quality.label_errors import LabelCheck, Suspect
from decern_jax.annotation.state import Answer
from tests.annotation.quality.run_facts import make_facts, make_query

CHECK = LabelCheck(
  suspects=(
    Suspect("a", "ant", "bee", 0.25, 0.75, ("ann",)),
    Suspect("b", "", "bee", 0.125, 0.875, ("",)),
  ),
  num_checked=40,
  accuracy=0.9,
  unchecked=("cat",),
)


def read(split: str, id_: str) -> np.ndarray:
  return np.full((20, 30, 3), 200 if split == "pool" else 50, np.uint8)


@pytest.fixture
def found():
  return collect(make_facts())._replace(label_check=CHECK)


def write(found, folder, read=read) -> str:
  return report_files.write(found, folder, read=read).read_text()


def rows(path) -> list[list[str]]:
  with open(path, newline="") as file:
    return list(csv.reader(file))


class Checker(html.parser.HTMLParser):
  """Counts tags, and checks that each is closed."""

  def __init__(self):
    super().__init__()
    self.open, self.sources = [], []

  def handle_starttag(self, tag, attrs):
    self.sources += [v for k, v in attrs if k in ("src", "href")]
    if tag not in ("meta", "img", "br"):
      self.open.append(tag)

  def handle_endtag(self, tag):
    assert self.open.pop() == tag


class TestPage:
  def test_is_whole_and_needs_no_other_file(self, found, tmp_path):
    text = write(found, tmp_path)
    checker = Checker()
    checker.feed(text)
    assert checker.open == []
    assert checker.sources
    assert all(source.startswith("data:image/") for source in checker.sources)
    assert "<script" not in text

  def test_says_what_it_found(self, found, tmp_path):
    text = write(found, tmp_path)
    for part in (
      "3 of 50 images have a label, after 2 rounds.",
      "Accuracy on the 2 images of test: 75.0 [",
      "From 2 to 4 labels: +25.0 points",
      "2 of 40 labels checked",
      "predicts 90.0 % of 40 labels. Too few labels to check: cat.",
      "ann: ant<br>bob: bee",
      "different labels",
      "also held out",
      "1 class has no label yet.",
      "Krippendorff's alpha: 0.000",
      "Query 2: 2 images by margin",
      '<span title="a">ant</span> (0.90)',
      "ant (0.25)",
      "bee (0.75)",
      "not bee (0.12)",
      "somebody",
    ):
      assert part in text, part

  def test_names_are_text(self, found, tmp_path):
    text = write(found, tmp_path)
    assert "&lt;f&gt;" in text
    assert "<f>" not in text

  def test_names_of_classes_and_people_are_text(self, tmp_path):
    answers = (
      Answer("a", ("<ant>",), "<ann>"),
      Answer("a", ("<bee>",), "<bob>"),
    )
    text = write(collect(make_facts(answers=answers)), tmp_path)
    for name in ("ant", "bee", "ann", "bob"):
      assert f"&lt;{name}&gt;" in text
      assert f"<{name}>" not in text

  def test_last_query_is_open(self, found, tmp_path):
    text = write(found, tmp_path)
    first, *others = text.split("<details")[1:]
    assert first.startswith(" open>")
    assert "Query 2" in first
    assert all(other.startswith(">") for other in others)

  def test_images_of_older_queries_are_not_read(self, tmp_path, monkeypatch):
    monkeypatch.setattr(report_page, "MAX_SHOWN_QUERIES", 1)
    seen = set()

    def note(part, id_):
      seen.add(id_)
      return read(part, id_)

    facts = make_facts(hashes={"pool": {}}, answers=())
    write(collect(facts), tmp_path, note)
    assert seen == {"e", "<f>"}

  def test_each_image_is_read_once(self, found, tmp_path):
    seen = []

    def note(part, id_):
      seen.append((part, id_))
      return read(part, id_)

    write(found, tmp_path, note)
    assert len(seen) == len(set(seen))

  def test_what_is_much_is_cut_and_said(self, tmp_path, monkeypatch):
    monkeypatch.setattr(report_page, "MAX_ASKED", 3)
    queries = (make_query(0, *map(str, range(5))),)
    text = write(collect(make_facts(queries=queries)), tmp_path)
    assert "2 more in asked.csv." in text
    assert len(rows(tmp_path / "asked.csv")) == 6

  def test_images_of_other_bands_are_shown(self, found, tmp_path):
    text = write(
      found, tmp_path, lambda part, id_: np.zeros((8, 8, 5), np.uint8)
    )
    assert "data:image/jpeg" in text

  def test_before_anything_happened(self, tmp_path):
    facts = make_facts(
      queries=(), answers=(), records=(), hashes={}, labels_held_out={}
    )
    text = write(collect(facts), tmp_path)
    for part in (
      "0 of 50 images have a label",
      "No images are held out",
      "There is no query yet.",
      "Nobody has answered yet.",
      "Labels can be checked once two classes have five labels",
    ):
      assert part in text, part
    assert not (tmp_path / "figures").exists()

  def test_one_round_has_no_gain(self, tmp_path):
    facts = make_facts()
    found = collect(dataclasses.replace(facts, records=facts.records[:1]))
    assert "One round is done" in write(found, tmp_path)


class TestFiles:
  def test_tables(self, found, tmp_path):
    write(found, tmp_path)
    assert rows(tmp_path / "label_errors.csv") == [
      ["id", "given", "suggested", "p_given", "p_suggested", "annotators"],
      ["a", "ant", "bee", "0.25", "0.75", "ann"],
      ["b", "", "bee", "0.125", "0.875", ""],
    ]
    assert rows(tmp_path / "duplicates.csv")[1:] == [
      ["0", "pool", "a", "ant"],
      ["0", "pool", "c", "bee"],
      ["1", "pool", "b", "bee"],
      ["1", "test", "t1", "ant"],
    ]
    assert rows(tmp_path / "classes.csv")[1:] == [
      *(["ant", "1"], ["bee", "2"], ["cat", "0"])
    ]
    assert rows(tmp_path / "asked.csv")[3] == [
      *("1", "c", "margin", "0.25", "3", "bee")
    ]

  def test_json_has_all_of_it(self, found, tmp_path):
    write(found, tmp_path)
    content = json.loads((tmp_path / "report.json").read_text())
    assert [*content] == [*found._fields]
    assert content["progress"]["num_labeled"] == 3
    assert content["label_check"]["suspects"][0]["id"] == "a"
    assert content["asked"][2]["nearest"] == [["a", 0.9]]

  def test_picture_of_the_gain(self, found, tmp_path):
    write(found, tmp_path)
    assert (tmp_path / "figures" / "held_out.png").stat().st_size > 1000

  def test_writes_over_an_older_report(self, found, tmp_path):
    first = write(found, tmp_path)
    assert write(found, tmp_path) == first

  def test_names_that_are_no_text(self, tmp_path):
    queries = (make_query(0, "bad \udcff.png"),)
    write_ = report_files.write(
      collect(make_facts(queries=queries)), tmp_path, read=read
    )
    assert b"bad \xff.png" in write_.read_bytes()
