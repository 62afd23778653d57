"""Tests of decern_jax/data/tfds_label_file.py."""

import cv2
import numpy as np
import openpyxl
import pytest
import tensorflow_datasets as tfds

from decern_jax.data.label_parts import random_parts
from decern_jax.data.tfds_label_file import load_tfds_label_file
from tests.table import each

FILES = ["agricultural00.tif", "beach07.tif", "river99.tif", "runway12.tif"]
HEADING = ["IMAGE\\LABEL", "airplane", "sea", "trees"]
ROWS = [
  ["river99", 0, 0, 1],
  ["agricultural00", 0, 0, 0],
  ["Beach07.png", 0, 1, 1],
  ["runway12", 1, 0, 0],
]


def encode(value: int) -> bytes:
  pixels = np.full((6, 8, 3), value, np.uint8)
  return cv2.imencode(".png", pixels)[1].tobytes()


@pytest.fixture
def uc_merced():
  """A mock of the data set, in which image i has the value i."""
  examples = [
    {"image": encode(i), "filename": name.encode()}
    for i, name in enumerate(FILES)
  ]

  def as_data_source(self, split, **unused):
    return examples

  with tfds.testing.mock_data(as_data_source_fn=as_data_source):
    yield examples


def write(path, rows=ROWS, heading=HEADING, mark="\t"):
  lines = [mark.join(map(str, row)) for row in [heading, *rows]]
  path.write_text("\n".join(lines))
  return path


def read_all(dataset) -> dict[str, tuple[int, list[int]]]:
  """The value of each image with its labels."""
  return {
    name: (part.read(i)[0, 0, 0], part.labels[i].tolist())
    for part in (dataset.train, dataset.test)
    for i, name in enumerate(part.ids)
  }


EXPECTED = {
  "river99": (2, [0, 0, 1]),
  "agricultural00": (0, [0, 0, 0]),
  "Beach07.png": (1, [0, 1, 1]),
  "runway12": (3, [1, 0, 0]),
}


@pytest.mark.usefixtures("uc_merced")
class TestLoadTfdsLabelFile:
  def test_images_and_labels_belong_together(self, tmp_path):
    dataset = load_tfds_label_file(
      "uc_merced",
      write(tmp_path / "labels.txt"),
      test_share=0.5,
      split_seed=1,
      num_classes=3,
      num_examples=4,
    )
    assert read_all(dataset) == EXPECTED
    assert dataset.class_names == ("airplane", "sea", "trees")
    assert dataset.train.labels.dtype == np.int32
    assert dataset.name == "uc_merced"
    assert dataset.val is None

  def test_excel_is_read_likewise(self, tmp_path):
    book = openpyxl.Workbook()
    for row in [HEADING, *ROWS]:
      book.active.append(row)
    book.save(tmp_path / "labels.xlsx")
    dataset = load_tfds_label_file(
      "uc_merced", tmp_path / "labels.xlsx", test_share=0.5, split_seed=1
    )
    assert read_all(dataset) == EXPECTED

  def test_parts_are_drawn_by_name(self, tmp_path):
    path = write(tmp_path / "labels.txt")
    dataset = load_tfds_label_file(
      "uc_merced", path, test_share=0.5, split_seed=1
    )
    names = [row[0] for row in ROWS]
    parts = random_parts(names, test_share=0.5, seed=1)
    assert dataset.test.ids == tuple(np.array(names)[parts == "test"])

  def test_table_may_tell_the_parts(self, tmp_path):
    parts = ["split", "train", "val", "test", "train"]
    rows = [[*row, part] for row, part in zip(ROWS, parts[1:], strict=True)]
    path = write(tmp_path / "a.csv", rows, [*HEADING, "split"], ",")
    dataset = load_tfds_label_file("uc_merced", path)
    assert dataset.train.ids == ("river99", "runway12")
    assert dataset.val.ids == ("agricultural00",)
    assert (dataset.val.read(0) == 0).all()

  def test_fingerprint_changes_with_the_parts(self, tmp_path):
    path = write(tmp_path / "labels.txt")
    prints = {
      load_tfds_label_file(
        "uc_merced", path, test_share=0.5, split_seed=seed
      ).fingerprint
      for seed in (1, 1, 2)
    }
    assert len(prints) == 2

  @each(
    "rows, options, match",
    [
      ([*ROWS, ["forest1", 0, 1, 1]], {}, r"1 of 5: forest1 \(row 6\)"),
      (ROWS, {"num_classes": 17}, "Expected 17 labels .* got 3"),
      (ROWS, {"num_examples": 2100}, "Expected 2100 images .* got 4"),
      (ROWS, {"file_key": "name"}, "'name' .* Text, got NoneType"),
      (ROWS, {"test_share": 1e-9}, r"train and for test .*'test': 0"),
    ],
  )
  def test_rejects_what_does_not_fit(self, tmp_path, rows, options, match):
    path = write(tmp_path / "labels.txt", rows)
    with pytest.raises(ValueError, match=match):
      load_tfds_label_file("uc_merced", path, **options)

  def test_rejects_images_of_one_name(self, tmp_path, uc_merced):
    uc_merced.append(uc_merced[0])
    with pytest.raises(ValueError, match="agricultural00 twice"):
      load_tfds_label_file("uc_merced", write(tmp_path / "labels.txt"))
