"""Tests of decern_jax/annotation/images.py."""

import numpy as np
import pytest

from decern_jax.annotation import images
from decern_jax.annotation.query import Item
from decern_jax.data.dataset import Dataset, Split
from tests.table import each

IDS = ("a", "b", "c")


def make_dataset(*ids):
  split = Split(ids, np.arange(len(ids)), lambda index: ids[index])
  return Dataset("name", (), split, None, None, "print")


class TestRestrictPool:
  def test_keeps_the_pool_that_it_began_with(self, tmp_path, caplog):
    images.restrict_pool(tmp_path, make_dataset("a", "c", "d\udce4"))
    now = make_dataset("a", "b", "c", "d\udce4")
    found = images.restrict_pool(tmp_path, now).train
    assert found.ids == ("a", "c", "d\udce4")
    assert found.labels.tolist() == [0, 2, 3]
    assert [found.read(i) for i in range(3)] == [*found.ids]
    assert (
      "Left out 1 images that were added after the run began: 'b'"
      in caplog.text
    )

  def test_says_nothing_of_a_pool_that_did_not_grow(self, tmp_path, caplog):
    for _ in range(2):
      found = images.restrict_pool(tmp_path, make_dataset("a", "b"))
      assert found.train.ids == ("a", "b")
    assert caplog.text == ""

  def test_names_what_is_gone(self, tmp_path):
    images.restrict_pool(tmp_path, make_dataset("a", "b", "c"))
    with pytest.raises(ValueError, match="got 2 of them missing.*'a', 'c'"):
      images.restrict_pool(tmp_path, make_dataset("b"))


class TestCheckUnchanged:
  def test_names_what_has_changed(self, tmp_path):
    items = []
    for name in ("a", "b"):
      path = tmp_path / name
      path.write_text(name)
      items.append(Item(name, str(path), digest=images.digest(str(path))))
    images.check_unchanged([*items, Item("c", "nowhere")])
    (tmp_path / "b").write_text("other")
    with pytest.raises(ValueError, match="got 1 with other content: 'b'"):
      images.check_unchanged(items)


class Reader:
  """Images of noise, with a note of which were read."""

  def __init__(self):
    self.seen = []

  def __call__(self, index: int) -> np.ndarray:
    self.seen.append(IDS[index])
    rng = np.random.default_rng(index // 2)
    return rng.integers(256, size=(40, 40, 3), dtype=np.uint8)


@pytest.fixture
def read():
  return Reader()


def hashes_of(tmp_path, read, *wanted, ids=IDS, fingerprint="f"):
  split = Split(ids, np.zeros(3, np.int32), read)
  return images.hash_images(
    *(tmp_path, fingerprint, {"pool": split}, {"pool": wanted}), num_workers=2
  )["pool"]


class TestHashImages:
  def test_equal_images_have_equal_hashes(self, tmp_path, read):
    found = hashes_of(tmp_path, read, "c", "a", "b")
    assert [*found] == [*IDS]
    assert found["a"] == found["b"] != found["c"]

  def test_each_image_is_read_once_in_a_run(self, tmp_path, read):
    first = hashes_of(tmp_path, read, "a")
    second = hashes_of(tmp_path, read, "a", "c")
    assert sorted(read.seen) == ["a", "c"]
    assert second["a"] == first["a"]

  def test_other_data_starts_over(self, tmp_path, read):
    hashes_of(tmp_path, read, "a")
    hashes_of(tmp_path, read, "a", fingerprint="other")
    assert read.seen == ["a", "a"]

  @each("content", [b"", b"{", b"[]", b'{"hashes": 1}'])
  def test_a_damaged_file_is_replaced(self, tmp_path, read, content):
    first = hashes_of(tmp_path, read, "a")
    (tmp_path / images.HASHES_FILE).write_bytes(content)
    assert hashes_of(tmp_path, read, "a") == first

  def test_names_that_are_not_valid_unicode(self, tmp_path, read):
    ids = ("\udcff", "b", "c")
    first = hashes_of(tmp_path, read, "\udcff", ids=ids)
    assert hashes_of(tmp_path, read, "\udcff", ids=ids) == first
    assert len(read.seen) == 1
