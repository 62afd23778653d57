"""Tests of decern_jax/data/bronze_ding.py."""

import pathlib
import shutil

import numpy as np
import pytest

from decern_jax.data.bronze_ding import load_bronze_ding
from tests.data import bronze
from tests.table import each

ROWS = {
  "train": [("d3", 2), ("d1", 1), ("鼎2", 3)],
  "test": [("d9", 3), ("d8", 1)],
}


@pytest.fixture
def release(tmp_path) -> pathlib.Path:
  bronze.write_release(tmp_path, ROWS)
  return tmp_path


def load(path, **options):
  options = {"num_workers": 1, "num_classes": 3, "progress": False} | options
  return load_bronze_ding(path, **options)


class TestLoadBronzeDing:
  def test_images_and_labels_belong_together(self, release):
    dataset = load(release)
    for split in (dataset.train, dataset.test):
      for position, label in enumerate(split.labels):
        image = split.read(position)
        assert image.shape == (4, 6, 3)
        assert (image == label + 1).all()

  def test_order_is_that_of_the_tables(self, release):
    dataset = load(release)
    assert dataset.train.ids == (
      "train/d3.png",
      "train/d1.png",
      "train/鼎2.png",
    )
    assert dataset.train.labels.tolist() == [1, 0, 2]
    assert dataset.train.labels.dtype == np.int32
    assert dataset.test.ids == ("test/d9.png", "test/d8.png")
    assert dataset.val is None

  def test_classes_are_named_after_the_numbers(self, release):
    dataset = load(release)
    assert dataset.name == "bronze_ding"
    assert dataset.class_names == ("1", "2", "3")

  def test_path_may_be_the_inner_folder(self, release):
    outer, inner = load(release), load(release / "complete_DATASET")
    assert outer.train.ids == inner.train.ids
    assert outer.fingerprint == inner.fingerprint

  def test_fingerprint_changes_with_an_image(self, release):
    first = load(release).fingerprint
    (release / "complete_DATASET" / "delete_png" / "d8.png").write_bytes(
      (release / "complete_DATASET" / "delete_png" / "d9.png").read_bytes()
    )
    assert load(release).fingerprint != first

  def test_images_of_no_table_are_ignored(self, release):
    folder = release / "complete_DATASET" / "delete_png"
    before = load(release)
    (folder / "other.png").write_bytes(b"no image")
    assert load(release).fingerprint == before.fingerprint

  def test_check_of_images_is_kept(self, release, tmp_path):
    load(release, cache_dir=tmp_path / "cache")
    assert len(list((tmp_path / "cache").iterdir())) == 1

  def test_image_of_both_tables_is_told(self, tmp_path, caplog):
    both = ROWS | {"test": [("d1", 1), ("d9", 3)]}
    bronze.write_release(tmp_path, both)
    dataset = load(tmp_path)
    assert "test/d1.png" in dataset.test.ids
    assert "in the pool, got 1: d1." in caplog.text

  def test_no_warning_where_tables_are_disjoint(self, release, caplog):
    assert len(load(release).train.ids) == 3
    assert not caplog.records

  def test_accepts_expected_sizes(self, release):
    sizes = {"train": 3, "test": 2}
    assert len(load(release, num_examples=sizes).test.ids) == 2

  @each("split", ["train", "test"])
  def test_rejects_other_sizes(self, release, split):
    with pytest.raises(ValueError, match=f"1470 images in .*{split}.xlsx, got"):
      load(release, num_examples={split: 1470})

  def test_rejects_age_outside_the_classes(self, release):
    with pytest.raises(ValueError, match="ages from 1 to 2 .* got 3 for"):
      load(release, num_classes=2)

  def test_rejects_pool_without_an_image_of_a_class(self, release):
    with pytest.raises(ValueError, match=r"every age .* got none of \[4, 5\]"):
      load(release, num_classes=5)

  def test_rejects_missing_folder(self, tmp_path):
    with pytest.raises(ValueError, match="`path` .*nowhere is no folder"):
      load(tmp_path / "nowhere")

  @each("name", ["delete_png", "train.xlsx", "test.xlsx"])
  def test_rejects_missing_part_of_the_release(self, release, name):
    path = release / "complete_DATASET" / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(ValueError, match=rf"_DATASET lacks \[{name}\]"):
      load(release)

  def test_rejects_missing_images(self, release):
    for name in ("d3", "d1"):
      (release / "complete_DATASET" / "delete_png" / f"{name}.png").unlink()
    expected = r"train\.xlsx .* got none for 2 of 3: d3\.png, d1\.png\."
    with pytest.raises(ValueError, match=expected):
      load(release)

  def test_rejects_unreadable_image(self, release):
    image = release / "complete_DATASET" / "delete_png" / "d9.png"
    image.write_bytes(image.read_bytes()[:50])
    with pytest.raises(ValueError, match=r"1 of 5 .*: test/d9\.png \("):
      load(release)
