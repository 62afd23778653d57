"""Tests of folders of images, labeled or not."""

import os
import pathlib
import shutil

import cv2
import numpy as np
import pytest

from decern_jax.data.sources.folder import (
  load_image_folder,
  load_unlabeled_folder,
)
from tests.table import each


def write_image(path: pathlib.Path, value: int = 90) -> None:
  path.parent.mkdir(parents=True, exist_ok=True)
  pixels = cv2.imencode(".png", np.full((6, 8, 3), value, np.uint8))[1]
  path.write_bytes(pixels.tobytes())


def write_split(root: pathlib.Path, split: str, **num_images: int) -> None:
  """Writes images `<class>/0.png`, `<class>/1.png`, ... of a split."""
  for class_name, count in num_images.items():
    for i in range(count):
      write_image(root / split / class_name / f"{i}.png", value=10 * i % 256)


def write_fruit(folder: pathlib.Path) -> pathlib.Path:
  """Three training classes of two images, of which the test split has two."""
  root = folder / "fruit"
  write_split(root, "train", apple=2, kiwi=2, pear=2)
  write_split(root, "test", apple=1, pear=2)
  return root


@pytest.fixture
def root(tmp_path) -> pathlib.Path:
  return write_fruit(tmp_path)


def load(root: os.PathLike[str] | str, **options):
  return load_image_folder(root, num_workers=2, progress=False, **options)


class TestLoadImageFolder:
  def test_ids_are_sorted_posix_paths(self, root):
    dataset = load(root)
    assert dataset.train.ids == (
      "train/apple/0.png",
      "train/apple/1.png",
      "train/kiwi/0.png",
      "train/kiwi/1.png",
      "train/pear/0.png",
      "train/pear/1.png",
    )
    assert dataset.test is not None
    assert dataset.test.ids == (
      "test/apple/0.png",
      "test/pear/0.png",
      "test/pear/1.png",
    )

  def test_labels_are_positions_in_the_class_names(self, root):
    dataset = load(root)
    assert dataset.class_names == ("apple", "kiwi", "pear")
    assert dataset.train.labels.dtype == np.int32
    assert dataset.train.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert dataset.test is not None
    assert dataset.test.labels.tolist() == [0, 2, 2]

  def test_read_decodes_the_image_at_a_position(self, root):
    dataset = load(root)
    assert dataset.train.read(3).shape == (6, 8, 3)
    assert (dataset.train.read(3) == 10).all()
    assert dataset.test is not None
    assert (dataset.test.read(1) == 0).all()

  def test_is_named_after_its_folder(self, root, monkeypatch):
    assert load(root).name == "fruit"
    monkeypatch.chdir(root)
    assert load(".").name == "fruit"

  def test_home_folder_is_expanded(self, root, monkeypatch):
    monkeypatch.setenv("HOME", os.fspath(root.parent))
    assert load("~/fruit").name == "fruit"

  def test_val_is_optional_and_may_lack_classes(self, root):
    assert load(root).val is None
    write_split(root, "val", kiwi=1)
    val = load(root).val
    assert val is not None
    assert val.ids == ("val/kiwi/0.png",)
    assert val.labels.tolist() == [1]

  def test_empty_val_is_no_val(self, root):
    (root / "val").mkdir()
    assert load(root).val is None

  @each(
    "name", ["a.JPG", "a.Jpeg", "a.WEBP", "a.Bmp", "a.GIF", "a.tif", "a.TIFF"]
  )
  def test_extension_is_read_in_any_case(self, root, name):
    write_image(root / "train" / "kiwi" / name)
    assert f"train/kiwi/{name}" in load(root).train.ids

  @each(
    "name",
    [
      "train/kiwi/.a.png",
      "train/kiwi/notes.txt",
      "train/kiwi/Thumbs.db",
      "train/kiwi/deeper/a.png",
      "train/.hidden/a.png",
      "train/a.png",
      "other/kiwi/a.png",
    ],
  )
  def test_hidden_and_foreign_files_are_ignored(self, root, name):
    expected = load(root)
    write_image(root / name)
    dataset = load(root)
    assert dataset.class_names == expected.class_names
    assert dataset.train.ids == expected.train.ids
    assert dataset.fingerprint == expected.fingerprint

  def test_links_are_followed(self, root, tmp_path):
    write_image(tmp_path / "elsewhere" / "a.png", value=200)
    (root / "train" / "plum").symlink_to(tmp_path / "elsewhere")
    (root / "train" / "kiwi" / "link.png").symlink_to(
      tmp_path / "elsewhere" / "a.png"
    )
    train = load(root).train
    for image_id in ("train/plum/a.png", "train/kiwi/link.png"):
      assert (train.read(train.ids.index(image_id)) == 200).all()

  def test_fingerprint_changes_with_the_images(self, root):
    before = load(root).fingerprint
    assert load(root).fingerprint == before
    write_image(root / "train" / "kiwi" / "new.png")
    assert load(root).fingerprint != before

  def test_fingerprint_does_not_depend_on_the_place(self, root, tmp_path):
    before = load(root).fingerprint
    assert load(root.rename(tmp_path / "moved")).fingerprint == before

  def test_shared_photos_load(self, shared_dir, tmp_path):
    dataset = load(
      shared_dir / "data" / "grocery_store", cache_dir=tmp_path / "cache"
    )
    assert dataset.test is not None
    assert dataset.val is not None
    sizes = [len(s.ids) for s in (dataset.train, dataset.test, dataset.val)]
    assert sizes == [2640, 2485, 296]
    assert len(dataset.class_names) == 81
    assert min(dataset.train.read(0).shape[:2]) == 128


class TestBadFolder:
  def test_rejects_missing_folder(self, tmp_path):
    with pytest.raises(ValueError, match="no_such does not exist"):
      load(tmp_path / "no_such")

  def test_rejects_file(self, root):
    with pytest.raises(ValueError, match="0.png is a file"):
      load(root / "train" / "kiwi" / "0.png")

  @each("split", ["train", "test"])
  def test_rejects_missing_split_and_says_what_is_there(self, tmp_path, split):
    root = write_fruit(tmp_path)
    (root / split).rename(root / "other")
    found = ", ".join(sorted({"train", "test", "other"} - {split}))
    with pytest.raises(ValueError, match=rf"got \[{found}\]"):
      load(root)

  @each("split", ["train", "test"])
  def test_rejects_split_without_images(self, tmp_path, split):
    root = write_fruit(tmp_path)
    shutil.rmtree(root / split)
    (root / split / "kiwi").mkdir(parents=True)
    (root / split / "kiwi" / "readme.txt").write_text("later")
    with pytest.raises(ValueError, match=rf"fruit.{split}/<class>.*got none"):
      load(root)

  def test_rejects_images_without_class_folders(self, root):
    shutil.rmtree(root / "train")
    write_image(root / "train" / "a.png")
    with pytest.raises(ValueError, match=r"train/<class>.*got none"):
      load(root)

  def test_rejects_single_class(self, tmp_path):
    write_split(tmp_path, "train", kiwi=3)
    write_split(tmp_path, "test", kiwi=3)
    with pytest.raises(ValueError, match=r"2 classes .*, got \['kiwi'\]"):
      load(tmp_path)

  @each("split", ["test", "val"])
  def test_rejects_class_that_train_lacks(self, tmp_path, split):
    root = write_fruit(tmp_path)
    write_split(root, split, mango=1, lemon=1)
    with pytest.raises(ValueError, match=rf"{split} .* \[lemon, mango\]"):
      load(root)

  def test_rejects_training_class_without_images(self, root):
    (root / "train" / "mango").mkdir()
    with pytest.raises(ValueError, match=r"got none of \[mango\]"):
      load(root)

  def test_long_lists_are_cut(self, root):
    write_split(root, "test", **{f"new{i:02d}": 1 for i in range(13)})
    with pytest.raises(ValueError, match=r"new09 and 3 more\]"):
      load(root)


class TestUnreadableImages:
  def damage(self, root: pathlib.Path, num_images: int) -> None:
    """Adds unreadable training images of the class kiwi."""
    for i in range(num_images):
      (root / "train" / "kiwi" / f"bad{i}.png").write_text("junk")

  def test_are_skipped_with_one_warning(self, root, warnings):
    write_split(root, "train", apple=40)
    self.damage(root, 2)
    dataset = load(root)
    assert len(dataset.train.ids) == 44
    assert not any("bad" in image_id for image_id in dataset.train.ids)
    (warning,) = warnings
    assert "2 of 49 (4.1%)" in warning
    assert "train/kiwi/bad0.png (Expected an image, got 4 bytes" in warning

  def test_warning_names_ten_and_counts_the_rest(self, root, warnings):
    write_split(root, "train", apple=300)
    self.damage(root, 12)
    load(root)
    assert warnings[0].count("train/kiwi/bad") == 10
    assert "and 2 more" in warnings[0]

  def test_no_warning_without_them(self, root, warnings):
    load(root)
    assert warnings == []

  def test_outcome_is_the_same_from_the_cache(self, root, tmp_path, warnings):
    write_split(root, "train", apple=40)
    self.damage(root, 2)
    first = load(root, cache_dir=tmp_path / "cache")
    second = load(root, cache_dir=tmp_path / "cache")
    assert second.train.ids == first.train.ids
    assert second.fingerprint == first.fingerprint
    assert warnings[0] == warnings[1]

  def test_fingerprint_covers_only_what_is_kept(self, root, warnings):
    write_split(root, "train", apple=40)
    before = load(root).fingerprint
    self.damage(root, 1)
    assert load(root).fingerprint == before
    assert len(warnings) == 1

  @each("cached", [False, True])
  def test_rejects_more_than_five_percent(self, root, tmp_path, cached):
    cache_dir = tmp_path / "cache" if cached else None
    write_split(root, "train", apple=19)
    self.damage(root, 2)
    expected = r"at most 5% .* 2 of 28 \(7.1%\): train/kiwi/bad0.png"
    for _ in range(2):
      with pytest.raises(ValueError, match=expected):
        load(root, cache_dir=cache_dir)

  def test_rejects_training_class_with_none_readable(self, root, warnings):
    write_split(root, "train", apple=60)
    (root / "train" / "mango").mkdir()
    (root / "train" / "mango" / "a.jpg").write_text("junk")
    with pytest.raises(ValueError, match=r"got none of \[mango\]"):
      load(root)
    assert len(warnings) == 1

  def test_rejects_test_split_with_none_readable(self, root, warnings):
    write_split(root, "train", apple=60)
    shutil.rmtree(root / "test")
    (root / "test" / "kiwi").mkdir(parents=True)
    (root / "test" / "kiwi" / "a.jpg").write_text("junk")
    with pytest.raises(ValueError, match=r"image in .*test, got none"):
      load(root)
    assert len(warnings) == 1


def write(path, value=0):
  path.parent.mkdir(parents=True, exist_ok=True)
  cv2.imwrite(os.fspath(path), np.full((4, 6, 3), value, np.uint8))


@pytest.fixture
def folder(tmp_path):
  root = tmp_path / "shop"
  write(root / "b.png", 1)
  write(root / "a b" / "ü 'x'.jpg", 2)
  write(root / "a b" / "deep" / "c.png", 3)
  write(root / "train" / "apple" / "d.png", 4)
  write(root / ".hidden" / "e.png")
  write(root / "a b" / ".f.png")
  (root / "notes.txt").write_text("no image")
  return root


IDS = ("a b/deep/c.png", "a b/ü 'x'.jpg", "b.png", "train/apple/d.png")


def load_pool(root, **options):
  return load_unlabeled_folder(root, num_workers=2, progress=False, **options)


class TestLoadUnlabeledFolder:
  def test_finds_images_at_any_depth(self, folder):
    found = load_pool(folder)
    assert found.train.ids == IDS
    assert found.name == "shop"
    assert found.class_names == ()
    assert (found.test, found.val) == (None, None)
    assert [found.train.read(i)[0, 0, 0] for i in (0, 2)] == [3, 1]
    np.testing.assert_array_equal(found.train.labels, np.zeros(4))

  def test_images_may_have_several_labels(self, folder):
    assert load_pool(folder, is_multi_label=True).train.labels.shape == (4, 0)

  def test_holds_out_labeled_parts(self, folder):
    write(folder / "test" / "pear" / "1.png")
    write(folder / "test" / "apple" / "2.png")
    write(folder / "val" / "plum" / "3.png")
    write(folder / "a b" / "test" / "pear" / "4.png")
    found = load_pool(folder)
    assert found.class_names == ("apple", "pear", "plum")
    assert found.test is not None
    assert found.test.ids == ("test/apple/2.png", "test/pear/1.png")
    assert found.test.labels.tolist() == [0, 1]
    assert found.val is not None
    assert found.val.labels.tolist() == [2]
    assert set(found.train.ids) == {*IDS, "a b/test/pear/4.png"}

  def test_refuses_parts_of_classes_with_several_labels(self, folder):
    write(folder / "val" / "plum" / "3.png")
    with pytest.raises(ValueError, match="got 0 in test, 1 in val"):
      load_pool(folder, is_multi_label=True)

  def test_links_that_lead_in_circles_are_followed_once(self, folder):
    os.symlink(folder, folder / "a b" / "again")
    os.symlink(folder / "b.png", folder / "z.png")
    assert load_pool(folder).train.ids == (*IDS, "z.png")

  def test_changes_its_fingerprint_with_an_image(self, folder):
    before = load_pool(folder).fingerprint
    write(folder / "new.png")
    assert load_pool(folder).fingerprint != before

  def test_leaves_out_what_cannot_be_read(self, folder, caplog):
    for number in range(30):
      write(folder / f"{number:02d}.png")
    (folder / "07.png").write_bytes(b"no image")
    assert "07.png" not in load_pool(folder).train.ids
    assert "07.png" in caplog.text

  @each("name", ["none", "notes.txt"])
  def test_refuses_what_is_no_folder(self, folder, name):
    with pytest.raises(ValueError, match="Expected `path` to be a folder"):
      load_pool(folder / name)

  def test_refuses_a_folder_without_images(self, tmp_path):
    write(tmp_path / "test" / "pear" / "1.png")
    with pytest.raises(ValueError, match=r"got none outside of \[test\]"):
      load_pool(tmp_path)
