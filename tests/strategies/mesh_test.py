"""Tests of every strategy on JAX's default mesh, inside `jit`, and with x64."""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec
import numpy as np
import pytest

import decern_jax
from decern_jax import get_strategy
from decern_jax.distributed.sharding import POOL_AXIS
from decern_jax.strategies import STRATEGIES, Pool
from tests.strategies import pools
from tests.strategies.pools import BUDGET, make_pool
from tests.table import each

SPLIT = PartitionSpec(POOL_AXIS)
WHOLE = PartitionSpec()
# One form of each strategy: the two share what matters here.
FORMS = [(name, row.select is None) for name, row in STRATEGIES.items()]
each_strategy = each("name, is_multi_label", FORMS)


def make_mesh(kind: AxisType) -> jax.sharding.Mesh:
  return jax.make_mesh((8,), (POOL_AXIS,), axis_types=(kind,))


# JAX's default.
EXPLICIT = jax.make_mesh((8,), (POOL_AXIS,))
AUTO = make_mesh(AxisType.Auto)


def pool_of(name: str, is_multi_label: bool, mesh=None, spec=SPLIT) -> Pool:
  """The pool of all tests, with what the strategy needs, padded for a mesh."""
  pool = make_pool(num_devices=8, is_multi_label=is_multi_label)
  needs = {"candidates", *STRATEGIES[name].needs}
  fields = {n: getattr(pool, n) for n in needs}
  if mesh is not None:
    for need, value in fields.items():
      placing = NamedSharding(mesh, WHOLE if need == "head" else spec)
      fields[need] = jax.device_put(jax.tree.map(np.asarray, value), placing)
  return Pool(**fields)


def query(name: str, is_multi_label: bool, **options):
  """The function of a key and a pool that selects from it."""
  choose = get_strategy(name, is_multi_label=is_multi_label)
  return functools.partial(choose, budget=BUDGET, **options)


@functools.cache
def expected(name: str, is_multi_label: bool) -> np.ndarray:
  """What is selected over a mesh of type Auto, as the contract test checks."""
  found = query(name, is_multi_label)(
    jax.random.key(0), pool_of(name, is_multi_label)
  )
  return np.asarray(found.indices)


def by_columns() -> jax.Array:
  placing = NamedSharding(EXPLICIT, PartitionSpec(None, POOL_AXIS))
  return jax.device_put(np.full((8, 8), 1 / 8, np.float32), placing)


def largest_gather(compiled: jax.stages.Compiled) -> int:
  """The most numbers that a program gathers on every device."""
  text = compiled.as_text() or ""
  shapes = re.findall(r"= \w+\[([\d,]*)\][^=]*? all-gather", text)
  sizes = [
    int(np.prod([int(n) for n in s.split(",") if n] or [1])) for s in shapes
  ]
  return max(sizes, default=0)


class TestExplicit:
  @each_strategy
  def test_selects_as_over_auto_axes(self, name, is_multi_label):
    pool = pool_of(name, is_multi_label, EXPLICIT)
    found = query(name, is_multi_label)(jax.random.key(0), pool)
    np.testing.assert_array_equal(found.indices, expected(name, is_multi_label))
    whole = NamedSharding(EXPLICIT, PartitionSpec())
    assert found.indices.sharding.is_equivalent_to(whole, 1)
    if found.scores is not None:
      split = NamedSharding(EXPLICIT, SPLIT)
      assert found.scores.sharding.is_equivalent_to(split, 1)

  @each_strategy
  def test_selects_inside_jit(self, name, is_multi_label):
    pool = pool_of(name, is_multi_label, EXPLICIT)
    jitted = jax.jit(query(name, is_multi_label))
    with jax.set_mesh(EXPLICIT):
      found = jitted(jax.random.key(0), pool)
    np.testing.assert_array_equal(found.indices, expected(name, is_multi_label))

  @each("name", ["kmeans", "margin"])
  @each("spec", [SPLIT, WHOLE])
  def test_selects_where_the_mesh_is_set(self, name, spec):
    pool = pool_of(name, False, EXPLICIT, spec)
    with jax.set_mesh(EXPLICIT):
      found = query(name, False)(jax.random.key(0), pool)
    np.testing.assert_array_equal(found.indices, expected(name, False))

  def test_a_strategy_of_a_user_may_sort_and_gather(self):
    def by_order(key, pool, *, budget):
      del key
      order = jax.numpy.argsort(~pool.candidates, stable=True)
      return decern_jax.Selection(order[:budget].astype(np.int32))

    strategy = decern_jax.Strategy("by_order", by_order)
    choose = strategy.require_form(is_multi_label=False)
    pool = pool_of("random", False, EXPLICIT)
    found = jax.jit(lambda key, pool: choose(key, pool, budget=3))(
      jax.random.key(0), pool
    )
    np.testing.assert_array_equal(
      found.indices, np.flatnonzero(pools.CANDIDATES)[:3]
    )


class TestAuto:
  # Of those that cluster the pool, whose rows they reorder.
  @each("name", ["decern", "kmeans", "typiclust"])
  def test_each_device_holds_its_own_rows_inside_jit(self, name):
    pool = pool_of(name, False, AUTO)
    choose = query(name, False, mesh=AUTO, axis=POOL_AXIS)
    lowered = jax.jit(choose).lower(jax.random.key(0), pool)
    compiled = lowered.compile()
    found = compiled(jax.random.key(0), pool)
    np.testing.assert_array_equal(found.indices, expected(name, False))
    assert largest_gather(compiled) < pool.features.size / 4

  @each("name", ["bait", "margin"])
  def test_rows_stay_where_they_are_eagerly(self, name):
    pool = pool_of(name, False, AUTO)
    compiled = jax.jit(query(name, False)).lower(jax.random.key(0), pool)
    rows = pool.features if name == "bait" else pool.probs
    assert largest_gather(compiled.compile()) < rows.size / 2

  def test_places_rows_that_are_on_one_device(self):
    pool = pool_of("kmeans", False)
    host = dataclasses.replace(
      pool,
      **{n: np.asarray(getattr(pool, n)) for n in ("candidates", "features")},
    )
    found = query("kmeans", False, mesh=AUTO)(jax.random.key(0), host)
    np.testing.assert_array_equal(found.indices, expected("kmeans", False))


class TestX64:
  @each_strategy
  def test_selects_the_same(self, name, is_multi_label):
    pool = pool_of(name, is_multi_label)
    with jax.enable_x64(True):
      wide = jax.tree.map(
        lambda leaf: leaf.astype(
          {"float32": "float64", "int32": "int64"}.get(leaf.dtype.name, bool)
        ),
        pool,
      )
      found = query(name, is_multi_label)(jax.random.key(0), wide)
    np.testing.assert_array_equal(found.indices, expected(name, is_multi_label))
    assert found.indices.dtype == np.int32

  @each("name", ["decern", "badge"])
  def test_selects_the_same_inside_jit(self, name):
    pool = pool_of(name, False, EXPLICIT)
    with jax.enable_x64(True), jax.set_mesh(EXPLICIT):
      found = jax.jit(query(name, False))(jax.random.key(0), pool)
    np.testing.assert_array_equal(found.indices, expected(name, False))


class TestGetStrategy:
  @each(
    "call, message",
    [
      (lambda: get_strategy("margn"), "Unknown strategy 'margn'.*'margin'"),
      (
        lambda: get_strategy("decern_multilabel"),
        "for one label per example, one of .*, got 'decern_multilabel'",
      ),
      (
        lambda: query("margin", False, gamma=1)(None, pool_of("margin", False)),
        r"Unknown options \['gamma'\]",
      ),
      (
        lambda: query("margin", False)(None, pool_of("random", False)),
        "'margin' needs `probs`; missing: `probs`",
      ),
      (
        lambda: get_strategy("random")(
          None, pool_of("random", False), budget=209
        ),
        "`budget` <= 208, got 209",
      ),
      (
        lambda: query("random", False, axis="pool")(
          None, pool_of("random", False)
        ),
        "`mesh` with `axis` 'pool', got none",
      ),
      (
        lambda: query("random", False, mesh=AUTO, axis="data")(
          None, pool_of("random", False)
        ),
        r"`axis` among \('pool',\), got 'data'",
      ),
      (
        lambda: query("random", False, mesh=AUTO)(
          jax.random.key(0), Pool(candidates=jnp.ones(9, bool))
        ),
        "rows that 8 devices share equally, got 9",
      ),
      (
        lambda: query("margin", False)(
          jax.random.key(0),
          Pool(candidates=jnp.ones(8, bool), probs=by_columns()),
        ),
        "split along their first axis only",
      ),
    ],
  )
  def test_refuses(self, call, message):
    with pytest.raises(ValueError, match=message):
      call()
