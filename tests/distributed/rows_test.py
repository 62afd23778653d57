"""Tests of decern_jax/distributed/rows.py: features that stay on the host."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from decern_jax import class_anchors, discrepancy_confusion, weighted_kmeans
from decern_jax.distributed import sharding
from decern_jax.distributed.rows import HostRows, InMemory, Source, in_order
from decern_jax.ops import block
from decern_jax.ops.distances import normalized_in_order
from decern_jax.strategies.decern import select_by_score
from tests.oracle import on_shards
from tests.strategies import pools
from tests.table import each

ROWS = np.random.default_rng(0).standard_normal((13, 3)).astype(np.float32)
# Its programs for features on the devices are those of other tests.
POOL, BUDGET, CLASSES = pools.ROWS, pools.BUDGET, pools.CLASSES
PROBLEM = pools.PROBLEM
ANCHORS = sharding.replicate(PROBLEM.anchors, sharding.make_mesh(8))


class Noting(InMemory):
  """Notes how many rows are read at a time."""

  def __init__(self, rows):
    super().__init__(rows)
    self.counts = []

  def take(self, indices):
    self.counts.append(len(indices))
    return super().take(indices)


@functools.cache
def both_on(num_devices: int) -> tuple:
  """Makes the pool twice; once, as a program is compiled for each source."""
  mesh = sharding.make_mesh(num_devices)
  source = Noting(PROBLEM.features)
  place = functools.partial(sharding.place_pool, mesh=mesh)
  on_host = sharding.place_on_host(source, mesh)
  return on_host, place(PROBLEM.features), place, source


class TestInMemory:
  @each("positions", [[], [12], [2, 3, 4], [4, 3, 2], [0, 12, 5, 5]])
  def test_takes_any_rows(self, positions):
    source = InMemory(ROWS)
    assert isinstance(source, Source)
    found = source.take(np.array(positions, np.int32))
    np.testing.assert_array_equal(found, ROWS[positions].reshape(-1, 3))

  def test_a_span_is_not_copied(self):
    assert np.shares_memory(InMemory(ROWS).take(np.arange(4, 9)), ROWS)


class TestHostRows:
  def make(self, num_devices: int) -> HostRows:
    mesh = sharding.make_mesh(num_devices)
    return sharding.place_on_host(InMemory(ROWS), mesh)

  def test_has_the_shape_of_the_padded_array(self):
    rows = self.make(8)
    assert rows.shape == (16, 3)
    assert len(rows) == 16
    assert rows.dtype == np.float32

  @each("num_devices", [1, 8])
  def test_blocks_are_those_of_the_array(self, num_devices):
    def read(rows):
      return block.rows_at(rows, jnp.asarray(1), len(rows) - 1)

    spec = jax.sharding.PartitionSpec(sharding.POOL_AXIS)
    mesh = sharding.make_mesh(num_devices)
    placed = sharding.place_pool(ROWS, mesh)
    found, expected = (
      on_shards(read, num_devices, rows, out=spec)
      for rows in (self.make(num_devices), placed)
    )
    np.testing.assert_array_equal(found, expected)

  @each("is_normalized", [False, True])
  def test_reads_in_another_order_and_scaled(self, is_normalized):
    order = jnp.asarray(np.random.default_rng(1).permutation(13), jnp.int32)

    @jax.jit
    def read(rows):
      if is_normalized:
        view = normalized_in_order(rows, order, jnp.asarray(13))
      else:
        view = in_order(rows, order)
      assert isinstance(view, HostRows)
      return view[jnp.arange(13)]

    expected = ROWS[order]
    if is_normalized:
      expected = expected / np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(read(self.make(1)), expected, rtol=1e-6)

  @each("num_devices", [1, 8])
  def test_rows_are_gathered_from_all_shards(self, num_devices):
    positions = np.array([12, 0, 7, 7])
    found = sharding.take_replicated(self.make(num_devices), positions)
    np.testing.assert_array_equal(found, ROWS[positions])


class TestSameResults:
  """What is computed of features on the host, and of those on the devices."""

  def test_anchors_from_only_the_labeled_rows(self):
    on_host, placed, place, source = both_on(8)
    labels = place(np.where(np.arange(POOL) % 7 == 0, np.arange(POOL) % 5, -2))
    labels = jnp.where(place(np.ones(POOL, bool)), labels, -1)
    source.counts.clear()
    found, expected = (
      class_anchors(rows, place(PROBLEM.probs), labels, num_classes=CLASSES)
      for rows in (on_host, placed)
    )
    for ours, theirs in zip(found, expected, strict=True):
      np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    assert sum(source.counts) <= len(placed)

  def test_scores_to_the_bit(self):
    on_host, placed, place, _ = both_on(8)
    valid = place(np.arange(POOL) % 3 > 0)
    found, expected = (
      discrepancy_confusion(
        rows, place(PROBLEM.probs), ANCHORS, PROBLEM.head, valid=valid
      )
      for rows in (on_host, placed)
    )
    np.testing.assert_array_equal(found, expected)

  def test_clusters_to_the_bit(self):
    on_host, placed, place, _ = both_on(8)
    weights = place(np.random.default_rng(0).random(POOL).astype(np.float32))
    found, expected = (
      weighted_kmeans(jax.random.key(0), rows, weights, num_clusters=BUDGET)
      for rows in (on_host, placed)
    )
    jax.tree.map(np.testing.assert_array_equal, found, expected)

  def test_selected_indices(self, monkeypatch):
    """From the host in small blocks."""
    on_host, placed, place, source = both_on(8)
    scores = place(
      np.random.default_rng(0).gamma(1.0, size=POOL).astype(np.float32)
    )
    source.counts.clear()

    def select(rows):
      return select_by_score(
        jax.random.key(0),
        rows,
        scores,
        ANCHORS,
        budget=BUDGET,
        valid=place(np.ones(POOL, bool)),
      )

    expected = select(placed)
    monkeypatch.setattr(
      "decern_jax.strategies.decern.block_rows", lambda dim: 16
    )
    np.testing.assert_array_equal(select(on_host), expected)
    assert max(source.counts) <= 16
