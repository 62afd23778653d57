"""Tests of which images decern_jax/predict.py finds."""

import pytest

from decern_jax.cli import predict


class TestFindImages:
  @pytest.fixture
  def make(self, tmp_path):
    def make(*names):
      for name in names:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
      return tmp_path

    return make

  def test_is_sorted_and_recursive(self, make):
    root = make("b/c/d.png", "b.png", "a/z.jpg", "B.png", "b/a.png")
    assert predict.find_images(root) == [
      "B.png",
      "a/z.jpg",
      "b.png",
      "b/a.png",
      "b/c/d.png",
    ]

  def test_ignores_hidden_and_other_files(self, make):
    root = make("a.png", ".b.png", ".c/d.png", "e/.f/g.png", "h.txt", "png")
    assert predict.find_images(root) == ["a.png"]

  def test_takes_all_types_in_any_case(self, make):
    names = ["a.BMP", "b.gif", "c.JPEG", "d.Jpg", "e.tif", "f.tiff", "g.webp"]
    assert predict.find_images(make(*names)) == names

  def test_a_folder_may_be_named_like_an_image(self, make):
    assert predict.find_images(make("a.png/b.png")) == ["a.png/b.png"]

  def test_follows_links_once(self, make):
    root = make("a/b/c.png", "d/e.png")
    (root / "a" / "b" / "up").symlink_to(root)
    (root / "a" / "to_d").symlink_to(root / "d")
    (root / "d" / "to_a").symlink_to(root / "a")
    assert predict.find_images(root) == [
      "a/b/c.png",
      "a/to_d/e.png",
      "d/e.png",
      "d/to_a/b/c.png",
    ]

  def test_rejects_a_folder_without_images(self, make):
    with pytest.raises(ValueError, match=r"images in .*'\.png'.*got none"):
      predict.find_images(make("a.txt"))

  def test_rejects_what_is_no_folder(self, make):
    root = make("a.png")
    with pytest.raises(ValueError, match=r"got .*/a\.png: a file"):
      predict.find_images(root / "a.png")
    with pytest.raises(ValueError, match=r"got .*/b: no such folder"):
      predict.find_images(root / "b")
