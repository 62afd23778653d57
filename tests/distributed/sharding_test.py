"""Tests of decern_jax/distributed/sharding.py."""

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
import numpy as np
import pytest

from decern_jax.distributed import sharding
from decern_jax.distributed.collective import psum
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
    assert layout is not None
    assert layout.rows == PartitionSpec((sharding.POOL_AXIS,))

  def test_finds_two_axes(self):
    mesh = Mesh(np.reshape(jax.devices(), (2, 4)), ("host", "chip"))
    spec = PartitionSpec(("host", "chip"))
    array = jax.device_put(np.ones(8), NamedSharding(mesh, spec))
    layout = sharding.pool_layout(array)
    assert layout is not None
    assert layout.axis == ("host", "chip")

  @each("spec", [(), (None,), (None, None)])
  def test_is_none_where_every_device_holds_all_rows(self, spec):
    placing = NamedSharding(sharding.make_mesh(4), PartitionSpec(*spec))
    array = jax.device_put(np.ones((8, 4)), placing)
    assert sharding.pool_layout(array) is None

  def test_refuses_arrays_that_are_split_by_columns(self):
    spec = PartitionSpec(None, "pool")
    placing = NamedSharding(sharding.make_mesh(4), spec)
    array = jax.device_put(np.ones((8, 4)), placing)
    with pytest.raises(
      ValueError, match=r"first axis only.*None, 'pool'.*8, 4"
    ):
      sharding.pool_layout(array)

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

    mesh = sharding.make_mesh(4)
    trace(sharding.place_pool(np.ones(8), mesh))
    assert seen == [None]
    assumed = sharding.Layout(mesh, ("pool",))
    with sharding.assume_split(assumed, 12):
      trace(np.ones(12))
      trace(np.ones(16))
    assert seen[1:] == [assumed, None]

  def test_types_show_explicit_axes_inside_of_a_users_jit(self):
    mesh = jax.make_mesh((4, 2), ("data", "model"))
    placing = NamedSharding(mesh, PartitionSpec("data"))
    seen = []

    @jax.jit
    def trace(array):
      seen.append(sharding.pool_layout(array))
      return array

    trace(jax.device_put(np.ones(8), placing))
    assert seen == [sharding.Layout(mesh.abstract_mesh, ("data",))]


class TestMakeLayout:
  MESH = Mesh(np.reshape(jax.devices(), (2, 4)), ("host", "chip"))

  @each("axis, names", [("chip", ("chip",)), (None, ("host", "chip"))])
  def test_takes_the_axes_that_are_named_or_all(self, axis, names):
    layout = sharding.make_layout(self.MESH, axis)
    assert layout == sharding.Layout(self.MESH, names)

  def test_auto_axes_are_those_of_the_same_devices(self):
    mesh = jax.make_mesh((4,), ("pool",))
    layout = sharding.Layout(mesh, ("pool",))
    assert layout.is_explicit
    auto = layout.with_auto_axes()
    assert not auto.is_explicit
    assert auto.mesh == sharding.make_mesh(4)


seen = []


@sharding.shard_rows(
  rows=("features", "weights"),
  out=(sharding.SPLIT, sharding.WHOLE),
  static_argnames=("power",),
)
def weigh(
  features, weights, scale, *, power, gamma=1.0, axis_name=None
) -> tuple[jax.Array, jax.Array]:
  """Scales rows, and counts all of them."""
  seen.append((len(features), axis_name))
  weights = 1.0 if weights is None else weights[:, None]
  rows = gamma * scale * weights * features**power
  return rows, psum(jnp.sum(features > 0.0), axis_name)


class TestShardRows:
  features = np.arange(16, dtype=np.float32).reshape(8, 2)
  weights = np.arange(8, dtype=np.float32)
  scale = np.float32(2.0)

  def place(self, num_devices, array):
    return sharding.place_pool(array, sharding.make_mesh(num_devices))

  @each("num_devices", [1, 2, 8])
  def test_gives_each_device_its_own_rows_and_the_names_of_the_axes(
    self, num_devices
  ):
    features = self.place(num_devices, self.features)
    weights = self.place(num_devices, self.weights)
    rows, count = weigh(features, weights, self.scale, power=2, gamma=0.5)
    expected = self.weights[:, None] * self.features**2
    np.testing.assert_array_equal(rows, expected)
    assert count == 15
    axis = None if num_devices == 1 else ("pool",)
    assert seen[-1] == (8 // num_devices, axis)
    assert rows.sharding.is_equivalent_to(features.sharding, 2)
    assert count.sharding.is_fully_replicated

  def test_any_split_argument_shows_the_layout(self):
    weights = self.place(4, self.weights)
    weigh(self.features, weights, self.scale, power=3)
    assert seen[-1] == (2, ("pool",))

  @each("is_explicit", [False, True])
  @each("is_jitted", [False, True])
  def test_splits_rows_over_axes_that_the_caller_names(
    self, is_explicit, is_jitted
  ):
    kind = AxisType.Explicit if is_explicit else AxisType.Auto
    mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=(kind,) * 2)
    where = {} if is_explicit else {"mesh": mesh, "axis": "data"}

    def call(features, weights):
      return weigh(features, weights, self.scale, power=2, **where)

    placing = NamedSharding(mesh, PartitionSpec("data"))
    features = jax.device_put(self.features, placing)
    # On the host, in 64 bits: the types differ from those of the features.
    weights = self.weights.astype(np.float64)
    rows, count = (jax.jit(call) if is_jitted else call)(features, weights)
    np.testing.assert_array_equal(
      rows, 2.0 * self.weights[:, None] * self.features**2
    )
    assert count == 15
    assert seen[-1] == (2, ("data",))

  def test_computes_in_32_bits(self):
    with jax.enable_x64(True):
      features = jnp.asarray(self.features, "float64")
      rows, count = weigh(features, None, self.scale, power=2)
    assert rows.dtype == np.float32
    assert count.dtype == np.int32

  def test_rows_may_be_none(self):
    features = self.place(4, self.features)
    rows, _ = weigh(features, None, self.scale, power=1)
    np.testing.assert_array_equal(rows, 2.0 * self.features)

  def test_compiles_once_however_the_arguments_are_passed(self):
    features = self.place(2, self.features)
    weigh(features, self.weights, self.scale, power=4)
    before = len(seen)
    weigh(
      weights=self.weights,
      scale=self.scale,
      features=features,
      gamma=2.0,
      power=4,
    )
    assert len(seen) == before
    weigh(features, self.weights, self.scale, power=5)
    assert len(seen) == before + 1

  def test_inside_of_shard_map_it_is_the_function_itself(self):
    def inner(features):
      return weigh(features, None, self.scale, power=2, axis_name="pool")[1]

    count = jax.shard_map(
      inner,
      mesh=sharding.make_mesh(4),
      in_specs=PartitionSpec("pool"),
      out_specs=PartitionSpec(),
    )(self.features)
    assert count == 15

  def test_lowers_for_forms_of_arrays(self):
    placing = self.place(4, self.features).sharding
    form = jax.ShapeDtypeStruct((8, 2), np.float32, sharding=placing)
    text = weigh.lower(form, None, self.scale, power=2).as_text()
    assert "weigh" in text
    assert seen[-1] == (2, ("pool",))

  def test_rejects_names_that_the_function_does_not_have(self):
    def scale(features, *, axis_name=None):
      return features

    with pytest.raises(TypeError, match=r"no arguments \['weights'\]"):
      sharding.shard_rows(rows=("features", "weights"))(scale)


class TestBlockFloats:
  def test_depends_on_the_backend(self, monkeypatch):
    assert sharding.block_floats() == sharding.CPU_BLOCK_FLOATS
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert sharding.block_floats() == sharding.ACCELERATOR_BLOCK_FLOATS
    # As where programs are compiled for devices that are not attached.
    with jax.default_device(jax.devices("cpu")[0]):
      assert sharding.block_floats() == sharding.CPU_BLOCK_FLOATS
