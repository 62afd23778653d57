"""A jitted function at given shapes, compiled but not run."""

from collections.abc import Callable
import dataclasses
import math
import time
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from decern_jax.distributed.sharding import POOL_AXIS, record_calls


@dataclasses.dataclass(frozen=True)
class Program:
  """A jitted function, and the arguments that it is compiled for.

  Attributes:
    name: Its name in the table.
    function: A function of `jax.jit` or `shard_rows`, with a method `lower`.
    args: Its arguments: the `jax.ShapeDtypeStruct` of each array.
    options: Its keyword arguments.
    resident: Bytes per device of the arrays that the run keeps there in
      addition to the arguments.
    remedy: Advice that makes the program smaller.
    note: A remark for the user, or "".
  """

  name: str
  function: Any
  args: tuple[Any, ...]
  options: dict[str, Any]
  resident: int
  remedy: str
  note: str = ""


@dataclasses.dataclass(frozen=True)
class Figures:
  """The compiler's figures for a program, in bytes on one device.

  Attributes:
    name: Name of the program.
    arguments: Bytes of the arguments.
    outputs: Bytes of the outputs.
    temporaries: Bytes of temporary buffers.
    aliased: Bytes of the outputs that reuse the memory of arguments.
    code: Bytes of the program itself.
    resident: Bytes of the arrays that the run keeps on the device in addition
      to the arguments.
    flops: Floating-point operations, counting each loop body once; None if the
      compiler does not report them.
    seconds: Time to lower and compile.
    refusal: The compiler's error message if the program does not fit, or None.
  """

  name: str
  arguments: int = 0
  outputs: int = 0
  temporaries: int = 0
  aliased: int = 0
  code: int = 0
  resident: int = 0
  flops: float | None = None
  seconds: float = 0.0
  refusal: str | None = None

  @property
  def total(self) -> int:
    """Bytes that the device needs while the program runs."""
    peak = self.arguments + self.outputs + self.temporaries - self.aliased
    return peak + self.code + self.resident


def make(
  name: str,
  function: Any,
  *args: Any,
  kept: Any,
  remedy: str,
  note: str = "",
  **options: Any,
) -> Program:
  """Returns the program of a jitted function.

  Args:
    name: Its name in the table.
    function: A function of `jax.jit` or `shard_rows`.
    *args: Its arguments, as shapes of arrays.
    kept: Shapes of all arrays that are on the devices while it runs. Arrays
      that are also arguments count once.
    remedy: Advice that makes the program smaller.
    note: A remark for the user, or "".
    **options: Its keyword arguments.
  """
  used = {id(leaf) for leaf in jax.tree.leaves((args, options))}
  shapes = {
    id(leaf): leaf
    for leaf in jax.tree.leaves(kept)
    if isinstance(leaf, jax.ShapeDtypeStruct) and id(leaf) not in used
  }
  return Program(
    name=name,
    function=function,
    args=args,
    options=options,
    resident=sum(map(_bytes_per_device, shapes.values())),
    remedy=remedy,
    note=note,
  )


def record(
  function: Callable[..., Any],
  *args: Any,
  kept: Any,
  remedy: str,
  **kwargs: Any,
) -> tuple[Any, list[Program]]:
  """Lists the programs that code on the host calls, without running them.

  Args:
    function: Calls functions of `shard_rows`.
    *args: Its arguments, as shapes of arrays.
    kept: As in `make`; the results of earlier programs are added to it.
    remedy: As in `make`.
    **kwargs: Its keyword arguments.

  Returns:
    The result of the function, as shapes of arrays, and the programs.
  """
  with record_calls() as calls:
    result = function(*args, **kwargs)
  programs, kept = [], [kept]
  for call in calls:
    name = call.function.__name__.strip("_").replace("_", " ")
    made = make(
      name, call.function, *call.args, kept=kept, remedy=remedy, **call.kwargs
    )
    programs.append(made)
    # The function's local variables keep earlier results alive until it
    # returns.
    kept.append((call.args, call.kwargs, call.result))
  return result, programs


def measure(program: Program) -> Figures:
  """Compiles a program, and reads the compiler's figures.

  Returns:
    The figures. If the program does not fit on the device, only `resident` and
    `refusal` are set.
  """
  start = time.monotonic()
  try:
    lowered = program.function.lower(*program.args, **program.options)
    compiled = lowered.compile()
  except jax.errors.JaxRuntimeError as error:
    status, _, reason = str(error).partition(": ")
    if status != "RESOURCE_EXHAUSTED":
      raise
    refusal = reason.splitlines()[0]
    return Figures(program.name, resident=program.resident, refusal=refusal)
  memory = compiled.memory_analysis()
  return Figures(
    name=program.name,
    arguments=memory.argument_size_in_bytes,
    outputs=memory.output_size_in_bytes,
    temporaries=memory.temp_size_in_bytes,
    aliased=memory.alias_size_in_bytes,
    code=memory.generated_code_size_in_bytes,
    resident=program.resident,
    flops=(compiled.cost_analysis() or {}).get("flops"),
    seconds=round(time.monotonic() - start, 1),
  )


def split(
  mesh: Mesh, shape: tuple[int, ...], *, dtype: Any = jnp.float32
) -> Any:
  """Returns the shape of an array whose rows are split over a mesh.

  Args:
    mesh: A mesh with the axis `pool`.
    shape: (rows, ...), with the number of rows before padding.
    dtype: Type of the elements.

  Returns:
    A `jax.ShapeDtypeStruct`, with its sharding.
  """
  rows = -(-shape[0] // mesh.size) * mesh.size
  sharding = NamedSharding(mesh, PartitionSpec(POOL_AXIS))
  return jax.ShapeDtypeStruct((rows, *shape[1:]), dtype, sharding=sharding)


def whole(
  mesh: Mesh, shape: tuple[int, ...], *, dtype: Any = jnp.float32
) -> Any:
  """Returns the shape of an array that is replicated on a mesh.

  Returns:
    A `jax.ShapeDtypeStruct`, with its sharding.
  """
  sharding = NamedSharding(mesh, PartitionSpec())
  return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)


def whole_tree(mesh: Mesh, tree: Any) -> Any:
  """Returns the shapes of arrays that are replicated on a mesh."""
  return jax.tree.map(
    lambda leaf: whole(mesh, leaf.shape, dtype=leaf.dtype), tree
  )


def _bytes_per_device(array: jax.ShapeDtypeStruct) -> int:
  shape = array.shape
  if array.sharding is not None:
    shape = array.sharding.shard_shape(shape)
  return math.prod(shape) * array.dtype.itemsize
