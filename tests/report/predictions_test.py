"""Tests of decern_jax/report/predictions.py."""

import csv
import os

import numpy as np
import pytest

from decern_jax.report import predictions
from tests.table import each

CLASSES = ("ant", "bee", "cat")
PROBS = np.array([[0.2, 0.7, 0.1], [0.5, 0.1, 0.4]], np.float32)


def read_back(path) -> list[list[str]]:
  """Reads as the docstring of `write` says."""
  with open(
    path, newline="", encoding="utf-8", errors="surrogateescape"
  ) as file:
    return list(csv.reader(file))


@pytest.fixture
def path(tmp_path):
  return tmp_path / "labels.csv"


class TestWrite:
  def test_rows_hold_classes_from_the_most_probable_on(self, path):
    predictions.write(path, ["a.png", "b.png"], PROBS, CLASSES, top=2)
    assert read_back(path) == [
      ["path", "class_1", "prob_1", "class_2", "prob_2"],
      ["a.png", "bee", "0.7", "ant", "0.2"],
      ["b.png", "ant", "0.5", "cat", "0.4"],
    ]

  def test_is_plain_where_names_are(self, path):
    predictions.write(path, ["a.png"], PROBS[:1], CLASSES, top=1)
    expected = b"path,class_1,prob_1\r\na.png,bee,0.7\r\n"
    assert path.read_bytes() == expected

  @each("top", [3, 4, 1000])
  def test_no_more_columns_than_classes(self, path, top):
    predictions.write(path, ["a.png", "b.png"], PROBS, CLASSES, top=top)
    header, first, _ = read_back(path)
    assert header[-2:] == ["class_3", "prob_3"]
    assert first[1::2] == ["bee", "ant", "cat"]

  def test_equal_probabilities_keep_the_order_of_classes(self, path):
    probs = np.full((1, 3), 1 / 3, np.float32)
    predictions.write(path, ["a.png"], probs, CLASSES, top=3)
    assert read_back(path)[1][1::2] == list(CLASSES)

  def test_probabilities_read_back_equal(self, path):
    rng = np.random.default_rng(0)
    probs = rng.dirichlet(np.full(50, 0.05), 20).astype(np.float32)
    names = [f"class {i}" for i in range(50)]
    predictions.write(path, [f"{i}" for i in range(20)], probs, names, top=50)
    found = [row[2::2] for row in read_back(path)[1:]]
    expected = -np.sort(-probs, axis=1)
    assert (np.array(found).astype(np.float32) == expected).all()

  @each(
    "name",
    [
      "a,b.png",
      'a"b".png',
      '"',
      "a\nb.png",
      "a\rb.png",
      "a\r\nb.png",
      " a b ",
      "蟻.png",
      os.fsdecode(b"caf\xe9.png"),
      os.fsdecode(b'\xff,"\n\xfe.png'),
    ],
  )
  def test_unusual_names_read_back_equal(self, path, name):
    predictions.write(path, [name], PROBS[:1], (name, "bee", "cat"), top=2)
    _, row = read_back(path)
    assert row[0] == row[3] == name
    assert os.fsencode(row[0]) == os.fsencode(name)

  def test_replaces_a_file(self, path):
    path.write_text("old")
    predictions.write(path, ["a.png"], PROBS[:1], CLASSES, top=1)
    assert len(read_back(path)) == 2
    assert list(path.parent.iterdir()) == [path]

  def test_leaves_the_old_file_if_it_fails(self, path):
    path.write_text("old")
    with pytest.raises(ValueError, match="shorter"):
      predictions.write(path, ["a.png", "b.png"], PROBS[:1], CLASSES, top=1)
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


class TestCheckWritable:
  def test_leaves_no_trace(self, path):
    predictions.check_writable(path)
    assert not list(path.parent.iterdir())

  def test_leaves_a_file_as_it_is(self, path):
    path.write_text("old")
    predictions.check_writable(path)
    assert path.read_text() == "old"

  @each("name", ["missing/x.csv", "file/x.csv"])
  def test_rejects_a_folder_that_is_none(self, tmp_path, name):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=f"can be written, got .*/{name}"):
      predictions.check_writable(tmp_path / name)

  def test_rejects_a_folder_in_place_of_a_file(self, tmp_path):
    with pytest.raises(ValueError, match="to be a file, got"):
      predictions.check_writable(tmp_path)
