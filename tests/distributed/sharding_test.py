"""Tests of decern_jax/distributed/sharding.py."""

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
import numpy as np
import pytest

from decern_jax.distributed import sharding
from tests.table import each


class TestMakeMesh:
  @each("num_devices", [1, 3, 8])
  def test_takes_the_first_devices(self, num_devices):
    mesh = sharding.make_mesh(num_devices)
    assert mesh.devices.tolist() == jax.devices()[:num_devices]

  def test_takes_all_by_default(self):
    assert sharding.make_mesh().size == 8

  def test_axis_is_auto(self):
    mesh = sharding.make_mesh(2)
    assert mesh.axis_names == (sharding.POOL_AXIS,)
    assert mesh.axis_types == (AxisType.Auto,)

  @each("num_devices", [0, -1, 9])
  def test_rejects_devices_that_are_not_there(self, num_devices):
    with pytest.raises(
      ValueError, match=f"`num_devices` <= 8 devices, got {num_devices}"
    ):
      sharding.make_mesh(num_devices)


class TestPlacePool:
  @each("num_devices", [1, 2, 8])
  @each("rows", [1, 7, 8, 9])
  def test_pads_to_equal_shards_with_zeros(self, num_devices, rows):
    mesh = sharding.make_mesh(num_devices)
    array = np.arange(1.0, 1.0 + 3 * rows).reshape(rows, 3)
    placed = sharding.place_pool(array, mesh)
    assert len(placed) == -(-rows // num_devices) * num_devices
    np.testing.assert_array_equal(placed[:rows], np.float32(array))
    assert not np.any(placed[rows:])
    shards = [len(shard.data) for shard in placed.addressable_shards]
    assert shards == [len(placed) // num_devices] * num_devices

  def test_places_the_mask_of_the_rows_that_exist(self):
    valid = sharding.place_pool(np.ones(5, bool), sharding.make_mesh(4))
    assert valid.dtype == bool
    np.testing.assert_array_equal(valid, np.arange(8) < 5)


class TestPoolLayout:
  def test_finds_the_axis_that_splits_the_rows(self):
    mesh = sharding.make_mesh(4)
    layout = sharding.pool_layout(sharding.place_pool(np.ones(8), mesh))
    assert layout == sharding.Layout(mesh, (sharding.POOL_AXIS,))
    assert layout.rows == PartitionSpec((sharding.POOL_AXIS,))

  def test_finds_two_axes(self):
    mesh = Mesh(np.reshape(jax.devices(), (2, 4)), ("host", "chip"))
    spec = PartitionSpec(("host", "chip"))
    array = jax.device_put(np.ones(8), NamedSharding(mesh, spec))
    assert sharding.pool_layout(array).axis == ("host", "chip")

  @each("spec", [(), (None,), (None, "pool")])
  def test_is_none_where_every_device_holds_all_rows(self, spec):
    placing = NamedSharding(sharding.make_mesh(4), PartitionSpec(*spec))
    array = jax.device_put(np.ones((8, 4)), placing)
    assert sharding.pool_layout(array) is None

  def test_is_none_on_one_device(self):
    array = sharding.place_pool(np.ones(8), sharding.make_mesh(1))
    assert sharding.pool_layout(array) is None

  @each("array", [np.ones(8), [1.0, 2.0]])
  def test_is_none_for_what_is_not_placed(self, array):
    assert sharding.pool_layout(array) is None

  def test_is_none_inside_of_a_users_jit(self):
    seen = []

    @jax.jit
    def trace(array):
      seen.append(sharding.pool_layout(array))
      return array

    trace(sharding.place_pool(np.ones(8), sharding.make_mesh(4)))
    assert seen == [None]


class TestBlockFloats:
  def test_depends_on_the_backend(self, monkeypatch):
    assert sharding.block_floats() == sharding.CPU_BLOCK_FLOATS
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert sharding.block_floats() == sharding.ACCELERATOR_BLOCK_FLOATS
