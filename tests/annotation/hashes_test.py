"""Tests of decern_jax/annotation/hashes.py."""

import numpy as np
import pytest

from decern_jax.annotation import hashes
from decern_jax.data.dataset import Split
from tests.table import each

IDS = ("a", "b", "c")


class Reader:
  """Images of noise, with a note of which were read."""

  def __init__(self):
    self.seen = []

  def __call__(self, position: int) -> np.ndarray:
    self.seen.append(IDS[position])
    rng = np.random.default_rng(position // 2)
    return rng.integers(256, size=(40, 40, 3), dtype=np.uint8)


@pytest.fixture
def read():
  return Reader()


def of(tmp_path, read, *wanted, fingerprint="f"):
  split = Split(IDS, np.zeros(3, np.int32), read)
  return hashes.of_images(
    *(tmp_path, fingerprint, {"pool": split}, {"pool": wanted}), num_workers=2
  )["pool"]


class TestOfImages:
  def test_equal_images_have_equal_hashes(self, tmp_path, read):
    found = of(tmp_path, read, "c", "a", "b")
    assert [*found] == [*IDS]
    assert found["a"] == found["b"] != found["c"]

  def test_each_image_is_read_once_in_a_run(self, tmp_path, read):
    first = of(tmp_path, read, "a")
    second = of(tmp_path, read, "a", "c")
    assert sorted(read.seen) == ["a", "c"]
    assert second["a"] == first["a"]

  def test_other_data_starts_over(self, tmp_path, read):
    of(tmp_path, read, "a")
    of(tmp_path, read, "a", fingerprint="other")
    assert read.seen == ["a", "a"]

  @each("content", [b"", b"{", b"[]", b'{"hashes": 1}'])
  def test_a_damaged_file_costs_itself_alone(self, tmp_path, read, content):
    first = of(tmp_path, read, "a")
    (tmp_path / hashes.FILE_NAME).write_bytes(content)
    assert of(tmp_path, read, "a") == first

  def test_names_that_are_no_text(self, tmp_path, read, monkeypatch):
    monkeypatch.setattr(
      "tests.annotation.hashes_test.IDS", ("\udcff", "b", "c")
    )
    first = of(tmp_path, read, "\udcff")
    assert of(tmp_path, read, "\udcff") == first
    assert read.seen == ["\udcff"]
