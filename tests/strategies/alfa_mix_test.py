"""Tests of decern_jax/strategies/alfa_mix.py."""

import jax
import jax.numpy as jnp
import numpy as np

from decern_jax.strategies import Selection, alfa_mix
from tests import oracle
from tests.strategies import pools
from tests.strategies.pools import BUDGET
from tests.table import each

CAPS = (0.2, 0.4, 0.6, 0.8, 1.0)


def naive_turned(pool, cap: float, *, is_multi_label: bool) -> np.ndarray:
  """Which predictions change in a mixture with any class, by a double loop."""
  features = np.asarray(pool.features, np.float64)
  labels = np.asarray(pool.labels)
  kernel = np.asarray(pool.head.kernel, np.float64)
  bias = np.asarray(pool.head.bias, np.float64)
  classes = len(bias)
  turned = np.zeros(len(features), bool)
  for row in np.flatnonzero(pool.candidates):
    x = features[row]
    logits = x @ kernel + bias
    if is_multi_label:
      predicted = logits >= 0
      residual = 1 / (1 + np.exp(-logits)) - predicted
    else:
      predicted = np.eye(classes)[logits.argmax()]
      residual = oracle.softmax(logits) - predicted
    gradient = kernel @ residual
    for c in range(classes):
      member = labels[:, c] == 1 if is_multi_label else labels == c
      if not member.any():
        continue
      away = features[member].mean(axis=0) - x
      size = cap / np.sqrt(len(x)) * np.linalg.norm(away)
      alpha = size * gradient / np.linalg.norm(gradient) / away
      mixed = ((1 - alpha) * x + alpha * (x + away)) @ kernel + bias
      if is_multi_label:
        turned[row] |= ((mixed >= 0) != predicted).any()
      else:
        turned[row] |= mixed.argmax() != logits.argmax()
  return turned


FORMS = [(alfa_mix.select, False), (alfa_mix.select_multi_label, True)]


class TestSelect:
  @each("select, is_multi_label", FORMS)
  def test_scores_match_naive_mixtures(self, key, select, is_multi_label):
    pool = pools.make_pool(is_multi_label=is_multi_label)
    scores = np.asarray(select(key, pool, budget=BUDGET).scores)
    for cap in CAPS:
      expected = naive_turned(pool, cap, is_multi_label=is_multi_label)
      np.testing.assert_array_equal(scores > 1 / (1 + cap), expected)
      assert 0 < expected.sum() < pools.CANDIDATES.sum()

  @each("select, is_multi_label", FORMS)
  @each("garbage", [0.0, pools.GARBAGE])
  def test_takes_what_the_least_cap_that_is_enough_turns(
    self, key, select, is_multi_label, garbage
  ):
    pool = pools.make_pool(is_multi_label=is_multi_label, garbage=garbage)
    selection = select(key, pool, budget=BUDGET)
    pools.assert_distinct_candidates(selection.indices)
    scores = np.asarray(selection.scores)
    enough = [c for c in CAPS if (scores > 1 / (1 + c)).sum() > BUDGET]
    assert (scores[selection.indices] > 1 / (1 + enough[0])).all()

  def test_takes_all_that_turn_where_they_are_few(self, key):
    pool = pools.make_pool()
    # Large biases: few predictions are in doubt.
    bias = pool.head.bias * 18.0
    pool = pools.change(pool, head=pool.head._replace(bias=bias))
    selection = alfa_mix.select(key, pool, budget=BUDGET)
    turned = np.flatnonzero(np.asarray(selection.scores) > 0.5)
    assert 0 < len(turned) < BUDGET
    assert set(turned) <= set(np.asarray(selection.indices))
    pools.assert_distinct_candidates(selection.indices)

  def test_nothing_turns_without_labels(self, key):
    pool = pools.make_pool()
    pool = pools.change(pool, labels=jnp.full_like(pool.labels, -1))
    selection = alfa_mix.select(key, pool, budget=BUDGET)
    assert not np.asarray(selection.scores).any()
    pools.assert_distinct_candidates(selection.indices)

  def test_certain_predictions_keep_their_direction(self, key):
    pool = pools.make_pool()
    scores = np.asarray(alfa_mix.select(key, pool, budget=BUDGET).scores)
    # Softmax and residual are rounded to 1 and 0, the gaps grow with the rest.
    sharp = pools.change(pool, head=jax.tree.map(lambda x: 500 * x, pool.head))
    others = np.asarray(alfa_mix.select(key, sharp, budget=BUDGET).scores)
    rows = pools.CANDIDATES
    assert np.isfinite(others).all()
    assert ((others > 0) == (scores > 0))[rows].mean() > 0.9

  def test_holds_no_feature_per_class(self):
    pool = pools.wide_pool(rows=2000, dim=40, classes=60)
    floats = pools.temporary_floats(
      lambda key, pool: Selection(alfa_mix._changing_caps(pool), None), pool
    )
    assert floats < 10 * 2000 * (40 + 60)
