"""The mesh of a run, and how a pool lies on it."""

from typing import NamedTuple

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
import numpy as np

POOL_AXIS = "pool"

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
    num_devices: Devices to use, the first ones; None: all.

  Returns:
    The mesh. Its axis is of type Auto: the explicit type rejects the gathers
    and sorts along the pool that selection is made of.

  Raises:
    ValueError: If there are fewer devices.
  """
  devices = jax.devices()
  count = len(devices) if num_devices is None else num_devices
  if not 1 <= count <= len(devices):
    raise ValueError(
      f"Expected 1 <= `num_devices` <= {len(devices)} devices, got {count}."
    )
  return jax.make_mesh(
    (count,),
    (POOL_AXIS,),
    devices=devices[:count],
    axis_types=(AxisType.Auto,),
  )


def place_pool(array: np.ndarray, mesh: Mesh) -> jax.Array:
  """Splits the rows of an array over the mesh, padding them to equal shards.

  Args:
    array: [pool, ...].
    mesh: A mesh with the axis `pool`.

  Returns:
    The array [padded pool, ...] on the mesh; the rows added at the end are
    zero. `place_pool(np.ones(pool, bool), mesh)` is the mask of the others.
  """
  padding = -len(array) % mesh.size
  width = ((0, padding), *[(0, 0)] * (array.ndim - 1))
  padded = np.pad(array, width)
  sharding = NamedSharding(mesh, PartitionSpec(POOL_AXIS))
  return jax.make_array_from_callback(
    padded.shape, sharding, lambda index: padded[index]
  )


def pool_layout(array: object) -> Layout | None:
  """Returns how the rows of an array are split over devices.

  Args:
    array: Anything; only a concrete `jax.Array` can be split.

  Returns:
    The layout, or None where one device, or each device, holds all rows.
  """
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


def block_floats() -> int:
  """Returns how many floats of a pool's block this backend works on at once."""
  is_cpu = jax.default_backend() == "cpu"
  return CPU_BLOCK_FLOATS if is_cpu else ACCELERATOR_BLOCK_FLOATS
