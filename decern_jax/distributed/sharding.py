"""The mesh of a run, arrays that are split over it, and functions of them."""

from collections.abc import Callable, Iterator, Sequence
import contextlib
import contextvars
import dataclasses
import functools
import inspect
import os
from typing import Any, Generic, TypeVar

import jax
from jax.core import Tracer
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
import numpy as np

from decern_jax.distributed.collective import AxisName, take_rows
from decern_jax.distributed.rows import HostRows, Source

R = TypeVar("R")

POOL_AXIS = "pool"

# What `shard_rows` returns: rows that are split as its arguments are, or the
# same values on every device.
SPLIT = True
WHOLE = False

# The share of a device's memory that the features of a pool may take. Selection
# holds them, a sorted and scaled copy, and its own results.
LARGEST_SHARE = 0.25

# Floats in a block of the pool. On a CPU a block fits the caches of a core, on
# an accelerator it keeps all units busy. Measured with `benchmarks.scoring`.
CPU_BLOCK_FLOATS = 2**19
ACCELERATOR_BLOCK_FLOATS = 2**25


@dataclasses.dataclass(frozen=True)
class Layout:
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
    num_devices: Number of devices to use, from the first on. None uses all
      devices of all processes.

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
  return make_mesh_of(devices[:count])


def make_local_mesh(mesh: Mesh) -> Mesh:
  """Returns the mesh of this process's devices in a mesh."""
  return make_mesh_of(
    [
      device
      for device in mesh.devices.flat
      if device.process_index == jax.process_index()
    ]
  )


def make_mesh_of(devices: list[Any]) -> Mesh:
  """Returns a mesh of given devices, with the single axis `pool`."""
  return jax.make_mesh(
    (len(devices),), (POOL_AXIS,), devices=devices, axis_types=(AxisType.Auto,)
  )


def is_shared(mesh: Mesh) -> bool:
  """Returns whether other processes have devices in a mesh."""
  return mesh.is_multi_process


def place_pool(array: np.ndarray, mesh: Mesh) -> jax.Array:
  """Splits the rows of an array over the mesh, padding them to equal shards.

  Args:
    array: [pool, ...], equal in every process. It must not be changed later,
      because on a CPU the shards may share its memory.
    mesh: A mesh with the axis `pool`.

  Returns:
    The array [padded pool, ...] on the mesh; the rows added at the end are
    zero. `place_pool(np.ones(pool, bool), mesh)` is the mask of the rows that
    exist.
  """
  return place_rows(lambda start, stop: array[start:stop], array.shape, mesh)


def place_rows(
  read: Callable[[int, int], np.ndarray], shape: tuple[int, ...], mesh: Mesh
) -> jax.Array:
  """Splits rows over the mesh. Each process reads only its own rows.

  Args:
    read: Returns the rows from a start to a stop, [stop - start, ...].
    shape: (pool, ...).
    mesh: A mesh with the axis `pool`.

  Returns:
    As `place_pool`.
  """
  num_rows = shape[0]
  padded = (num_rows + -num_rows % mesh.size, *shape[1:])

  def read_shard(index: tuple[slice, ...] | None) -> np.ndarray:
    assert index is not None  # the array has an axis
    start, stop, _ = index[0].indices(padded[0])
    rows = read(min(start, num_rows), min(stop, num_rows))
    missing = stop - start - len(rows)
    if missing:
      rows = np.pad(rows, ((0, missing), *[(0, 0)] * (rows.ndim - 1)))
    return rows

  sharding = NamedSharding(mesh, PartitionSpec(POOL_AXIS))
  return jax.make_array_from_callback(padded, sharding, read_shard)


def place_on_host(source: Source, mesh: Mesh) -> HostRows:
  """Splits rows over the mesh that stay on the host until they are needed.

  Args:
    source: The rows. Every process reads only those of its own devices.
    mesh: A mesh with the axis `pool`.

  Returns:
    The rows, padded as by `place_pool`.
  """
  # Shifted by one, so that the zeros of padding become -1.
  numbers = np.arange(1, source.shape[0] + 1, dtype=np.int32)
  return HostRows(place_pool(numbers, mesh) - 1, source)


def local_rows(num_rows: int, mesh: Mesh) -> np.ndarray:
  """Returns which rows of a pool lie on the devices of this process.

  Args:
    num_rows: Rows of the pool, without padding.
    mesh: A mesh with the axis `pool`.

  Returns:
    int [local rows], ascending indices.
  """
  padded = num_rows + -num_rows % mesh.size
  sharding = NamedSharding(mesh, PartitionSpec(POOL_AXIS))
  spans = sharding.addressable_devices_indices_map((padded,)).values()
  starts = [span[0].indices(padded)[:2] for span in spans if span]
  rows = np.concatenate([np.arange(*bounds) for bounds in sorted(starts)])
  return rows[rows < num_rows]


def place_local(
  rows: np.ndarray, where: np.ndarray, num_rows: int, mesh: Mesh
) -> jax.Array:
  """Splits rows over the mesh. Each process has only its own rows.

  Args:
    rows: [local rows, ...].
    where: int [local rows], the result of `local_rows(num_rows, mesh)`.
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
  """
  everywhere = NamedSharding(mesh, PartitionSpec())
  if not is_shared(mesh):
    return jax.device_put(tree, everywhere)
  # `device_put` reaches only the devices of this process.
  return jax.jit(lambda leaves: leaves, out_shardings=everywhere)(tree)


def to_host(array: jax.typing.ArrayLike) -> np.ndarray:
  """Returns a whole array. All processes must call this together.

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
  array: jax.Array | HostRows, indices: jax.typing.ArrayLike
) -> jax.Array:
  """Returns rows of an array that may be split over devices.

  Args:
    array: Numbers [pool, ...].
    indices: int [count].

  Returns:
    [count, ...], on every device that the array is split over.
  """
  return _take(array, indices)


def take_replicated(
  array: jax.Array | HostRows, indices: jax.typing.ArrayLike
) -> np.ndarray:
  """Returns rows of an array that may be split over processes.

  Args:
    array: As in `take`.
    indices: As in `take`.

  Returns:
    [count, ...], on the host of each process.
  """
  return np.asarray(take(array, indices))


def pool_layout(array: object) -> Layout | None:
  """Returns how the rows of an array are split over devices.

  Args:
    array: Anything. Only a concrete `jax.Array`, its `jax.ShapeDtypeStruct`
      and `HostRows` can be split over devices.

  Returns:
    The layout, or None where one device, or each device, holds all rows.
  """
  if isinstance(array, HostRows):
    return pool_layout(array.indices)
  is_array = isinstance(array, jax.Array | jax.ShapeDtypeStruct)
  if not is_array or isinstance(array, Tracer):
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
  assert isinstance(sharding.mesh, Mesh)
  return Layout(sharding.mesh, axis)


@dataclasses.dataclass(frozen=True)
class Call:
  """A call of a function that `shard_rows` returned.

  Attributes:
    function: The function, which has a method `lower`.
    args: Its arguments.
    kwargs: Its keyword arguments.
    result: Its result, as shapes of arrays.
  """

  function: "ShardedFunction"
  args: tuple[Any, ...]
  kwargs: dict[str, Any]
  result: Any


_CALLS: contextvars.ContextVar[list[Call] | None]
_CALLS = contextvars.ContextVar("calls", default=None)


@contextlib.contextmanager
def record_calls() -> Iterator[list[Call]]:
  """Records the calls of functions of `shard_rows` in place of running them.

  Code that is given a `jax.ShapeDtypeStruct` for each array runs to its end:
  each call returns the shapes, types and shardings of its results.

  Yields:
    The calls so far, in order.
  """
  calls: list[Call] = []
  token = _CALLS.set(calls)
  try:
    yield calls
  finally:
    _CALLS.reset(token)


class ShardedFunction(Generic[R]):
  """A function of rows, compiled for one device or many; see `shard_rows`."""

  __name__: str
  __wrapped__: Callable[..., R]

  def __init__(
    self,
    function: Callable[..., R],
    rows: Sequence[str],
    out: Any,
    static_argnames: Sequence[str],
  ):
    functools.update_wrapper(self, function)
    self._function = function
    self._rows = tuple(rows)
    self._out = out
    self._static_argnames = tuple(static_argnames)
    self._signature = inspect.signature(function)
    unknown = {*rows, *static_argnames, "axis_name"} - {
      *self._signature.parameters
    }
    if unknown:
      raise TypeError(f"{function} has no arguments {sorted(unknown)}.")

    def run(**arguments):
      return self._run(**arguments)

    # The name of the program in profiles and compile logs.
    run.__name__ = run.__qualname__ = function.__name__
    self._compiled = jax.jit(run, static_argnames=(*static_argnames, "layout"))

  def __call__(self, *args: Any, **kwargs: Any) -> R:
    """Calls the function on arrays, each device on its own rows."""
    if kwargs.get("axis_name") is not None:
      # The caller is already inside `shard_map`.
      return self._function(*args, **kwargs)
    calls = _CALLS.get()
    if calls is not None:
      result = self._eval_shape(args, kwargs)
      calls.append(Call(self, args, kwargs, result))
      return result
    return self._compiled(**self._bind(args, kwargs))

  def lower(self, *args: Any, **kwargs: Any) -> jax.stages.Lowered:
    """Lowers the function for arguments, as `jax.jit(...).lower` does.

    Args:
      *args: Arrays, or the `jax.ShapeDtypeStruct` of each.
      **kwargs: Keyword arguments.

    Returns:
      The lowered program, for the layout that the arguments have.
    """
    return self._compiled.lower(**self._bind(args, kwargs))

  def _eval_shape(self, args, kwargs):
    """Returns the results as `jax.ShapeDtypeStruct`s, with their shardings."""
    arguments = self._bind(args, kwargs)
    layout = arguments["layout"]
    # Functions that this one calls are part of its program.
    token = _CALLS.set(None)
    try:
      shapes = self._compiled.eval_shape(**arguments)
    finally:
      _CALLS.reset(token)
    if layout is None:
      return shapes

    def place(is_split: bool, tree: Any) -> Any:
      spec = layout.rows if is_split else PartitionSpec()
      sharding = NamedSharding(layout.mesh, spec)
      return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(
          leaf.shape, leaf.dtype, sharding=sharding
        ),
        tree,
      )

    return jax.tree.map(place, self._out, shapes)

  def _bind(self, args, kwargs) -> dict[str, Any]:
    """Returns all arguments by name, and the layout of the rows."""
    bound = self._signature.bind(*args, **kwargs)
    bound.apply_defaults()
    arguments = dict(bound.arguments)
    del arguments["axis_name"]
    layouts = (pool_layout(arguments[name]) for name in self._rows)
    layout = next((found for found in layouts if found is not None), None)
    return {**arguments, "layout": layout}

  def _run(self, *, layout: Layout | None, **arguments):
    """Calls the function, under `shard_map` if the rows are split."""
    if layout is None:
      return self._function(**arguments)
    static = {name: arguments.pop(name) for name in self._static_argnames}

    def run_shard(arrays):
      return self._function(**arrays, **static, axis_name=layout.axis)

    def spec_of(is_split: bool) -> PartitionSpec:
      return layout.rows if is_split else PartitionSpec()

    return jax.shard_map(
      run_shard,
      mesh=layout.mesh,
      in_specs=({name: spec_of(name in self._rows) for name in arguments},),
      out_specs=jax.tree.map(spec_of, self._out),
    )(arguments)


def shard_rows(
  *, rows: Sequence[str], out: Any = WHOLE, static_argnames: Sequence[str] = ()
) -> Callable[[Callable[..., R]], ShardedFunction[R]]:
  """Makes a function of a pool run where the rows of the pool are.

  The decorated function has an argument `axis_name`, which its callers leave
  out. Where the rows are on one device, the function is compiled by `jax.jit`
  and gets None. Where they are split over a mesh (`pool_layout`), each device
  runs it under `jax.shard_map` on its own rows, with the names of the mesh axes
  as `axis_name`. A caller that is itself inside `shard_map` passes its own
  `axis_name`, and the function is called as it is.

  Inside another `jax.jit`, arrays do not show how they are split. The function
  is then traced as for one device.

  Args:
    rows: Names of the arguments whose first axis is the pool, arrays or
      `HostRows`. Each device gets all of the other arguments.
    out: `SPLIT` if the result is rows, `WHOLE` if it is equal on every device,
      or a tree of these with the structure of the result.
    static_argnames: Names of the arguments that are compile-time constants.
  """

  def decorate(function: Callable[..., R]) -> ShardedFunction[R]:
    return ShardedFunction(function, rows, out, static_argnames)

  return decorate


@shard_rows(rows=("array",))
def _take(array, indices, *, axis_name: AxisName = None):
  return take_rows(array, indices, axis_name)


def is_too_large(shape: tuple[int, int], mesh: Mesh) -> bool:
  """Returns whether features should stay on the host.

  Args:
    shape: (rows, dim) of float32 features.
    mesh: The mesh that they would be split over.
  """
  device = mesh.local_devices[0]
  shared_by = len(mesh.local_devices) if device.platform == "cpu" else 1
  share = 4 * shape[0] * shape[1] / mesh.size
  return share > LARGEST_SHARE * _device_bytes(device) / shared_by


def _device_bytes(device: Any) -> int:
  """Returns the memory of a device; of a CPU, that of the whole host."""
  stats = device.memory_stats() or {}
  if "bytes_limit" in stats:
    return stats["bytes_limit"]
  return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def platform() -> str:
  """Returns what programs are compiled for: "cpu", "gpu" or "tpu".

  That is the platform of `jax.default_device`, if it is set, as it is to
  compile for devices that are not attached.
  """
  device = getattr(jax.config, "jax_default_device", None)
  return getattr(device, "platform", device) or jax.default_backend()


def block_floats() -> int:
  """Returns how many floats of a pool this backend works on at once."""
  return CPU_BLOCK_FLOATS if platform() == "cpu" else ACCELERATOR_BLOCK_FLOATS


def block_rows(dim: int) -> int:
  """Returns how many rows of `dim` floats this backend works on at once."""
  return max(64, block_floats() // dim)
