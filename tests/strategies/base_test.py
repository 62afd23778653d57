"""Tests of decern_jax/strategies/base.py and of the registry."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from decern_jax import strategies
from decern_jax.strategies import (
  STRATEGIES,
  Option,
  Strategy,
  base,
  learning_loss,
)
from tests.strategies import pools
from tests.table import each

COUNT = Option("count", 3, "A count.", low=1, high=9)
SHARE = Option("share", 0.5, "A share.", low=0.0, high=1.0)
KIND = Option("kind", "one", "A kind.", choices=("one", "two"))


@pytest.fixture
def table(monkeypatch):
  """A table that a test may add to."""
  monkeypatch.setattr(base, "STRATEGIES", {})
  return base.STRATEGIES


class TestOption:
  @each(
    "option, value",
    [(COUNT, 1), (COUNT, 9), (SHARE, 0), (SHARE, 1.0), (KIND, "two")],
  )
  def test_accepts_its_range_with_the_bounds(self, option, value):
    found = option.check(value)
    assert found == value
    assert type(found) is type(option.default)

  @each(
    "option, value, match",
    [
      (COUNT, 0, "1 <= `selection.options.count` <= 9, got 0"),
      (COUNT, 10, "`selection.options.count` <= 9, got 10"),
      (COUNT, 1.5, "an integer .*count`.* got 1.5"),
      (COUNT, True, "`selection.options.count` .*got True"),
      (SHARE, -0.1, "0.0 <= `selection.options.share` <= 1.0, got -0.1"),
      (SHARE, 1.1, "`selection.options.share` <= 1.0, got 1.1"),
      (SHARE, np.nan, "finite `selection.options.share`, got nan"),
      (SHARE, "much", "`selection.options.share` a number, got 'much'"),
      (KIND, "six", "`selection.options.kind` 'six'; expected one of .*'one'"),
      (Option("n", 1, "Any.", low=0), -1, "0 <= `selection.options.n`, got -1"),
    ],
  )
  def test_rejects_what_is_out_of_range(self, option, value, match):
    with pytest.raises(ValueError, match=match):
      option.check(value)


class TestRegister:
  def test_adds_a_strategy_with_its_options(self, table):
    row = base.register(Strategy("mine", pools.select, options=(COUNT, KIND)))
    assert table == {"mine": row}
    assert base.declared_options() == {"count": COUNT, "kind": KIND}
    assert list(base.declared_options()) == ["count", "kind"]

  def test_rejects_a_name_that_is_taken(self, table):
    base.register(Strategy("mine", None))
    with pytest.raises(ValueError, match="new name, got 'mine'"):
      base.register(Strategy("mine", None))

  def test_rejects_an_option_that_another_strategy_declares_differently(
    self, table
  ):
    base.register(Strategy("mine", None, options=(COUNT,)))
    base.register(Strategy("same", None, options=(COUNT,)))
    other = dataclasses.replace(COUNT, default=4)
    with pytest.raises(ValueError, match="one declaration of option 'count'"):
      base.register(Strategy("other", None, options=(other,)))
    assert set(table) == {"mine", "same"}


class TestStrategy:
  @each(
    "fields, match",
    [
      ({"needs": ("feature",)}, r"Unknown needs \['feature'\]"),
      ({"needs": ("auxiliary",)}, "if, and only if, it has"),
      ({"auxiliary": learning_loss.LOSS_MODULE}, "if, and only if, it has"),
    ],
  )
  def test_rejects_needs_that_do_not_fit(self, fields, match):
    with pytest.raises(ValueError, match=match):
      Strategy("mine", None, **fields)

  def test_chooses_its_options_among_others(self):
    strategy = Strategy("mine", None, options=(COUNT, SHARE))
    found = strategy.choose_options({"count": 4, "kind": "two"})
    assert found == {"count": 4, "share": 0.5}
    with pytest.raises(ValueError, match="count"):
      strategy.choose_options({"count": 0})

  @each("is_multi_label", [False, True])
  def test_form_is_the_one_for_the_labels(self, is_multi_label):
    row = STRATEGIES["margin"]
    expected = row.select_multi_label if is_multi_label else row.select
    form = row.form(is_multi_label=is_multi_label)
    assert form is not None
    assert form.__wrapped__ is expected

  def test_reads_blocks_where_it_streams_or_needs_no_features(self):
    found = {name for name, row in STRATEGIES.items() if row.reads_blocks}
    assert {"decern", "margin", "learning_loss"} <= found
    assert not found & {"badge", "kmeans", "gradient_magnitude"}


class TestTable:
  def test_names_are_those_of_the_strategies(self):
    # None is lost: the registry found the modules of all.
    assert len(STRATEGIES) >= 27
    assert all(row.name == name for name, row in STRATEGIES.items())

  def test_decern_has_a_row_for_each_form(self):
    assert STRATEGIES["decern"].select_multi_label is None
    assert STRATEGIES["decern_multilabel"].select is None

  def test_defaults_are_in_range(self):
    options = strategies.declared_options()
    defaults = strategies.default_options()
    assert list(options) == list(defaults)
    for name, option in options.items():
      assert option.check(defaults[name]) == option.default
      assert option.meaning.endswith(".")


class TestPool:
  @each("is_multi_label", [False, True])
  def test_labeled_examples_are_those_with_a_label(self, is_multi_label):
    pool = pools.make_pool(is_multi_label=is_multi_label)
    np.testing.assert_array_equal(pool.labeled, pools.LABELED)

  def test_is_a_pytree_that_keeps_what_is_absent(self):
    pool = base.Pool(
      candidates=jnp.asarray(pools.CANDIDATES), probs=jnp.asarray(pools.PROBS)
    )
    assert len(jax.tree.leaves(pool)) == 2
    assert jax.tree.map(lambda x: x[:3], pool).features is None
