"""Tests of decern_jax/strategies/bald.py."""

import jax
import numpy as np
import scipy

from decern_jax.strategies import bald
from tests import oracle
from tests.strategies import pools
from tests.table import each

OPTIONS = {"num_dropout_passes": 5, "dropout_rate": 0.3}


def naive_passes(key, *, num_dropout_passes, dropout_rate) -> np.ndarray:
  """The logits of every pass, by dropping features: [passes, pool, classes]."""
  features, kernel, bias = (
    np.asarray(array, np.float64)
    for array in (
      pools.FEATURES,
      pools.KERNEL,
      pools.BIAS,
    )
  )
  logits = []
  for index in range(num_dropout_passes):
    keeps = jax.random.bernoulli(
      jax.random.fold_in(key, index), 1.0 - dropout_rate, (len(kernel), 1)
    )
    kept = np.where(np.asarray(keeps)[:, 0], features, 0.0)
    logits.append(kept / (1.0 - dropout_rate) @ kernel + bias)
  return np.stack(logits)


def naive_scores(key, **options) -> np.ndarray:
  probs = oracle.softmax(naive_passes(key, **options))
  each = scipy.stats.entropy(probs, axis=2).mean(axis=0)
  return scipy.stats.entropy(probs.mean(axis=0), axis=1) - each


def naive_label_scores(key, **options) -> np.ndarray:
  probs = 1.0 / (1.0 + np.exp(-naive_passes(key, **options)))
  pairs = np.stack([probs, 1.0 - probs])
  mean = scipy.stats.entropy(pairs.mean(axis=1), axis=0)
  return (mean - scipy.stats.entropy(pairs, axis=0).mean(axis=0)).sum(axis=1)


FORMS = [
  (bald.select, naive_scores, False),
  (bald.select_multi_label, naive_label_scores, True),
]


class TestSelect:
  @each("select, naive, is_multi_label", FORMS)
  def test_matches_naive_passes(self, key, select, naive, is_multi_label):
    pool = pools.make_pool(is_multi_label=is_multi_label)
    selection = select(key, pool, budget=20, **OPTIONS)
    expected = naive(key, **OPTIONS)
    rows = ~pools.OUTSIDE
    np.testing.assert_allclose(
      np.asarray(selection.scores)[rows], expected[rows], rtol=1e-3, atol=1e-5
    )
    np.testing.assert_array_equal(
      selection.indices, pools.highest(expected, 20)
    )

  def test_passes_that_agree_score_nothing(self, key):
    pool = pools.make_pool()
    pool = pools.change(
      pool, head=pool.head._replace(kernel=np.zeros_like(pool.head.kernel))
    )
    scores = np.asarray(bald.select(key, pool, budget=5, **OPTIONS).scores)
    np.testing.assert_allclose(scores, 0.0, atol=1e-6)
    assert (scores >= 0.0).all()

  def test_a_rate_near_none_changes_no_prediction(self, key):
    options = {**OPTIONS, "dropout_rate": 1e-7}
    pool = pools.make_pool()
    scores = np.asarray(bald.select(key, pool, budget=5, **options).scores)
    np.testing.assert_allclose(scores, 0.0, atol=1e-6)

  def test_holds_no_pass_but_the_current(self):
    pool = pools.wide_pool(rows=2000, dim=8, classes=20)
    floats = [
      pools.temporary_floats(
        bald.select, pool, budget=5, dropout_rate=0.5, num_dropout_passes=passes
      )
      for passes in (2, 50)
    ]
    assert floats[1] < 1.1 * floats[0] < 10 * pool.probs.size
