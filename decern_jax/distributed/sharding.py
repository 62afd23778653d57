"""The mesh of a run, arrays that are split over it, and functions of them."""

from collections.abc import Callable, Iterable, Iterator, Sequence
import contextlib
import contextvars
import dataclasses
import functools
import inspect
import math
import os
from typing import Any, Generic, TypeVar

import jax
from jax.core import Tracer
from jax.experimental import multihost_utils
from jax.sharding import (
  AbstractMesh,
  AxisType,
  Mesh,
  NamedSharding,
  PartitionSpec,
)
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

  mesh: Mesh | AbstractMesh
  axis: tuple[str, ...]

  @property
  def rows(self) -> PartitionSpec:
    """The partition of an array whose first axis is the pool."""
    return PartitionSpec(self.axis)

  @property
  def is_explicit(self) -> bool:
    """Whether types of arrays show how they are split."""
    return AxisType.Explicit in self.mesh.axis_types

  def with_auto_axes(self) -> "Layout":
    """Returns the same split of rows over a mesh with axes of type Auto."""
    mesh = self.mesh
    types = (AxisType.Auto,) * len(mesh.axis_names)
    if isinstance(mesh, Mesh):
      mesh = Mesh(mesh.devices, mesh.axis_names, axis_types=types)
    else:
      mesh = mesh.update_axis_types(
        dict(zip(mesh.axis_names, types, strict=True))
      )
    return Layout(mesh, self.axis)

  def check(self, num_rows: int) -> None:
    """Checks that rows can be split equally.

    Raises:
      ValueError: If they cannot.
    """
    count = math.prod(self.mesh.shape[name] for name in self.axis)
    if num_rows % count:
      raise ValueError(
        f"Expected rows that {count} devices share equally, got {num_rows}:"
        " pad them, and leave the added rows out by `valid` or `candidates`."
      )


def make_layout(
  mesh: Mesh | AbstractMesh | None, axis: str | Sequence[str] | None
) -> Layout | None:
  """Returns the layout that a caller names.

  Args:
    mesh: The mesh, or None.
    axis: Names of its axes that split the rows; None for all of them.

  Raises:
    ValueError: If the mesh has no such axis, or there is no mesh.
  """
  if mesh is None:
    if axis is not None:
      raise ValueError(f"Expected `mesh` with `axis` {axis!r}, got none.")
    return None
  names = (axis,) if isinstance(axis, str) else axis or mesh.axis_names
  unknown = [name for name in names if name not in mesh.axis_names]
  if unknown:
    raise ValueError(
      f"Expected `axis` among {mesh.axis_names}, got {unknown[0]!r}."
    )
  return Layout(mesh, tuple(names))


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
    mesh: A mesh. The rows are split by its axis `pool`, or by all of its axes
      if none has that name.

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

  axis = POOL_AXIS if POOL_AXIS in mesh.axis_names else mesh.axis_names
  sharding = NamedSharding(mesh, PartitionSpec(axis))
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


_ASSUMED: contextvars.ContextVar[tuple[Layout, int] | None]
_ASSUMED = contextvars.ContextVar("assumed", default=None)


@contextlib.contextmanager
def assume_split(layout: Layout, num_rows: int) -> Iterator[None]:
  """Sets the layout of traced arrays whose types do not show it.

  In `jax.jit`, types do not show the layout over axes of type Auto.

  Args:
    layout: The layout of all traced arrays with `num_rows` rows.
    num_rows: Rows of the pool.
  """
  layout.check(num_rows)
  token = _ASSUMED.set((layout, num_rows))
  try:
    yield
  finally:
    _ASSUMED.reset(token)


def pool_layout(array: object) -> Layout | None:
  """Returns how the rows of an array are split over devices.

  Args:
    array: Anything. Only a `jax.Array`, its `jax.ShapeDtypeStruct` and
      `HostRows` can be split over devices. The type of an array inside
      `jax.jit` shows the split over axes of type Explicit; over others, the
      layout is that of `assume_split`.

  Returns:
    The layout, or None where one device, or each device, holds all rows.

  Raises:
    ValueError: If the array is split along another axis.
  """
  if isinstance(array, HostRows):
    return pool_layout(array.indices)
  if not isinstance(array, jax.Array | jax.ShapeDtypeStruct):
    return None
  is_traced = isinstance(array, Tracer)
  assumed = _ASSUMED.get()
  if is_traced and assumed is not None:
    layout, num_rows = assumed
    return layout if array.shape[:1] == (num_rows,) else None
  sharding = (jax.typeof(array) if is_traced else array).sharding
  if not isinstance(sharding, NamedSharding):
    return None

  def names_of(entry) -> tuple[str, ...]:
    names = (entry,) if isinstance(entry, str) else tuple(entry or ())
    return names if any(sharding.mesh.shape[n] > 1 for n in names) else ()

  axis, *others = map(names_of, sharding.spec or (None,))
  if any(others):
    raise ValueError(
      "Expected arrays that are split along their first axis only, got"
      f" {sharding.spec} of the shape {array.shape}."
    )
  return Layout(sharding.mesh, axis) if axis else None


def find_layout(arrays: Iterable[object]) -> Layout | None:
  """Returns the layout of the first array whose rows are split, or None."""
  layouts = map(pool_layout, arrays)
  return next((found for found in layouts if found is not None), None)


def in_32_bits(tree: Any) -> Any:
  """Returns arrays with 64-bit numbers as 32-bit ones; the others unchanged."""

  def narrow(leaf):
    if not (isinstance(leaf, jax.Array) and leaf.dtype.name in _NARROW):
      return leaf
    return leaf.astype(_NARROW[leaf.dtype.name])

  return jax.tree.map(narrow, tree)


_NARROW = {"float64": "float32", "int64": "int32", "uint64": "uint32"}


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
    """Calls the function on arrays, each device on its own rows.

    Args:
      *args: Its arguments.
      **kwargs: Its keyword arguments; also `mesh` and `axis` of `make_layout`.
        They are needed in `jax.jit` over axes of type Auto, where the types of
        arrays do not show how the rows are split.
    """
    if kwargs.get("axis_name") is not None:
      # The caller is already inside `shard_map`.
      return self._function(*args, **kwargs)
    calls = _CALLS.get()
    if calls is not None:
      result = self._eval_shape(args, kwargs)
      calls.append(Call(self, args, kwargs, result))
      return result
    arguments = self._bind(args, kwargs)
    with jax.enable_x64(False):
      return self._compiled(**arguments)

  def lower(self, *args: Any, **kwargs: Any) -> jax.stages.Lowered:
    """Lowers the function for arguments, as `jax.jit(...).lower` does.

    Args:
      *args: Arrays, or the `jax.ShapeDtypeStruct` of each.
      **kwargs: Keyword arguments.

    Returns:
      The lowered program, for the layout that the arguments have.
    """
    arguments = self._bind(args, kwargs)
    with jax.enable_x64(False):
      return self._compiled.lower(**arguments)

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
    kwargs = dict(kwargs)
    given = make_layout(kwargs.pop("mesh", None), kwargs.pop("axis", None))
    bound = self._signature.bind(*args, **kwargs)
    bound.apply_defaults()
    arguments = dict(bound.arguments)
    del arguments["axis_name"]
    arguments = in_32_bits(arguments)
    layout = given or find_layout(arguments[name] for name in self._rows)
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

    specs = {name: spec_of(name in self._rows) for name in arguments}
    if layout.is_explicit:
      # Types must equal the specifications there.
      arguments = {
        name: jax.sharding.reshard(
          value, NamedSharding(layout.mesh, specs[name])
        )
        for name, value in arguments.items()
      }
    return jax.shard_map(
      run_shard,
      mesh=layout.mesh,
      in_specs=(specs,),
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

  Inside another `jax.jit`, the types of arrays show how they are split over
  axes of type Explicit. Over axes of type Auto they do not: the function is
  then traced as for one device, unless the caller passes `mesh` and `axis`.

  The function computes in 32 bits, also under `jax_enable_x64`.

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
