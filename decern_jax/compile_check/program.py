"""A jitted function at given shapes, compiled but not run."""

import math
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from decern_jax.distributed.sharding import POOL_AXIS


class Program(NamedTuple):
  """A jitted function, and the arguments that it is compiled for.

  Attributes:
    name: What it does.
    function: What `jax.jit` or `shard_rows` has returned.
    args: Its arguments, as forms of arrays on the devices.
    options: Its keyword arguments.
    beside: Bytes per device of what the run keeps there meanwhile, without the
      arguments of the program.
    remedy: What makes it smaller.
    note: What should be known of it, or "".
  """

  name: str
  function: Any
  args: tuple[Any, ...]
  options: dict[str, Any]
  beside: int
  remedy: str
  note: str = ""


class Figures(NamedTuple):
  """What the compiler says of a program; bytes are those on one device.

  Attributes:
    name: What the program does.
    arguments: Bytes of the arguments.
    outputs: Bytes of the outputs.
    temporaries: Bytes of what is alive inside.
    aliased: Bytes of the outputs that take the place of arguments.
    code: Bytes of the program itself.
    beside: Bytes of what the run keeps on the device besides.
    flops: Floating-point operations, the body of a loop once; None: not told.
    seconds: Time to lower and compile.
    refusal: Why the compiler finds no room for it, or None.
  """

  name: str
  arguments: int = 0
  outputs: int = 0
  temporaries: int = 0
  aliased: int = 0
  code: int = 0
  beside: int = 0
  flops: float | None = None
  seconds: float = 0.0
  refusal: str | None = None

  @property
  def total(self) -> int:
    """Bytes that the device needs while the program runs."""
    peak = self.arguments + self.outputs + self.temporaries - self.aliased
    return peak + self.code + self.beside


def make(
  name: str,
  function: Any,
  *args: Any,
  kept: Any,
  remedy: str,
  note: str = "",
  **options: Any,
) -> Program:
  """Makes a program of a jitted function.

  Args:
    name: What it does.
    function: What `jax.jit` or `shard_rows` has returned.
    *args: Its arguments, as forms of arrays.
    kept: Forms of all arrays that are on the devices while it runs; those that
      are among the arguments count once.
    remedy: What makes it smaller.
    note: What should be known of it, or "".
    **options: Its keyword arguments.

  Returns:
    The program.
  """
  used = {id(leaf) for leaf in jax.tree.leaves(args)}
  beside = [leaf for leaf in jax.tree.leaves(kept) if id(leaf) not in used]
  return Program(
    name=name,
    function=function,
    args=args,
    options=options,
    beside=sum(map(_bytes_per_device, beside)),
    remedy=remedy,
    note=note,
  )


def measure(program: Program) -> Figures:
  """Compiles a program, and asks the compiler about it.

  Args:
    program: The program.

  Returns:
    The figures; a program that the compiler finds no room for has a refusal in
    their place.
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
    return Figures(program.name, beside=program.beside, refusal=refusal)
  memory = compiled.memory_analysis()
  return Figures(
    name=program.name,
    arguments=memory.argument_size_in_bytes,
    outputs=memory.output_size_in_bytes,
    temporaries=memory.temp_size_in_bytes,
    aliased=memory.alias_size_in_bytes,
    code=memory.generated_code_size_in_bytes,
    beside=program.beside,
    flops=(compiled.cost_analysis() or {}).get("flops"),
    seconds=round(time.monotonic() - start, 1),
  )


def split(
  mesh: Mesh, shape: tuple[int, ...], *, dtype: Any = jnp.float32
) -> jax.ShapeDtypeStruct:
  """Returns the form of an array whose rows are split over a mesh.

  Args:
    mesh: A mesh with the axis `pool`.
    shape: (rows, ...), the rows without padding.
    dtype: Type of the elements.
  """
  rows = -(-shape[0] // mesh.size) * mesh.size
  sharding = NamedSharding(mesh, PartitionSpec(POOL_AXIS))
  return jax.ShapeDtypeStruct((rows, *shape[1:]), dtype, sharding=sharding)


def whole(
  mesh: Mesh, shape: tuple[int, ...], *, dtype: Any = jnp.float32
) -> jax.ShapeDtypeStruct:
  """Returns the form of an array that every device of a mesh holds.

  Args:
    mesh: The mesh.
    shape: The shape.
    dtype: Type of the elements.
  """
  sharding = NamedSharding(mesh, PartitionSpec())
  return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)


def whole_tree(mesh: Mesh, tree: Any) -> Any:
  """Returns the forms of arrays that every device of a mesh holds.

  Args:
    mesh: The mesh.
    tree: Arrays, or their forms.
  """
  return jax.tree.map(
    lambda leaf: whole(mesh, leaf.shape, dtype=leaf.dtype), tree
  )


def _bytes_per_device(form: jax.ShapeDtypeStruct) -> int:
  shape = form.sharding.shard_shape(form.shape)
  return math.prod(shape) * form.dtype.itemsize
