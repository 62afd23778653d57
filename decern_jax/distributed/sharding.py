"""The mesh of a run, and how a pool lies on it."""

from collections.abc import Callable
import functools
import os
from typing import Any, NamedTuple

import jax
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
import numpy as np

from decern_jax.distributed.collective import take_rows
from decern_jax.distributed.rows import HostRows, Source

POOL_AXIS = "pool"

# Of the memory of a device: what the features of a pool may take. Selection
# holds them, a copy that is sorted and scaled, and what it computes of them.
LARGEST_SHARE = 0.25

# Floats of a block of the pool: on a CPU what the caches of a core hold, on an
# accelerator enough to fill it. Measured with `benchmarks.scoring`.
CPU_BLOCK_FLOATS = 2**19
ACCELERATOR_BLOCK_FLOATS = 2**25


class Layout(NamedTuple):
  """How the rows of a pool are split.

  Attributes:
    mesh: The mesh of devices.
    axis: Names of the mesh axes that split the rows, in order.
  """

  mesh: Mesh
  axis: tuple[str, ...]

  @property
  def rows(self) -> PartitionSpec:
    """The partition of an array whose first axis is the pool."""
    return PartitionSpec(self.axis)


def make_mesh(num_devices: int | None = None) -> Mesh:
  """Returns a mesh with the single axis `pool`.

  Args:
    num_devices: Devices to use, the first ones; None: all devices of all
      processes.

  Returns:
    The mesh. Its axis is of type Auto: the explicit type rejects the gathers
    and sorts along the pool that selection is made of.

  Raises:
    ValueError: If there are fewer devices, or a process would have none.
  """
  devices = jax.devices()
  count = len(devices) if num_devices is None else num_devices
  if not 1 <= count <= len(devices):
    raise ValueError(
      f"Expected 1 <= `num_devices` <= {len(devices)} devices, got {count}."
    )
  used = {device.process_index for device in devices[:count]}
  if len(used) < jax.process_count():
    raise ValueError(
      f"Expected `num_devices` with devices of all {jax.process_count()}"
      f" processes, got {count}: those of {len(used)}."
    )
  return _make_mesh(devices[:count])


def make_local_mesh(mesh: Mesh) -> Mesh:
  """Returns the mesh of those devices that this process has in a mesh."""
  return _make_mesh(
    [
      device
      for device in mesh.devices.flat
      if device.process_index == jax.process_index()
    ]
  )


def _make_mesh(devices: list[jax.Device]) -> Mesh:
  return jax.make_mesh(
    (len(devices),),
    (POOL_AXIS,),
    devices=devices,
    axis_types=(AxisType.Auto,),
  )


def is_shared(mesh: Mesh) -> bool:
  """Says whether other processes have devices in a mesh."""
  return mesh.is_multi_process


def place_pool(array: np.ndarray, mesh: Mesh) -> jax.Array:
  """Splits the rows of an array over the mesh, padding them to equal shards.

  Args:
    array: [pool, ...], equal in every process. It must not be changed later:
      on a CPU the shards may share its memory.
    mesh: A mesh with the axis `pool`.

  Returns:
    The array [padded pool, ...] on the mesh; the rows added at the end are
    zero. `place_pool(np.ones(pool, bool), mesh)` is the mask of the others.
  """
  return place_rows(lambda start, stop: array[start:stop], array.shape, mesh)


def place_rows(
  read: Callable[[int, int], np.ndarray],
  shape: tuple[int, ...],
  mesh: Mesh,
) -> jax.Array:
  """Splits rows over the mesh, of which each process reads its own alone.

  Args:
    read: Returns the rows from a start to a stop, [stop - start, ...].
    shape: (pool, ...).
    mesh: A mesh with the axis `pool`.

  Returns:
    As `place_pool`.
  """
  num_rows = shape[0]
  padded = (num_rows + -num_rows % mesh.size, *shape[1:])

  def read_shard(index: tuple[slice, ...]) -> np.ndarray:
    start, stop, _ = index[0].indices(padded[0])
    rows = read(min(start, num_rows), min(stop, num_rows))
    missing = stop - start - len(rows)
    if missing:
      rows = np.pad(rows, ((0, missing), *[(0, 0)] * (rows.ndim - 1)))
    return rows

  sharding = NamedSharding(mesh, PartitionSpec(POOL_AXIS))
  return jax.make_array_from_callback(padded, sharding, read_shard)


def place_on_host(source: Source, mesh: Mesh) -> HostRows:
  """Splits rows over the mesh that stay on the host until they are read.

  Args:
    source: The rows; every process reads those of its own devices alone.
    mesh: A mesh with the axis `pool`.

  Returns:
    The rows, padded as by `place_pool`.
  """
  # One above, as padding is zero.
  numbers = np.arange(1, source.shape[0] + 1, dtype=np.int32)
  return HostRows(place_pool(numbers, mesh) - 1, source)


def local_rows(num_rows: int, mesh: Mesh) -> np.ndarray:
  """Returns which rows of a pool lie on the devices of this process.

  Args:
    num_rows: Rows of the pool, without padding.
    mesh: A mesh with the axis `pool`.

  Returns:
    int [local rows], ascending positions.
  """
  padded = num_rows + -num_rows % mesh.size
  sharding = NamedSharding(mesh, PartitionSpec(POOL_AXIS))
  spans = sharding.addressable_devices_indices_map((padded,)).values()
  starts = [span[0].indices(padded)[:2] for span in spans]
  rows = np.concatenate([np.arange(*bounds) for bounds in sorted(starts)])
  return rows[rows < num_rows]


def place_local(
  rows: np.ndarray, where: np.ndarray, num_rows: int, mesh: Mesh
) -> jax.Array:
  """Splits rows over the mesh, of which each process has its own alone.

  Args:
    rows: [local rows, ...].
    where: int [local rows], what `local_rows(num_rows, mesh)` returned.
    num_rows: Rows of all processes, a multiple of the devices.
    mesh: A mesh with the axis `pool`.

  Returns:
    The array [num_rows, ...] on the mesh.
  """

  def read(start: int, stop: int) -> np.ndarray:
    return rows[np.searchsorted(where, start) :][: stop - start]

  return place_rows(read, (num_rows, *rows.shape[1:]), mesh)


def replicate(tree: Any, mesh: Mesh) -> Any:
  """Puts arrays on every device of a mesh.

  Args:
    tree: Arrays, equal in every process.
    mesh: The mesh.

  Returns:
    The arrays, whole on each device.
  """
  everywhere = NamedSharding(mesh, PartitionSpec())
  if not is_shared(mesh):
    return jax.device_put(tree, everywhere)
  # `device_put` reaches the devices of this process alone.
  return jax.jit(lambda leaves: leaves, out_shardings=everywhere)(tree)


def to_host(array: jax.typing.ArrayLike) -> np.ndarray:
  """Returns the whole of an array; all processes must call it together.

  Args:
    array: The array, small enough for the host.

  Returns:
    The array, the same in every process.
  """
  if isinstance(array, jax.Array) and not (
    array.is_fully_addressable or array.is_fully_replicated
  ):
    return multihost_utils.process_allgather(array, tiled=True)
  return np.asarray(array)


def take(
  array: jax.Array | HostRows, positions: jax.typing.ArrayLike
) -> jax.Array:
  """Returns rows of an array that may be split over devices.

  Args:
    array: Numbers [pool, ...].
    positions: int [count].

  Returns:
    [count, ...], on every device that the array is split over.
  """
  return _take(array, positions, layout=pool_layout(array))


def take_replicated(
  array: jax.Array | HostRows, positions: jax.typing.ArrayLike
) -> np.ndarray:
  """Returns rows of an array that may be split over processes.

  Args:
    array: As in `take`.
    positions: As in `take`.

  Returns:
    [count, ...], on the host of each process.
  """
  return np.asarray(take(array, positions))


@functools.partial(jax.jit, static_argnames="layout")
def _take(array, positions, *, layout):
  if layout is None:
    return array[positions]
  return jax.shard_map(
    functools.partial(take_rows, axis_name=layout.axis),
    mesh=layout.mesh,
    in_specs=(layout.rows, PartitionSpec()),
    out_specs=PartitionSpec(),
  )(array, positions)


def pool_layout(array: object) -> Layout | None:
  """Returns how the rows of an array are split over devices.

  Args:
    array: Anything; only a concrete `jax.Array` can be split, and rows that
      stay on the host.

  Returns:
    The layout, or None where one device, or each device, holds all rows.
  """
  if isinstance(array, HostRows):
    return pool_layout(array.positions)
  if not isinstance(array, jax.Array) or isinstance(array, jax.core.Tracer):
    return None
  sharding = array.sharding
  if not isinstance(sharding, NamedSharding) or not sharding.spec:
    return None
  axis = sharding.spec[0]
  if axis is None:
    return None
  axis = (axis,) if isinstance(axis, str) else tuple(axis)
  if all(sharding.mesh.shape[name] == 1 for name in axis):
    return None
  return Layout(sharding.mesh, axis)


def is_too_large(shape: tuple[int, int], mesh: Mesh) -> bool:
  """Says whether features had better stay on the host.

  Args:
    shape: (rows, dim) of float32 features.
    mesh: The mesh that they would be split over.
  """
  device = mesh.local_devices[0]
  shared_by = len(mesh.local_devices) if device.platform == "cpu" else 1
  share = 4 * shape[0] * shape[1] / mesh.size
  return share > LARGEST_SHARE * _device_bytes(device) / shared_by


def _device_bytes(device: jax.Device) -> int:
  """Returns the memory of a device; of a CPU, that of the whole host."""
  stats = device.memory_stats() or {}
  if "bytes_limit" in stats:
    return stats["bytes_limit"]
  return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def block_floats() -> int:
  """Returns how many floats of a pool's block this backend works on at once."""
  is_cpu = jax.default_backend() == "cpu"
  return CPU_BLOCK_FLOATS if is_cpu else ACCELERATOR_BLOCK_FLOATS
