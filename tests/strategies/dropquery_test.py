"""Tests of decern_jax/strategies/dropquery.py."""

import functools

import jax
import numpy as np

from decern_jax.strategies import dropquery
from tests.strategies import pools
from tests.table import each

FORMS = [(dropquery.select, False), (dropquery.select_multi_label, True)]


@jax.jit
@functools.partial(jax.vmap, in_axes=(None, 0))
def draw_kept(key, row):
  """Which coordinates of a row each pass keeps."""
  row_key = jax.random.fold_in(key, row)
  return jax.random.bernoulli(row_key, 0.25, (3, pools.DIM))


def naive_fractions(key, pool, *, is_multi_label: bool) -> np.ndarray:
  """How often the prediction changes, by dropping coordinates one by one."""
  features = np.asarray(pool.features, np.float64)
  kernel = np.asarray(pool.head.kernel, np.float64)
  bias = np.asarray(pool.head.bias, np.float64)
  dropout_key, _ = jax.random.split(key)
  fractions = np.zeros(len(features))

  def predict(x):
    logits = x @ kernel + bias
    return tuple(logits >= 0) if is_multi_label else logits.argmax()

  keeps = np.asarray(draw_kept(dropout_key, np.arange(len(features))))
  for row in np.flatnonzero(pool.candidates):
    for keep in keeps[row]:
      dropped = np.where(keep, features[row] / 0.25, 0.0)
      fractions[row] += (predict(dropped) != predict(features[row])) / 3
  return fractions


class TestSelect:
  @each("select, is_multi_label", FORMS)
  def test_scores_match_naive_dropout(self, key, select, is_multi_label):
    pool = pools.make_pool(is_multi_label=is_multi_label)
    found = select(key, pool, budget=pools.BUDGET)
    scores = np.asarray(found.scores)
    expected = naive_fractions(key, pool, is_multi_label=is_multi_label)
    np.testing.assert_allclose(scores, expected, rtol=1e-6)
    assert len(np.unique(expected)) == 2 + 2
    assert (scores[found.indices] > 0.0).all()

  def test_fills_up_where_nothing_changes(self, key):
    pool = pools.make_pool()
    # Without features the bias decides.
    pool = pools.change(pool, features=pool.features * 0.0)
    selection = dropquery.select(key, pool, budget=pools.BUDGET)
    assert not np.asarray(selection.scores).any()
    pools.assert_distinct_candidates(selection.indices)


class TestShortlist:
  counts = np.random.default_rng(0).integers(0, 4, pools.ROWS, np.int32)

  @each("budget, least", [(3, 2), (pools.BUDGET, 1)])
  def test_has_what_changes_most_often_where_that_is_enough(
    self, budget, least
  ):
    changed = pools.CANDIDATES & (self.counts >= 2)
    assert (changed.sum() >= 25 * budget) == (least == 2)
    shortlist, scores = dropquery._shortlist(
      self.counts, pools.CANDIDATES, budget
    )
    np.testing.assert_array_equal(
      shortlist, pools.CANDIDATES & (self.counts >= least)
    )
    expected = np.where(pools.CANDIDATES, self.counts / 3, 0.0)
    np.testing.assert_allclose(scores, expected, rtol=1e-6)
