"""Tests of the table of data sets."""

import dataclasses
import json
import pathlib

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds

from decern_jax.data import registry, sources, tfds_builder
from decern_jax.data.sources import DATASETS
from decern_jax.data.sources.published import Published
from tests.data import bronze
from tests.table import each

ROWS_WITH_SPLITS_OF_TFDS = [
  name
  for name, source in DATASETS.items()
  if isinstance(source, Published) and source.split_file_url is None
]
PIXELS = np.full((6, 8, 3), 7, np.uint8)


def fake_source(self, split, **unused):
  """Stands in for `as_data_source` of any builder under `mock_data`."""
  image = cv2.imencode(".png", PIXELS)[1].tobytes()
  return [
    {"image": image, "label": label, "image/file_name": f"{split}.jpg".encode()}
    for label in range(5)
  ]


@pytest.fixture
def caltech_split(tmp_path, monkeypatch) -> pathlib.Path:
  """A split file for what `fake_source` gives, and its row's sizes."""
  # The first classes of tfds; the images of all are in both of its splits.
  folders = ["accordion", "airplanes", "anchor", "ant"]
  content = {
    "train": [[f"{name}/test.jpg", i, name] for i, name in enumerate(folders)],
    "val": [["anchor/train.jpg", 2, "anchor"]],
    "test": [["Ant/train.jpg", 3, "ant"]],
  }
  sizes = {"num_classes": 4, "num_train": 4, "num_test": 1}
  spec = dataclasses.replace(DATASETS["caltech101"], **sizes)
  monkeypatch.setitem(DATASETS, "caltech101", spec)
  file = tmp_path / "split.json"
  file.write_text(json.dumps(content))
  return file


def load(name: str, **options):
  return sources.load(name, sources.Options(num_workers=1, **options))


class TestLoad:
  def test_image_folder_is_read_from_path(self, tmp_path):
    for name in ("train/a", "train/b", "test/b"):
      (tmp_path / name).mkdir(parents=True)
      cv2.imwrite(str(tmp_path / name / "0.png"), PIXELS)
    cache_dir = tmp_path / "cache"
    dataset = load("image_folder", path=tmp_path, cache_dir=cache_dir)
    assert dataset.train.ids == ("train/a/0.png", "train/b/0.png")
    assert len(list(cache_dir.iterdir())) == 1

  @each("path", [None, ""])
  def test_rejects_image_folder_without_path(self, path):
    with pytest.raises(ValueError, match="`path`, the folder .* got None"):
      load("image_folder", path=path)

  def test_rendered_needs_nothing(self):
    dataset = load("rendered")
    assert len(dataset.class_names) > 1
    assert dataset.train.read(0).shape[-1] == 3

  def test_rejects_path_for_rendered(self):
    with pytest.raises(ValueError, match="no `path`.* got 'photos'"):
      load("rendered", path="photos")

  @each("name", ROWS_WITH_SPLITS_OF_TFDS)
  def test_row_with_splits_of_tfds_loads_from_mock_data(self, name):
    with tfds.testing.mock_data(as_data_source_fn=fake_source):
      dataset = load(name)
    assert len(dataset.class_names) == DATASETS[name].num_classes
    assert dataset.train.ids[0] == "train/00000000"
    assert dataset.train.labels.tolist() == [0, 1, 2, 3, 4]
    assert dataset.test is not None
    assert (dataset.test.read(2) == PIXELS).all()
    assert dataset.val is None

  def test_test_images_of_food_are_the_validation_of_tfds(self):
    with tfds.testing.mock_data(as_data_source_fn=fake_source):
      dataset = load("food101")
    assert dataset.test is not None
    assert dataset.test.ids[0] == "validation/00000000"

  def test_row_by_split_file_loads_from_mock_data(self, caltech_split):
    with tfds.testing.mock_data(as_data_source_fn=fake_source):
      dataset = load("caltech101", split_file=caltech_split)
    assert dataset.class_names == ("accordion", "airplanes", "anchor", "ant")
    assert dataset.train.ids[1:3] == (
      "train/airplanes/test.jpg",
      "train/anchor/test.jpg",
    )
    assert dataset.test is not None
    assert dataset.test.ids == ("test/Ant/train.jpg",)
    assert dataset.test.labels.tolist() == [3]
    assert (dataset.test.read(0) == PIXELS).all()
    assert dataset.val is None

  @each("field", ["num_train", "num_test", "num_classes"])
  def test_sizes_of_split_file_are_those_of_the_row(
    self, caltech_split, monkeypatch, field
  ):
    spec = dataclasses.replace(DATASETS["caltech101"], **{field: 777})
    monkeypatch.setitem(DATASETS, "caltech101", spec)
    with pytest.raises(ValueError, match="Expected 777 .*split.json, got"):
      load("caltech101", split_file=caltech_split)

  @each("split_file", [None, ""])
  def test_rejects_missing_split_file_and_tells_where_it_is(self, split_file):
    with pytest.raises(ValueError, match="`split_file`.*got None") as info:
      load("caltech101", split_file=split_file)
    url = DATASETS["caltech101"].split_file_url
    assert url is not None
    assert url in str(info.value)
    assert "`config.dataset.split_file`" in str(info.value)

  @each("name", ["food101", "image_folder", "rendered"])
  def test_rejects_split_file_that_is_not_wanted(self, name):
    with pytest.raises(ValueError, match=f"no `split_file` for {name}.*a.json"):
      load(name, split_file="a.json")

  def test_caltech_tells_how_to_prepare_it(self, caltech_split, tmp_path):
    command = f"decern-jax prepare caltech101 --data_dir={tmp_path}"
    with pytest.raises(ValueError, match=command):
      load("caltech101", path=tmp_path, split_file=caltech_split)

  def test_bronze_ding_is_read_from_path(self, tmp_path, monkeypatch):
    sizes = {"num_classes": 2, "num_train": 2}
    spec = dataclasses.replace(DATASETS["bronze_ding"], **sizes)
    monkeypatch.setitem(DATASETS, "bronze_ding", spec)
    rows = {"train": [("a", 1), ("b", 2)], "test": [("c", 2)]}
    bronze.write_release(tmp_path / "data", rows)
    dataset = load(
      "bronze_ding", path=tmp_path / "data", cache_dir=tmp_path / "cache"
    )
    assert dataset.train.labels.tolist() == [0, 1]
    assert len(list((tmp_path / "cache").iterdir())) == 1
    spec = dataclasses.replace(spec, num_train=1470)
    monkeypatch.setitem(DATASETS, "bronze_ding", spec)
    with pytest.raises(ValueError, match="Expected 1470 images .* got 2"):
      load("bronze_ding", path=tmp_path / "data")

  def test_rejects_bronze_ding_without_path(self):
    with pytest.raises(ValueError, match=r"got None.*`config\.dataset\.path`"):
      load("bronze_ding")

  def test_path_is_the_data_dir_of_tfds(self, tmp_path):
    expected = (
      f"--data_dir={tmp_path}\\. Or set `config.dataset.path` to the folder of "
      "the authors' release, which holds images.txt"
    )
    with pytest.raises(ValueError, match=expected):
      load("caltech_birds2011", path=tmp_path)

  def test_published_numbers_are_checked(self, monkeypatch):
    spec = dataclasses.replace(DATASETS["caltech_birds2011"], num_classes=555)
    monkeypatch.setitem(DATASETS, "more_birds", spec)
    with (
      tfds.testing.mock_data(as_data_source_fn=fake_source),
      pytest.raises(ValueError, match="Expected 555 classes .* got 200"),
    ):
      load("more_birds")

  def test_rejects_unknown_name(self):
    expected = r"Unknown dataset 'cub'; expected one of \['.*'food101', "
    with pytest.raises(ValueError, match=expected):
      load("cub")

  def test_rejects_a_second_data_set_of_a_name(self):
    source = DATASETS["food101"]
    with pytest.raises(ValueError, match="new name .* 'food101' again"):
      sources.register("food101", source)

  def test_a_new_data_set_is_found(self, monkeypatch):
    monkeypatch.setattr(registry, "DATASETS", dict(DATASETS))
    sources.register("more_food", DATASETS["food101"])
    with tfds.testing.mock_data(as_data_source_fn=fake_source):
      assert load("more_food").name == "food101"

  def test_pool_of_one_data_set_is_unlabeled(self):
    found = [name for name in DATASETS if sources.is_unlabeled(name)]
    assert found == ["unlabeled_folder"]
    assert not sources.is_unlabeled("cub")


# Table of the paper: pool, test images, classes.
PUBLISHED = {
  "bronze_ding": (1470, None, 11),
  "caltech101": (4128, 2465, 100),
  "caltech_birds2011": (5994, 5794, 200),
  "food101": (75750, 25250, 101),
  "oxford_flowers102": (1020, 6149, 102),
  "oxford_iiit_pet": (3680, 3669, 37),
  "stanford_dogs": (12000, 8580, 120),
}


class TestDatasets:
  @each("name", PUBLISHED)
  def test_has_the_published_sizes(self, name):
    spec = DATASETS[name]
    sizes = spec.num_train, spec.num_test, spec.num_classes
    assert sizes == PUBLISHED[name]

  @each("name", ROWS_WITH_SPLITS_OF_TFDS)
  def test_tfds_knows_the_row(self, name, tmp_path):
    source = DATASETS[name]
    assert isinstance(source, Published)
    builder = tfds_builder.open_builder(source.tfds_name, tmp_path)
    tfds_builder.check_features(
      builder, {"image": "Image", "label": "ClassLabel"}
    )
    label = tfds_builder.features_of(builder)["label"]
    assert label.num_classes == source.num_classes

  def test_split_of_caltech_leaves_out_two_classes_of_tfds(self, tmp_path):
    builder = tfds_builder.open_builder("caltech101", tmp_path)
    label = tfds_builder.features_of(builder)["label"]
    assert {"background_google", "faces_easy"} <= set(label.names)
    assert label.num_classes - 2 == DATASETS["caltech101"].num_classes
