"""Tests of decern_jax/features/feature_store.py."""

import numpy as np
import pytest

from decern_jax.features import feature_store
from tests.table import each

ROWS = np.random.default_rng(0).standard_normal((11, 3)).astype(np.float32)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
  """Three blocks: of four, four and three rows."""
  monkeypatch.setattr(feature_store, "BLOCK_ROWS", 4)


class Computing:
  """Opens stores, and notes which rows are computed for them."""

  def __init__(self, batch_size=5):
    self.asked = []
    self._batch_size = batch_size

  def __call__(self, folder, *, key=("data", "weights")):
    self.asked.clear()
    return feature_store.open_store(
      folder, key, num_rows=len(ROWS), compute=self._compute
    )

  def _compute(self, positions):
    self.asked += positions.tolist()
    for start in range(0, len(positions), self._batch_size):
      yield ROWS[positions[start : start + self._batch_size]]


@pytest.fixture(params=[1, 5, 100])
def opened(request):
  return Computing(request.param)


def blocks_of(folder):
  return sorted(folder.rglob("*.features"))


class TestOpenStore:
  def test_computes_the_first_time_alone(self, opened, tmp_path):
    for expected in ([*range(11)], [], []):
      store = opened(tmp_path / "new" / "folder")
      assert opened.asked == expected
      np.testing.assert_array_equal(store.take(np.arange(11)), ROWS)

  def test_leaves_blocks_alone(self, opened, tmp_path):
    opened(tmp_path)
    names = [path.name for path in tmp_path.rglob("*") if path.is_file()]
    assert sorted(names) == [f"00000{i}.features" for i in range(3)]

  def test_another_key_has_another_folder(self, opened, tmp_path):
    for key in [("data", "weights"), ("data", "other"), ("datawe", "ights")]:
      opened(tmp_path, key=key)
      assert len(opened.asked) == 11
    assert len(list(tmp_path.iterdir())) == 3

  def test_after_a_kill_computes_the_blocks_that_are_missing(
    self, opened, tmp_path
  ):
    opened(tmp_path)
    blocks_of(tmp_path)[1].unlink()
    store = opened(tmp_path)
    assert opened.asked == [4, 5, 6, 7]
    np.testing.assert_array_equal(store.take(np.arange(11)), ROWS)

  def test_keeps_what_was_computed_before_an_error(self, tmp_path):
    def fail(positions):
      yield ROWS[:6]
      raise RuntimeError("no such image")

    with pytest.raises(RuntimeError, match="no such image"):
      feature_store.open_store(
        tmp_path, ("data", "weights"), num_rows=11, compute=fail
      )
    opened = Computing()
    opened(tmp_path)
    assert opened.asked == [*range(4, 11)]

  @each("content", [b"", b"garbage", b"\x93NUMPY\x01\x00"])
  def test_computes_a_corrupt_block_anew_with_a_warning(
    self, tmp_path, caplog, content
  ):
    opened = Computing()
    opened(tmp_path)
    damaged = blocks_of(tmp_path)[2]
    damaged.write_bytes(content)
    store = opened(tmp_path)
    assert opened.asked == [8, 9, 10]
    (record,) = [r for r in caplog.records if r.levelname == "WARNING"]
    assert damaged.name in record.getMessage()
    caplog.clear()
    np.testing.assert_array_equal(store.take(np.arange(11)), ROWS)

  def test_a_flipped_bit_anywhere_is_never_an_error_nor_a_wrong_feature(
    self, tmp_path
  ):
    opened = Computing()
    opened(tmp_path)
    path = blocks_of(tmp_path)[0]
    whole = path.read_bytes()
    for place in range(len(whole)):
      flipped = bytearray(whole)
      flipped[place] ^= 1
      path.unlink()  # the block that is open stays as it is
      path.write_bytes(bytes(flipped))
      store = opened(tmp_path)
      np.testing.assert_array_equal(store.take(np.arange(11)), ROWS)

  def test_another_number_of_rows_is_computed_anew(self, tmp_path):
    opened = Computing()
    opened(tmp_path)
    first, _, last = blocks_of(tmp_path)
    last.write_bytes(first.read_bytes())
    opened(tmp_path)
    assert opened.asked == [8, 9, 10]


class TestTake:
  @each(
    "positions", [[], [10], [3, 4], [0, 4, 8], [10, 0, 7, 7, 3], [*range(11)]]
  )
  def test_reads_rows_of_any_blocks_in_any_order(self, tmp_path, positions):
    store = Computing()(tmp_path)
    found = store.take(np.array(positions, np.int32))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, ROWS[positions].reshape(-1, 3))

  def test_names_a_block_that_is_not_there(self, tmp_path):
    store = feature_store.FeatureStore(tmp_path, 11)
    with pytest.raises(RuntimeError, match=r"block 2 in .*000002\.features"):
      store._block(2)


class TestBlockRows:
  def test_a_pool_has_at_most_so_many_blocks(self, monkeypatch):
    monkeypatch.setattr(feature_store, "MAX_BLOCKS", 3)
    assert feature_store.block_rows(12) == 4
    assert feature_store.block_rows(13) == 8
    assert feature_store.block_rows(24) == 8
