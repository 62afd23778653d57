"""Tests of what all strategies of decern_jax/strategies have in common."""

import inspect

import jax
import numpy as np

from configs import common
from decern_jax.strategies import NEEDS, STRATEGIES, Pool
from tests.strategies import label_pools, pools, random_pools
from tests.table import each

OPTIONS = common.get_config().selection


SINGLE_LABEL = [name for name, row in STRATEGIES.items() if row.select]
MULTI_LABEL = [
  name for name, row in STRATEGIES.items() if row.select_multi_label
]


def select_multi_label(name: str, pool: Pool, *, budget: int = 5):
  strategy = STRATEGIES[name]
  unneeded = set(NEEDS) - set(strategy.needs)
  pool = pool._replace(**dict.fromkeys(unneeded))
  options = {option: OPTIONS[option] for option in strategy.options}
  if "cover_delta" in options:
    options["cover_delta"] = 0.3
  return strategy.select_multi_label(
    jax.random.key(0), pool, budget=budget, **options
  )


def select(name: str, pool, *, budget: int = 5, seed: int = 0):
  """Selects from a pool that has no more than the strategy declares."""
  strategy = STRATEGIES[name]
  unneeded = set(NEEDS) - set(strategy.needs)
  pool = pool._replace(**dict.fromkeys(unneeded))
  options = {option: OPTIONS[option] for option in strategy.options}
  return strategy.select(jax.random.key(seed), pool, budget=budget, **options)


class TestStrategies:
  def test_are_those_of_the_table(self):
    assert sorted(STRATEGIES) == list(STRATEGIES)
    assert len(STRATEGIES) == 27

  @each("name", STRATEGIES)
  def test_options_are_fields_of_the_configuration(self, name):
    selection = common.get_config().selection
    assert set(STRATEGIES[name].options) <= set(selection)

  @each("name", STRATEGIES)
  def test_needs_what_a_pool_has(self, name):
    assert set(STRATEGIES[name].needs) <= set(NEEDS)
    assert {*NEEDS, "candidates"} == set(Pool._fields)

  @each("name", SINGLE_LABEL)
  def test_takes_a_key_a_pool_and_keywords(self, name):
    strategy = STRATEGIES[name]
    parameters = inspect.signature(strategy.select).parameters
    assert list(parameters) == ["key", "pool", "budget", *strategy.options]
    for option in ("budget", *strategy.options):
      assert parameters[option].kind == inspect.Parameter.KEYWORD_ONLY

  @each("name", SINGLE_LABEL)
  @each("budget", [1, pools.NUM_CANDIDATES])
  def test_gives_exactly_the_budget_of_distinct_candidates(self, name, budget):
    pool = pools.make_pool()
    positions = np.asarray(select(name, pool, budget=budget).positions)
    assert positions.dtype == np.int32
    assert positions.shape == (budget,)
    assert len(np.unique(positions)) == budget
    assert np.asarray(pool.candidates)[positions].all()

  @each("name", SINGLE_LABEL)
  def test_equal_examples_give_distinct_candidates(self, name):
    pool = pools.make_pool()
    pool = pool._replace(
      features=np.ones_like(pool.features),
      probs=np.full_like(pool.probs, 0.2),
    )
    positions = np.asarray(select(name, pool).positions)
    assert len(np.unique(positions)) == 5
    assert np.asarray(pool.candidates)[positions].all()

  @each("name", SINGLE_LABEL)
  def test_is_independent_of_shard_count(self, name):
    expected = select(name, pools.make_pool())
    found = select(name, pools.make_pool(num_devices=8))
    np.testing.assert_array_equal(found.positions, expected.positions)
    if expected.scores is not None:
      np.testing.assert_allclose(
        found.scores[: pools.POOL],
        expected.scores[: pools.POOL],
        rtol=1e-5,
        atol=1e-6,
      )

  @each("name", SINGLE_LABEL)
  def test_is_a_function_of_its_key(self, name):
    pool = pools.make_pool()
    np.testing.assert_array_equal(
      select(name, pool).positions, select(name, pool).positions
    )


class TestMultiLabel:
  def test_all_but_decern_have_both_forms(self):
    assert set(STRATEGIES) - set(MULTI_LABEL) == {"decern"}
    assert set(STRATEGIES) - set(SINGLE_LABEL) == {"decern_multilabel"}

  @each("is_multi_label", [False, True])
  def test_form_is_the_one_for_the_labels(self, is_multi_label):
    row = STRATEGIES["margin"]
    expected = row.select_multi_label if is_multi_label else row.select
    assert row.form(is_multi_label=is_multi_label) is expected

  @each("name", MULTI_LABEL)
  def test_gives_exactly_the_budget_of_distinct_candidates(self, name):
    budget = int(random_pools.CANDIDATES.sum())
    pool = label_pools.make_pool()
    found = select_multi_label(name, pool, budget=budget)
    positions = np.asarray(found.positions)
    assert positions.shape == (budget,)
    assert len(np.unique(positions)) == budget
    assert np.asarray(pool.candidates)[positions].all()

  @each("name", MULTI_LABEL)
  def test_is_independent_of_shard_count(self, name):
    expected = select_multi_label(name, label_pools.make_pool())
    found = select_multi_label(name, label_pools.make_pool(num_devices=8))
    np.testing.assert_array_equal(found.positions, expected.positions)
