"""Tests of decern_jax/compile_check/program.py."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from decern_jax.compile_check import program, topology
from decern_jax.distributed import sharding
from decern_jax.distributed.collective import psum
from tests.table import each


@pytest.fixture
def mesh():
  return topology.make_mesh("cpu:8")


@jax.jit
def product(rows, kernel):
  return rows @ kernel


def make(mesh, function: Any = product, *, kept=(), **options):
  """A program of 1,000 rows of 32 floats, and a kernel for 16."""
  rows = program.split(mesh, (1000, 32))
  kernel = program.whole(mesh, (32, 16))
  return program.make(
    "product", function, rows, kernel, kept=kept, remedy="less", **options
  )


class TestSplit:
  @each("rows, padded", [(1, 8), (16, 16), (17, 24)])
  def test_pads_to_equal_shards(self, mesh, rows, padded):
    form = program.split(mesh, (rows, 3), dtype=jnp.int32)
    assert (form.shape, form.dtype) == ((padded, 3), jnp.int32)
    assert form.sharding.shard_shape(form.shape) == (padded // 8, 3)


class TestWhole:
  def test_is_whole_on_every_device(self, mesh):
    form = program.whole(mesh, (5, 3))
    assert form.dtype == jnp.float32
    assert form.sharding.shard_shape(form.shape) == (5, 3)


class TestWholeTree:
  def test_has_the_forms_of_the_arrays(self, mesh):
    forms = program.whole_tree(mesh, {"a": jnp.zeros((2, 3), dtype=jnp.int32)})
    assert forms == {"a": program.whole(mesh, (2, 3), dtype=jnp.int32)}


class TestMake:
  def test_counts_what_is_resident_and_no_argument(self, mesh):
    rows, other = program.split(mesh, (1000, 32)), program.whole(mesh, (7,))
    listed = program.make(
      "sum", jax.jit(jnp.sum), rows, kept=[{"x": rows}, other], remedy=""
    )
    assert listed.resident == 7 * 4

  def test_counts_a_shard_of_what_is_split(self, mesh):
    kept = program.split(mesh, (16, 3), dtype=jnp.int8)
    assert make(mesh, kept=kept).resident == 2 * 3


@sharding.shard_rows(rows=("rows",), out=sharding.SPLIT)
def _scale_rows(rows, factor, *, axis_name=None):
  return rows * factor


@sharding.shard_rows(rows=("rows",), static_argnames=("power",))
def sum_rows(rows, *, power, axis_name=None):
  # A function that another one calls is a part of it.
  doubled = _scale_rows(rows, 2.0, axis_name=axis_name or ())
  return psum(jnp.sum(doubled**power), axis_name)


class TestRecord:
  def call(self, rows):
    scaled = _scale_rows(rows, 2.0)
    return scaled, sum_rows(scaled, power=2)

  def test_lists_the_calls_with_the_shapes_between_them(self, mesh):
    rows = program.split(mesh, (16, 3))
    result, listed = program.record(self.call, rows, kept=rows, remedy="less")
    assert [item.name for item in listed] == ["scale rows", "sum rows"]
    scaled, total = result
    assert scaled == rows
    assert listed[1].args[0] is scaled
    assert listed[1].options == {"power": 2}
    assert (total.shape, total.dtype) == ((), jnp.float32)
    assert total.sharding.is_fully_replicated
    # The first rows stay on the devices while the others are summed.
    assert [item.resident for item in listed] == [0, 4 * 2 * 3]
    assert program.measure(listed[0]).outputs == 4 * 2 * 3

  def test_of_one_device_compiles_too(self):
    rows = program.whole(topology.make_mesh("cpu:1"), (16, 3))
    _, listed = program.record(self.call, rows, kept=(), remedy="less")
    assert [program.measure(item).outputs for item in listed] == [4 * 16 * 3, 4]
    assert [item.resident for item in listed] == [0, 4 * 16 * 3]

  def test_runs_again_afterwards(self):
    with sharding.record_calls():
      pass
    assert _scale_rows(np.ones(3, np.float32), 2.0).tolist() == [2.0] * 3


class TestMeasure:
  def test_counts_what_is_on_one_device(self, mesh):
    figures = program.measure(make(mesh))
    assert figures.name == "product"
    assert figures.arguments == 4 * (125 * 32 + 32 * 16)
    assert figures.outputs == 4 * 125 * 16
    assert figures.aliased == 0
    assert figures.flops == pytest.approx(2 * 125 * 32 * 16, rel=0.1)
    assert figures.refusal is None

  def test_counts_a_donated_argument_once(self, mesh):
    @functools.partial(jax.jit, donate_argnums=0)
    def shift(rows, kernel):
      return rows + jnp.sum(kernel)

    figures = program.measure(make(mesh, shift))
    assert figures.aliased == figures.outputs == 4 * 125 * 32

  def test_counts_what_is_alive_inside(self, mesh):
    @jax.jit
    def sort_products(rows, kernel):
      return jnp.sort(rows @ rows.T, axis=1)[:, 0] + jnp.sum(kernel)

    figures = program.measure(make(mesh, sort_products))
    assert figures.temporaries >= 4 * 125 * 1000

  def test_holds_what_the_compiler_refuses(self, mesh):
    class Refused:
      def lower(self, *args):
        raise jax.errors.JaxRuntimeError(
          "RESOURCE_EXHAUSTED: Ran out of memory: 2T exceeds 1G.\nDetails"
        )

    figures = program.measure(make(mesh, Refused()))
    assert figures.refusal == "Ran out of memory: 2T exceeds 1G."

  def test_raises_other_errors_of_the_compiler(self, mesh):
    class Broken:
      def lower(self, *args):
        raise jax.errors.JaxRuntimeError("INTERNAL: broken")

    with pytest.raises(jax.errors.JaxRuntimeError, match="broken"):
      program.measure(make(mesh, Broken()))


class TestFigures:
  def test_total_counts_what_is_aliased_once(self):
    figures = program.Figures(
      "a", arguments=1, outputs=20, temporaries=300, aliased=20, code=4000
    )
    assert figures.total == 4301
    assert dataclasses.replace(figures, resident=50000).total == 54301
