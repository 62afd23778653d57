"""Tests of decern_jax/strategies/badge.py."""

import jax
import jax.numpy as jnp
import numpy as np

from decern_jax.ops.seeding import sample_rows
from decern_jax.strategies import Pool, badge
from tests.strategies import pools
from tests.strategies.pools import BUDGET, CANDIDATES
from tests.table import each


def gradients(features, probs, *, is_multi_label=False) -> np.ndarray:
  """The gradients by the head's kernel: [pool, classes · dim]."""
  features = np.array(features, np.float64)
  residuals = np.array(probs, np.float64)
  for row, p in enumerate(np.asarray(probs, np.float64)):
    if is_multi_label:
      residuals[row] -= p >= 0.5
    else:
      residuals[row, p.argmax()] -= 1.0
  outer = residuals[:, :, None] * features[:, None]
  return outer.reshape(len(features), -1)


def naive(key, embedded, candidates, budget) -> list[int]:
  """K-means++ on whole gradients, with the same draws."""
  lengths = np.linalg.norm(embedded, axis=1)
  taken = [int(np.argmax(np.where(candidates, lengths, -1.0)))]
  for index in range(budget - 1):
    mass = [
      min(((embedded[i] - embedded[j]) ** 2).sum() for j in taken)
      if candidates[i]
      else 0.0
      for i in range(len(embedded))
    ]
    drawn = sample_rows(
      jax.random.fold_in(key, index), jnp.asarray(mass, jnp.float32), 1
    )
    taken.append(int(drawn[0]))
  return taken


def make_pool(features, probs, candidates) -> Pool:
  return pools.make_pool(
    labeled=~candidates,
    candidates=candidates,
    features=np.asarray(features, np.float32),
    probs=np.asarray(probs, np.float32),
  )


class TestSelect:
  @each("is_multi_label", [False, True])
  def test_matches_kmeans_plus_plus_on_whole_gradients(
    self, key, is_multi_label
  ):
    pool = pools.make_pool(is_multi_label=is_multi_label)
    form = badge.select_multi_label if is_multi_label else badge.select
    found = form(key, pool, budget=BUDGET)
    embedded = gradients(
      pool.features, pool.probs, is_multi_label=is_multi_label
    )
    expected = naive(key, embedded, CANDIDATES, BUDGET)
    np.testing.assert_array_equal(found.indices, expected)
    lengths = np.linalg.norm(embedded, axis=1)
    np.testing.assert_allclose(
      np.asarray(found.scores),
      np.where(CANDIDATES, lengths, 0.0),
      rtol=1e-4,
    )

  def test_the_origin_is_no_center(self):
    # One example far out, the others in one place halfway: had the origin been
    # a center the others would be as near to it as to the first.
    features = np.array([[8.0], [4.0], [4.0], [4.0], [0.0]], np.float32)
    probs = np.tile([0.6, 0.4], (5, 1))
    pool = make_pool(features, probs, np.ones(5, bool))
    drawn = []
    for seed in range(200):
      found = badge.select(jax.random.key(seed), pool, budget=2).indices
      assert found[0] == 0
      drawn.append(int(found[1]))
    # Squared distances to the first: 16, 16, 16 and 64, not 0 at the origin.
    assert abs(np.mean(np.array(drawn) == 4) - 64 / 112) < 0.1

  def test_equal_gradients_are_taken_once_each(self, key):
    candidates = np.arange(20) > 3
    features = np.repeat(np.eye(5, dtype=np.float32), 4, axis=0)
    pool = make_pool(features, np.tile([0.7, 0.3], (20, 1)), candidates)
    found = np.asarray(badge.select(key, pool, budget=15).indices)
    pools.assert_distinct_candidates(found, candidates=candidates)
    assert sorted(found[:4] // 4) == [1, 2, 3, 4]

  def test_sure_predictions_are_taken_at_random(self):
    candidates = np.arange(30) > 3
    pool = make_pool(np.ones((30, 3)), np.eye(2)[[0] * 30], candidates)
    first, second = (
      np.asarray(badge.select(jax.random.key(s), pool, budget=9).indices)
      for s in range(2)
    )
    pools.assert_distinct_candidates(first, candidates=candidates)
    assert set(first) != set(second)

  def test_holds_no_gradients(self):
    pool = pools.wide_pool(rows=2048, dim=64, classes=32)
    floats = pools.temporary_floats(badge.select, pool, budget=9)
    assert floats < 4 * (pool.features.size + pool.probs.size)
    assert floats < 2048 * 64 * 32 / 8
