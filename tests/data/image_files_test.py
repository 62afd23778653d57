"""Tests of decern_jax/data/image_files.py."""

import json
import os
import pathlib

import cv2
import numpy as np
import pytest

from decern_jax.data import image_files
from decern_jax.data.image_files import ImageFile, digest, find_unreadable
from tests.table import each


def write_image(path: pathlib.Path) -> None:
  cv2.imwrite(os.fspath(path), np.full((8, 8, 3), 90, np.uint8))


def list_files(folder: pathlib.Path) -> list[ImageFile]:
  return [
    ImageFile(
      id=f"train/a/{path.name}",
      path=path,
      class_name="a",
      size=path.stat().st_size if path.exists() else 0,
      mtime_ns=path.stat().st_mtime_ns if path.exists() else 0,
    )
    for path in sorted(folder.iterdir())
  ]


@pytest.fixture
def folder(tmp_path) -> pathlib.Path:
  """Five files: two images, a truncated one, a text and a broken link."""
  folder = tmp_path / "images"
  folder.mkdir()
  write_image(folder / "a.png")
  write_image(folder / "b.jpg")
  whole = (folder / "a.png").read_bytes()
  (folder / "c.png").write_bytes(whole[: len(whole) // 2])
  (folder / "d.png").write_text("not an image")
  (folder / "e.png").symlink_to(tmp_path / "gone.png")
  return folder


@pytest.fixture
def decoded(monkeypatch) -> list[str]:
  """The names of the files that were decoded, in any order."""
  names = []
  read_image = image_files.read_image

  def spy(file: ImageFile) -> np.ndarray:
    names.append(pathlib.Path(file.path).name)
    return read_image(file)

  monkeypatch.setattr(image_files, "read_image", spy)
  return names


def check(folder: pathlib.Path, cache_dir=None, num_workers=2) -> list[str]:
  reasons = find_unreadable(
    list_files(folder),
    num_workers=num_workers,
    cache_dir=cache_dir,
    progress=False,
  )
  return [image_id.rpartition("/")[2] for image_id in reasons]


class TestReadImage:
  def test_gives_the_pixels(self, folder):
    image = image_files.read_image(list_files(folder)[0])
    np.testing.assert_array_equal(image, np.full((8, 8, 3), 90))

  def test_truncated_file_is_a_value_error(self, folder):
    with pytest.raises(ValueError, match="does not decode"):
      image_files.read_image(list_files(folder)[2])


class TestDigest:
  def test_is_the_same_for_the_same_listing(self, folder):
    assert digest(list_files(folder)) == digest(list_files(folder))

  @each("change", [{"id": "train/b/a.png"}, {"size": 1}, {"mtime_ns": 1}])
  def test_changes_with_every_fact(self, folder, change):
    files = list_files(folder)
    changed = [files[0]._replace(**change), *files[1:]]
    assert digest(changed) != digest(files)

  def test_does_not_depend_on_where_the_folder_is(self, folder):
    files = list_files(folder)
    moved = [file._replace(path=pathlib.Path("/elsewhere")) for file in files]
    assert digest(moved) == digest(files)


class TestFindUnreadable:
  @each("num_workers", [1, 4])
  def test_names_what_does_not_decode(self, folder, num_workers):
    bad = check(folder, num_workers=num_workers)
    assert bad == ["c.png", "d.png", "e.png"]

  def test_says_what_is_wrong(self, folder):
    reasons = find_unreadable(
      list_files(folder), num_workers=1, cache_dir=None, progress=False
    )
    assert "does not decode" in reasons["train/a/c.png"]
    assert "got 12 bytes" in reasons["train/a/d.png"]
    assert "No such file" in reasons["train/a/e.png"]

  def test_second_check_decodes_only_what_failed(
    self, folder, decoded, tmp_path
  ):
    first = check(folder, tmp_path / "cache")
    assert sorted(decoded) == ["a.png", "b.jpg", "c.png", "d.png", "e.png"]
    decoded.clear()
    assert check(folder, tmp_path / "cache") == first
    assert sorted(decoded) == ["c.png", "d.png", "e.png"]

  def test_without_cache_everything_is_decoded_again(self, folder, decoded):
    check(folder)
    check(folder)
    assert decoded.count("a.png") == 2

  def test_changed_file_is_checked_again(self, folder, tmp_path):
    check(folder, tmp_path / "cache")
    (folder / "a.png").write_text("no more")
    assert check(folder, tmp_path / "cache")[0] == "a.png"

  def test_repaired_file_is_noticed_though_its_listing_is_the_same(
    self, folder, tmp_path
  ):
    files = list_files(folder)
    options = {"num_workers": 1, "cache_dir": tmp_path, "progress": False}
    assert "train/a/e.png" in find_unreadable(files, **options)
    write_image(tmp_path / "gone.png")
    assert "train/a/e.png" not in find_unreadable(files, **options)

  def test_cache_is_one_small_file_of_json(self, folder, tmp_path):
    check(folder, tmp_path / "deep" / "cache")
    (cache_file,) = (tmp_path / "deep" / "cache").iterdir()
    outcome = json.loads(cache_file.read_text())
    assert outcome["digest"] == digest(list_files(folder))
    assert outcome["unreadable"] == [f"train/a/{name}.png" for name in "cde"]

  @each(
    "content",
    [
      b"",
      b'{"digest": ',
      b"[]",
      b"null",
      b"\xff\xfe",
      b'{"unreadable": []}',
      b'{"digest": "of other files", "unreadable": []}',
    ],
  )
  def test_corrupt_cache_is_ignored_and_rewritten(
    self, folder, tmp_path, content
  ):
    check(folder, tmp_path / "cache")
    (cache_file,) = (tmp_path / "cache").iterdir()
    whole = cache_file.read_bytes()
    cache_file.write_bytes(content)
    assert check(folder, tmp_path / "cache") == ["c.png", "d.png", "e.png"]
    assert cache_file.read_bytes() == whole
    assert list((tmp_path / "cache").iterdir()) == [cache_file]

  def test_interrupted_write_leaves_no_cache_file(
    self, folder, tmp_path, monkeypatch
  ):
    def fail(*unused):
      raise OSError("killed before the rename")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="killed"):
      check(folder, tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())
