"""Tests of decern_jax/data/unlabeled_folder.py."""

import os

import cv2
import numpy as np
import pytest

from decern_jax.data.unlabeled_folder import load_unlabeled_folder
from tests.table import each


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


def load(root, **options):
  return load_unlabeled_folder(root, num_workers=2, progress=False, **options)


class TestLoadUnlabeledFolder:
  def test_finds_images_at_any_depth(self, folder):
    found = load(folder)
    assert found.train.ids == IDS
    assert found.name == "shop"
    assert found.class_names == ()
    assert (found.test, found.val) == (None, None)
    assert [found.train.read(i)[0, 0, 0] for i in (0, 2)] == [3, 1]
    np.testing.assert_array_equal(found.train.labels, np.zeros(4))

  def test_images_may_have_several_labels(self, folder):
    assert load(folder, is_multi_label=True).train.labels.shape == (4, 0)

  def test_holds_out_labeled_parts(self, folder):
    write(folder / "test" / "pear" / "1.png")
    write(folder / "test" / "apple" / "2.png")
    write(folder / "val" / "plum" / "3.png")
    write(folder / "a b" / "test" / "pear" / "4.png")
    found = load(folder)
    assert found.class_names == ("apple", "pear", "plum")
    assert found.test.ids == ("test/apple/2.png", "test/pear/1.png")
    assert found.test.labels.tolist() == [0, 1]
    assert found.val.labels.tolist() == [2]
    assert set(found.train.ids) == {*IDS, "a b/test/pear/4.png"}

  def test_refuses_parts_of_classes_with_several_labels(self, folder):
    write(folder / "val" / "plum" / "3.png")
    with pytest.raises(ValueError, match="got 0 in test, 1 in val"):
      load(folder, is_multi_label=True)

  def test_links_that_lead_in_circles_are_followed_once(self, folder):
    os.symlink(folder, folder / "a b" / "again")
    os.symlink(folder / "b.png", folder / "z.png")
    assert load(folder).train.ids == (*IDS, "z.png")

  def test_changes_its_fingerprint_with_an_image(self, folder):
    before = load(folder).fingerprint
    write(folder / "new.png")
    assert load(folder).fingerprint != before

  def test_leaves_out_what_cannot_be_read(self, folder, caplog):
    for number in range(30):
      write(folder / f"{number:02d}.png")
    (folder / "07.png").write_bytes(b"no image")
    assert "07.png" not in load(folder).train.ids
    assert "07.png" in caplog.text

  @each("name", ["none", "notes.txt"])
  def test_refuses_what_is_no_folder(self, folder, name):
    with pytest.raises(ValueError, match="Expected `path` to be a folder"):
      load(folder / name)

  def test_refuses_a_folder_without_images(self, tmp_path):
    write(tmp_path / "test" / "pear" / "1.png")
    with pytest.raises(ValueError, match=r"got none outside of \[test\]"):
      load(tmp_path)
