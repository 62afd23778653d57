"""Tests of decern_jax/strategies/decern_multilabel.py."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from decern_jax.distributed.sharding import make_mesh, place_pool
from decern_jax.ops.anchors import Anchors
from decern_jax.ops.head import LinearHead, logits
from decern_jax.strategies import decern_multilabel
from decern_jax.strategies.decern import select_by_score
from decern_jax.strategies.decern_multilabel import (
  label_anchors,
  label_discrepancy_confusion,
  select_multi_label,
)
from tests import oracle
from tests.strategies import label_oracle, pools
from tests.table import each

# No multiple of a number of shards.
POOL, DIM, CLASSES = 43, 137, 5
RNG = np.random.default_rng(0)
FEATURES = RNG.normal(size=(POOL, DIM)).astype(np.float32)
KERNEL = oracle.float32(0.2 * RNG.normal(size=(DIM, CLASSES)))
BIAS = oracle.float32(0.1 * RNG.normal(size=CLASSES))
HEAD = LinearHead(KERNEL, BIAS)


def predict(features) -> np.ndarray:
  return oracle.float32(
    label_oracle.sigmoid(oracle.float64(features) @ KERNEL + BIAS)
  )


PROBS: Any = predict(FEATURES)
LABELED = np.arange(POOL) % 3 == 0
LABELS = RNG.integers(0, 2, (POOL, CLASSES))
LABELS = np.where(LABELED[:, None], LABELS, -1).astype(np.int32)
# Some rows are neither labeled nor candidates.
CANDIDATES = ~LABELED & (np.arange(POOL) % 7 != 1)
ALL = np.ones(POOL, bool)


def naive_anchors(features=FEATURES, probs=PROBS, labels=LABELS) -> Anchors:
  found = label_oracle.label_anchors(features, probs, labels)
  return Anchors(*map(oracle.float32, found))


ANCHORS = naive_anchors()


def place(num_devices: int, *arrays) -> list[jax.Array]:
  return [place_pool(array, make_mesh(num_devices)) for array in arrays]


def score(
  features: Any = FEATURES,
  probs: Any = PROBS,
  anchors: Anchors = ANCHORS,
  head: LinearHead = HEAD,
  *,
  valid: Any = ALL,
  block_size=16,
) -> jax.Array:
  return label_discrepancy_confusion(
    features,
    probs,
    anchors,
    head,
    valid,
    num_bins=100,
    num_top_bins=10,
    block_size=block_size,
  )


def naive_score(features=FEATURES, probs=PROBS, anchors=ANCHORS) -> np.ndarray:
  return label_oracle.discrepancy_confusion(
    features, probs, anchors, KERNEL, BIAS
  )


class TestLabelAnchors:
  @each("num_devices", [1, 8])
  def test_matches_naive_means(self, num_devices):
    labels = np.pad(LABELS, ((0, -POOL % num_devices), (0, 0)))
    labels[POOL:] = -1
    found = label_anchors(*place(num_devices, FEATURES, PROBS, labels))
    for mean, naive in zip(found, ANCHORS, strict=True):
      np.testing.assert_allclose(mean, naive, rtol=1e-5, atol=1e-6)

  def test_label_without_positive_takes_the_mean_of_all_labeled(self):
    labels = np.where(LABELS == 1, [[1, 1, 0, 1, 1]], LABELS).astype(np.int32)
    found = label_anchors(FEATURES, PROBS, labels)
    np.testing.assert_allclose(
      found.features[2], FEATURES[LABELED].mean(axis=0), atol=1e-6
    )
    np.testing.assert_allclose(
      found.probs[2], PROBS[LABELED].mean(axis=0), rtol=1e-5
    )

  def test_nothing_labeled_gives_zeros(self):
    found = label_anchors(FEATURES, PROBS, np.full_like(LABELS, -1))
    assert not any(np.asarray(mean).any() for mean in found)


jitted_top_bins = jax.jit(
  decern_multilabel.label_top_bins, static_argnames=("num_bins", "num_top_bins")
)


class TestLabelTopBins:
  def top(self, features, *, num_bins=100) -> np.ndarray:
    outputs = oracle.float32(features @ KERNEL + BIAS)
    return np.asarray(
      jitted_top_bins(outputs, HEAD, num_bins=num_bins, num_top_bins=10)
    )

  def test_matches_the_gradient_of_a_pass_backwards(self):
    def loss(x):
      outputs = logits(HEAD, x)
      truth = (outputs >= 0.0).astype(outputs.dtype)
      return optax.sigmoid_binary_cross_entropy(outputs, truth).sum()

    gradient = jax.jit(jax.vmap(jax.grad(loss)))(FEATURES)
    naive = label_oracle.gradients(FEATURES, KERNEL, BIAS)
    np.testing.assert_allclose(gradient, naive, rtol=1e-4, atol=1e-6)
    # As many bins as coordinates: the mask is that of the coordinates.
    found = self.top(FEATURES, num_bins=DIM)
    largest = np.argsort(-naive, axis=1)[:, :10]
    expected = np.zeros((POOL, DIM), bool)
    np.put_along_axis(expected, largest, True, axis=1)
    np.testing.assert_array_equal(found, expected)

  def test_saturated_sigmoids_keep_their_direction(self):
    # All residuals are below the smallest float32, but their order is there.
    features = oracle.float32(40.0 * FEATURES)
    outputs = oracle.float64(features) @ KERNEL + BIAS
    size = np.abs(outputs)
    residual = -np.sign(outputs) * np.exp(size.min(1, keepdims=True) - size)
    pooled = [
      (residual @ oracle.float64(KERNEL).T)[
        :, k * DIM // 100 : -(-(k + 1) * DIM // 100)
      ].mean(axis=1)
      for k in range(100)
    ]
    largest = np.argsort(-np.array(pooled).T, axis=1)[:, :10]
    found = self.top(features)
    for row in np.flatnonzero(size.min(axis=1) > 10.0):
      assert set(np.flatnonzero(found[row])) == set(largest[row])
    assert (size.min(axis=1) > 10.0).sum() > 5


class TestLabelDiscrepancyConfusion:
  @each("block_size", [16, 64])
  def test_matches_naive_loop(self, block_size):
    expected = naive_score()
    found = score(block_size=block_size)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert np.ptp(expected) > 0.1

  @each("scale", [0.01, 10.0, 100.0])
  def test_matches_naive_loop_whatever_the_scale(self, scale):
    features = oracle.float32(scale * FEATURES)
    probs = predict(features)
    anchors = naive_anchors(features, probs)
    np.testing.assert_allclose(
      score(features, probs, anchors),
      naive_score(features, probs, anchors),
      rtol=2e-5,
    )

  @each("num_devices", [1, 8])
  def test_invalid_rows_score_nothing_and_change_nothing(self, num_devices):
    garbage = np.where(CANDIDATES[:, None], FEATURES, oracle.float32(1e15))
    features, probs, valid = place(num_devices, garbage, PROBS, CANDIDATES)
    found = score(features, probs, valid=valid)
    expected = np.where(CANDIDATES, naive_score(), 0.0)
    np.testing.assert_allclose(found[:POOL], expected, rtol=1e-5)
    np.testing.assert_array_equal(found[POOL:], 0.0)
    assert found.sharding.is_equivalent_to(valid.sharding, 1)

  def test_permuting_labels_changes_no_score(self):
    order = np.random.default_rng(1).permutation(CLASSES)
    found = score(
      FEATURES,
      PROBS[:, order],
      Anchors(ANCHORS.features[order], ANCHORS.probs[order][:, order]),
      LinearHead(KERNEL[:, order], BIAS[order]),
    )
    np.testing.assert_allclose(found, score(), rtol=1e-5)

  def test_an_anchor_like_the_example_leaves_its_confusion(self):
    # All anchors are the first example: there d = 0, so discrepancies are 1,
    # and the fused feature is the feature.
    anchors = Anchors(
      jnp.tile(FEATURES[:1], (CLASSES, 1)), jnp.tile(PROBS[:1], (CLASSES, 1))
    )
    found = score(anchors=anchors)
    p = oracle.float64(PROBS[:1])
    entropy = -(p * np.log(p) + (1 - p) * np.log(1 - p)).sum()
    np.testing.assert_allclose(found[0], 2.0 + 2.0 * entropy, rtol=1e-4)

  def test_holds_no_array_of_pool_labels_and_coordinates(self):
    pool, dim, classes = 512, 64, 12
    shapes = (
      jnp.zeros((pool, dim)),
      jnp.zeros((pool, classes)),
      Anchors(jnp.zeros((classes, dim)), jnp.zeros((classes, classes))),
      LinearHead(jnp.zeros((dim, classes)), jnp.zeros(classes)),
    )
    lowered = label_discrepancy_confusion.lower(
      *shapes,
      jnp.ones(pool, bool),
      num_bins=100,
      num_top_bins=10,
      block_size=16,
    )
    memory = lowered.compile().memory_analysis()
    assert memory is not None
    assert memory.temp_size_in_bytes / 4 < pool * classes * dim / 4


class TestSelectMultiLabel:
  """On the pool of all strategies, whose programs are those of other tests."""

  def select(self, **changes):
    pool = pools.make_pool(num_devices=8, is_multi_label=True, **changes)
    options = {"uncertainty_gamma": 0.5, "diversity_gamma": 0.8}
    key = jax.random.key(0)
    selection = select_multi_label(key, pool, budget=pools.BUDGET, **options)
    pools.assert_distinct_candidates(selection.indices, budget=pools.BUDGET)
    return np.asarray(selection.indices), np.asarray(selection.scores)

  def test_selects_by_the_naive_scores_whatever_other_rows_hold(self):
    found, scores = self.select(garbage=pools.GARBAGE)
    features, probs = pools.FEATURES, pools.LABEL_PROBS
    anchors = naive_anchors(features, probs, pools.MULTI_LABELS)
    expected = np.where(
      pools.CANDIDATES,
      label_oracle.discrepancy_confusion(
        features, probs, anchors, pools.KERNEL, pools.BIAS
      ),
      0.0,
    )
    np.testing.assert_allclose(scores[: pools.ROWS], expected, rtol=2e-5)
    np.testing.assert_array_equal(scores[pools.ROWS :], 0.0)
    indices = select_by_score(
      jax.random.key(0),
      features,
      oracle.float32(expected),
      anchors,
      budget=pools.BUDGET,
      valid=pools.CANDIDATES,
    )
    np.testing.assert_array_equal(found, indices)

  def test_equal_examples_give_distinct_candidates(self):
    self.select(
      features=np.ones_like(pools.FEATURES),
      probs=np.full_like(pools.LABEL_PROBS, 0.5),
    )
