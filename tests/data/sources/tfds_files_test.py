"""Tests of images of tfds with a split file or a label file."""

import io
import json
from typing import Any

import cv2
import numpy as np
import openpyxl
import pytest
import tensorflow_datasets as tfds

from decern_jax.data.dataset import Dataset
from decern_jax.data.label_table import random_splits
from decern_jax.data.sources import tfds_files
from decern_jax.data.sources.tfds_files import (
  load_tfds_label_file,
  load_tfds_resplit,
)
from tests.data import tiny_tfds
from tests.data.tiny_tfds import encode
from tests.table import each

CLASSES = ["background_google", "faces", "pagoda"]

SPLIT = {
  "train": [
    ["pagoda/image_0005.jpg", 1, "pagoda tower"],
    ["Faces/image_0001.jpg", 0, "face"],
    ["pagoda/image_0001.jpg", 1, "pagoda tower"],
  ],
  "val": [["Faces/image_0002.jpg", 0, "face"]],
  "test": [
    ["Faces/image_0004.jpg", 0, "face"],
    ["pagoda/image_0002.jpg", 1, "pagoda tower"],
  ],
}


def color(label: int, number: int) -> int:
  return 100 * label + number


class TinyObjects(tfds.core.GeneratorBasedBuilder):
  """Three classes whose files have equal names, as caltech101 has."""

  VERSION = tfds.core.Version("1.0.0")

  def _info(self) -> tfds.core.DatasetInfo:
    features = tfds.features.FeaturesDict(
      {
        "image": tfds.features.Image(),
        "image/file_name": tfds.features.Text(),
        "label": tfds.features.ClassLabel(names=CLASSES),
      }
    )
    return tfds.core.DatasetInfo(builder=self, features=features)

  def _split_generators(self, dl_manager):
    del dl_manager
    return {
      "train": self._generate_examples(range(1, 4)),
      "test": self._generate_examples(range(4, 6)),
    }

  def _generate_examples(self, numbers):
    for number in numbers:
      for label, name in enumerate(CLASSES):
        pixels = np.full((4, 5, 3), color(label, number), np.uint8)
        example = {
          "image": io.BytesIO(cv2.imencode(".png", pixels)[1].tobytes()),
          "image/file_name": f"image_{number:04d}.jpg",
          "label": label,
        }
        yield f"{name}/{number}", example


data_dir = tiny_tfds.prepared("tiny_objects")


@pytest.fixture
def load(data_dir, tmp_path):
  """Opens the data by a split file with `content`."""

  def load_content(
    content=SPLIT, *, file_key: str = "image/file_name", **options: Any
  ) -> Dataset:
    file = tmp_path / "split.json"
    file.write_text(json.dumps(content))
    return load_tfds_resplit(
      "tiny_objects", file, data_dir=data_dir, file_key=file_key, **options
    )

  return load_content


class TestLoadTfdsResplit:
  def test_images_are_those_of_the_paths(self, load):
    dataset = load()
    colors = [dataset.train.read(i)[0, 0, 0] for i in range(3)]
    assert colors == [color(2, 5), color(1, 1), color(2, 1)]
    colors = [dataset.test.read(i)[0, 0, 0] for i in range(2)]
    assert colors == [color(1, 4), color(2, 2)]

  def test_labels_and_names_are_those_of_the_file(self, load):
    dataset = load()
    assert dataset.name == "tiny_objects"
    assert dataset.class_names == ("face", "pagoda tower")
    assert dataset.train.labels.tolist() == [1, 0, 1]
    assert dataset.train.labels.dtype == np.int32
    assert dataset.test.labels.tolist() == [0, 1]

  def test_ids_are_the_paths(self, load):
    dataset = load()
    assert dataset.train.ids[0] == "train/pagoda/image_0005.jpg"
    assert dataset.test.ids == (
      "test/Faces/image_0004.jpg",
      "test/pagoda/image_0002.jpg",
    )

  def test_images_held_out_by_the_file_are_nowhere(self, load):
    dataset = load()
    assert dataset.val is None
    ids = [*dataset.train.ids, *dataset.test.ids]
    assert not any("image_0002" in name and "Faces" in name for name in ids)

  def test_is_independent_of_the_order_of_the_splits_of_tfds(self, load):
    first, other = load(), load(splits=("test", "train"))
    assert first.train.ids == other.train.ids
    assert first.fingerprint == other.fingerprint
    assert (first.train.read(0) == other.train.read(0)).all()

  def test_fingerprint_changes_with_the_images(self, load):
    fewer = SPLIT | {"test": SPLIT["test"][:1]}
    swapped = SPLIT | {"test": SPLIT["test"][::-1]}
    contents = (SPLIT, fewer, swapped)
    assert len({load(content).fingerprint for content in contents}) == 3

  def test_no_image_is_decoded_before_it_is_read(self, load, monkeypatch):
    def fail(data):
      raise AssertionError("decoded")

    monkeypatch.setattr(tfds_files, "decode_image", fail)
    dataset = load()
    with pytest.raises(AssertionError, match="decoded"):
      dataset.train.read(0)

  def test_accepts_expected_sizes(self, load):
    sizes = {"train": 3, "test": 2}
    assert load(num_classes=2, num_examples=sizes).val is None

  @each(
    "options, expected",
    [
      ({"num_classes": 100}, "Expected 100 classes in .*split.json, got 2"),
      ({"num_examples": {"train": 4128}}, "4128 images of 'train' .* got 3"),
      ({"num_examples": {"test": 2465}}, "2465 images of 'test' .* got 2"),
      ({"file_key": "label"}, "'label' .* Text, got ClassLabel"),
      ({"image_key": "photo"}, "'photo' .* Image, got NoneType"),
      ({"splits": ("train", "holdout")}, r"'test', 'train'\], got 'holdout'"),
    ],
  )
  def test_rejects_what_is_not_there(self, load, options, expected):
    with pytest.raises(ValueError, match=expected):
      load(**options)

  def test_rejects_paths_that_tfds_does_not_have(self, load):
    test = [[f"Faces/image_01{i:02d}.jpg", 0, "face"] for i in range(12)]
    expected = (
      r"tiny_objects/1\.0\.0, got none for 12 of 15: "
      r"Faces/image_0100\.jpg, .*Faces/image_0109\.jpg and 2 more"
    )
    with pytest.raises(ValueError, match=expected):
      load(SPLIT | {"test": test})

  def test_rejects_two_images_of_one_name(self, load):
    with pytest.raises(ValueError, match=r"once in .*/image_000\d\.jpg twice"):
      load(splits=("train", "train"))

  def test_rejects_malformed_split_file(self, load):
    with pytest.raises(ValueError, match="position 0 of 'train'"):
      load(SPLIT | {"train": [["image_0001.jpg", 0, "face"]]})

  def test_rejects_unprepared_data_and_tells_the_command(self, load, tmp_path):
    file = tmp_path / "split.json"
    file.write_text(json.dumps(SPLIT))
    command = f"decern-jax prepare caltech101 --data_dir={tmp_path}"
    with pytest.raises(ValueError, match=command):
      load_tfds_resplit(
        "caltech101", file, data_dir=tmp_path, file_key="image/file_name"
      )


FILES = ["agricultural00.tif", "beach07.tif", "river99.tif", "runway12.tif"]
HEADING = ["IMAGE\\LABEL", "airplane", "sea", "trees"]
ROWS = [
  ["river99", 0, 0, 1],
  ["agricultural00", 0, 0, 0],
  ["Beach07.png", 0, 1, 1],
  ["runway12", 1, 0, 0],
]


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
      book.worksheets[0].append(row)
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
    parts = random_splits(names, test_share=0.5, seed=1)
    assert dataset.test is not None
    assert dataset.test.ids == tuple(np.array(names)[parts == "test"])

  def test_table_may_tell_the_parts(self, tmp_path):
    parts = ["split", "train", "val", "test", "train"]
    rows = [[*row, part] for row, part in zip(ROWS, parts[1:], strict=True)]
    path = write(tmp_path / "a.csv", rows, [*HEADING, "split"], ",")
    dataset = load_tfds_label_file("uc_merced", path)
    assert dataset.train.ids == ("river99", "runway12")
    assert dataset.val is not None
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
