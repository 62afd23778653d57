"""Tests of decern_jax/strategies/gradient_magnitude.py."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from decern_jax.ops.head import LinearHead, logits
from decern_jax.strategies import gradient_magnitude
from tests.strategies import label_pools, pools, random_pools
from tests.table import each

HEAD = LinearHead(*map(jnp.asarray, random_pools.PROBLEM.head))


def backward_norms(loss_of, features, labels) -> np.ndarray:
  """The norms of the gradients that a pass backwards gives."""

  def norm(feature, label):
    def loss(kernel):
      return loss_of(logits(HEAD._replace(kernel=kernel), feature), label)

    return jnp.linalg.norm(jax.grad(loss)(HEAD.kernel))

  return np.asarray(jax.jit(jax.vmap(norm))(features, labels))


def binary_loss(outputs, labels):
  return optax.sigmoid_binary_cross_entropy(outputs, labels).sum()


class TestSelect:
  @each("num_devices", [1, 8])
  def test_scores_are_norms_of_gradients(self, key, num_devices):
    pool = random_pools.make_pool(
      num_devices=num_devices, garbage=random_pools.GARBAGE
    )
    found = gradient_magnitude.select(key, pool, budget=30)
    expected = backward_norms(
      optax.softmax_cross_entropy_with_integer_labels,
      random_pools.PROBLEM.features,
      jnp.asarray(random_pools.PROBLEM.probs.argmax(axis=1)),
    )
    expected = np.where(random_pools.CANDIDATES, expected, 0.0)
    scores = np.asarray(found.scores)[: random_pools.ROWS]
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(
      found.positions, random_pools.highest(scores, 30)
    )

  def test_takes_distinct_candidates_of_a_small_pool(self, key):
    pool = pools.make_pool(num_devices=8)
    found = gradient_magnitude.select(key, pool, budget=pools.NUM_CANDIDATES)
    assert set(np.asarray(found.positions)) == set(
      np.flatnonzero(~pools.LABELED)
    )


class TestSelectMultiLabel:
  @each("num_devices", [1, 2, 4, 8])
  def test_scores_are_norms_of_gradients(self, key, num_devices):
    pool = label_pools.make_pool(
      num_devices=num_devices, garbage=random_pools.GARBAGE
    )
    found = gradient_magnitude.select_multi_label(key, pool, budget=30)
    expected = backward_norms(
      binary_loss,
      label_pools.FEATURES,
      jnp.asarray(label_pools.PROBS >= 0.5, jnp.float32),
    )
    expected = np.where(label_pools.CANDIDATES, expected, 0.0)
    scores = np.asarray(found.scores)[: label_pools.ROWS]
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(
      found.positions, label_pools.highest(expected, 30)
    )
    random_pools.assert_distinct_candidates(found.positions)

  def test_matches_the_formula(self, key):
    found = gradient_magnitude.select_multi_label(
      key, label_pools.make_pool(), budget=1
    )
    h, p = np.float64(label_pools.FEATURES), np.float64(label_pools.PROBS)
    least = (np.minimum(p, 1.0 - p) ** 2).sum(axis=1)
    expected = np.linalg.norm(h, axis=1) * np.sqrt(least)
    expected = np.where(label_pools.CANDIDATES, expected, 0.0)
    np.testing.assert_allclose(found.scores, expected, rtol=1e-5)

  def test_is_the_least_norm_of_any_labels(self, key):
    found = gradient_magnitude.select_multi_label(
      key, label_pools.make_pool(), budget=1
    )
    norms = [
      backward_norms(
        binary_loss,
        label_pools.FEATURES,
        jnp.tile(jnp.float32(labels), (label_pools.ROWS, 1)),
      )
      for labels in itertools.product([0, 1], repeat=label_pools.CLASSES)
    ]
    least = np.where(label_pools.CANDIDATES, np.min(norms, axis=0), 0.0)
    np.testing.assert_allclose(found.scores, least, rtol=1e-4, atol=1e-6)

  @each("change", ["permute", "flip"])
  def test_ignores_the_order_and_the_sense_of_labels(self, key, change):
    pool = label_pools.make_pool()
    expected = gradient_magnitude.select_multi_label(key, pool, budget=9)
    changes = {"permute": pool.probs[:, ::-1], "flip": 1.0 - pool.probs}
    changed = pool._replace(probs=changes[change])
    found = gradient_magnitude.select_multi_label(key, changed, budget=9)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-4)

  def test_a_sure_prediction_scores_nothing(self, key):
    pool = label_pools.make_pool()
    pool = pool._replace(probs=jnp.round(pool.probs))
    found = gradient_magnitude.select_multi_label(key, pool, budget=5)
    assert not np.asarray(found.scores).any()
