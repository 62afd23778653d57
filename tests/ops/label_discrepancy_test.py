"""Tests of decern_jax/ops/label_discrepancy.py."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from decern_jax.ops.anchors import Anchors
from decern_jax.ops.fusion import fusion_ratio
from decern_jax.ops.head import LinearHead, logits
from decern_jax.ops.label_discrepancy import (
  label_anchors,
  label_discrepancy_confusion,
  label_top_bins,
)
from tests import oracle
from tests.strategies import label_oracle
from tests.table import each

POOL, DIM, CLASSES = 40, 137, 5
RNG = np.random.default_rng(0)
FEATURES = RNG.normal(size=(POOL, DIM)).astype(np.float32)
KERNEL = np.float32(0.2 * RNG.normal(size=(DIM, CLASSES)))
BIAS = np.float32(0.1 * RNG.normal(size=CLASSES))
HEAD = LinearHead(jnp.asarray(KERNEL), jnp.asarray(BIAS))
PROBS = np.float32(label_oracle.sigmoid(FEATURES @ KERNEL + BIAS))
LABELS = RNG.integers(0, 2, (POOL, CLASSES)).astype(np.int32)
LABELS[::3] = -1
VALID = LABELS[:, 0] < 0
ANCHORS = Anchors(
  *map(jnp.float32, label_oracle.label_anchors(FEATURES, PROBS, LABELS))
)


def score(
  features=FEATURES,
  probs=PROBS,
  anchors=ANCHORS,
  head=HEAD,
  *,
  valid=None,
  block_size=16,
):
  return label_discrepancy_confusion(
    jnp.asarray(features),
    jnp.asarray(probs),
    anchors,
    head,
    valid=jnp.ones(len(features), bool)
    if valid is None
    else jnp.asarray(valid),
    num_bins=100,
    num_top_bins=10,
    block_size=block_size,
  )


class TestLabelAnchors:
  def test_matches_naive_means(self):
    found = label_anchors(*map(jnp.asarray, (FEATURES, PROBS, LABELS)))
    expected = label_oracle.label_anchors(FEATURES, PROBS, LABELS)
    for mean, naive in zip(found, expected, strict=True):
      np.testing.assert_allclose(mean, naive, rtol=1e-5, atol=1e-6)

  def test_label_without_positive_takes_the_mean_of_all_labeled(self):
    labels = np.where(LABELS == 1, [[1, 1, 0, 1, 1]], LABELS).astype(np.int32)
    found = label_anchors(*map(jnp.asarray, (FEATURES, PROBS, labels)))
    labeled = labels[:, 0] >= 0
    np.testing.assert_allclose(
      found.features[2], FEATURES[labeled].mean(axis=0), atol=1e-6
    )
    np.testing.assert_allclose(
      found.probs[2], PROBS[labeled].mean(axis=0), rtol=1e-5
    )

  def test_nothing_labeled_gives_zeros(self):
    labels = jnp.full((POOL, CLASSES), -1)
    found = label_anchors(jnp.asarray(FEATURES), jnp.asarray(PROBS), labels)
    assert not any(np.asarray(mean).any() for mean in found)

  @each("num_devices", [2, 8])
  def test_is_independent_of_shard_count(self, num_devices):
    def anchors(features, probs, labels):
      return label_anchors(features, probs, labels, axis_name="pool")

    found = oracle.on_shards(anchors, num_devices, FEATURES, PROBS, LABELS)
    for mean, expected in zip(found, ANCHORS, strict=True):
      np.testing.assert_allclose(mean, expected, rtol=1e-5, atol=1e-6)


class TestLabelTopBins:
  def top(self, features, head=HEAD, num_bins=100) -> np.ndarray:
    outputs = logits(head, jnp.asarray(features))
    return np.asarray(
      label_top_bins(outputs, head, num_bins=num_bins, num_top_bins=10)
    )

  def test_matches_the_gradient_of_a_pass_backwards(self):
    def loss(x):
      outputs = logits(HEAD, x)
      truth = (outputs >= 0.0).astype(outputs.dtype)
      return optax.sigmoid_binary_cross_entropy(outputs, truth).sum()

    gradient = np.asarray(jax.vmap(jax.grad(loss))(jnp.asarray(FEATURES)))
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
    features = np.float32(40.0 * FEATURES)
    outputs = np.float64(features) @ KERNEL + BIAS
    size = np.abs(outputs)
    residual = -np.sign(outputs) * np.exp(size.min(1, keepdims=True) - size)
    pooled = [
      (residual @ np.float64(KERNEL).T)[
        :, k * DIM // 100 : -(-(k + 1) * DIM // 100)
      ].mean(axis=1)
      for k in range(100)
    ]
    largest = np.argsort(-np.array(pooled).T, axis=1)[:, :10]
    found = self.top(features)
    for row in np.flatnonzero(size.min(axis=1) > 10.0):
      assert set(np.flatnonzero(found[row])) == set(largest[row])
    assert (size.min(axis=1) > 10.0).sum() > 5

  def test_ignores_the_order_of_labels(self):
    order = RNG.permutation(CLASSES)
    head = LinearHead(HEAD.kernel[:, order], HEAD.bias[order])
    np.testing.assert_array_equal(self.top(FEATURES, head), self.top(FEATURES))


class TestLabelDiscrepancyConfusion:
  @each("block_size", [1, 7, 16, 64])
  def test_matches_naive_loop(self, block_size):
    expected = label_oracle.discrepancy_confusion(
      FEATURES, PROBS, ANCHORS, KERNEL, BIAS
    )
    found = score(block_size=block_size)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert np.ptp(expected) > 0.1

  @each("scale", [0.01, 10.0, 100.0])
  def test_matches_naive_loop_whatever_the_scale(self, scale):
    features = np.float32(scale * FEATURES)
    probs = np.float32(label_oracle.sigmoid(features @ KERNEL + BIAS))
    anchors = label_oracle.label_anchors(features, probs, LABELS)
    anchors = Anchors(*map(jnp.float32, anchors))
    expected = label_oracle.discrepancy_confusion(
      features, probs, anchors, KERNEL, BIAS
    )
    found = score(features, probs, anchors)
    np.testing.assert_allclose(found, expected, rtol=2e-5)

  def test_invalid_rows_score_nothing_and_change_nothing(self):
    garbage = np.where(VALID[:, None], FEATURES, np.float32(1e15))
    found = score(garbage, valid=jnp.asarray(VALID))
    expected = np.where(VALID, score(), 0.0)
    np.testing.assert_allclose(found, expected, rtol=1e-6)

  @each("num_devices", [2, 8])
  def test_is_independent_of_shard_count(self, num_devices):
    def scores(features, probs, valid):
      return label_discrepancy_confusion(
        features,
        probs,
        ANCHORS,
        HEAD,
        valid=valid,
        num_bins=100,
        num_top_bins=10,
        block_size=4,
        axis_name="pool",
      )

    found = oracle.on_shards(
      scores,
      num_devices,
      FEATURES,
      PROBS,
      VALID,
      out=jax.sharding.PartitionSpec("pool"),
    )
    np.testing.assert_allclose(found, score(valid=VALID), rtol=1e-6)

  def test_permuting_labels_changes_no_score(self):
    order = np.random.default_rng(1).permutation(CLASSES)
    found = score(
      FEATURES,
      PROBS[:, order],
      Anchors(ANCHORS.features[order], ANCHORS.probs[order][:, order]),
      LinearHead(HEAD.kernel[:, order], HEAD.bias[order]),
    )
    np.testing.assert_allclose(found, score(), rtol=1e-5)

  def test_an_anchor_like_the_example_leaves_its_confusion(self):
    # One example that is all anchors: d = 0, so discrepancies are 1, and the
    # fused feature is the feature.
    x, p = FEATURES[:1], PROBS[:1]
    anchors = Anchors(
      jnp.tile(jnp.asarray(x), (CLASSES, 1)), jnp.tile(p, (CLASSES, 1))
    )
    found = score(x, p, anchors)
    p = np.float64(p)
    entropy = -(p * np.log(p) + (1 - p) * np.log(1 - p)).sum()
    np.testing.assert_allclose(found, [2.0 + 2.0 * entropy], rtol=1e-4)

  def test_ratio_is_that_of_the_label_of_the_anchor(self):
    assert fusion_ratio(jnp.float32([[0.0, 1.0]])).tolist() == [
      [1 / 64, 63 / 64]
    ]

  def test_holds_no_array_of_pool_labels_and_coordinates(self):
    pool, dim, classes = 512, 64, 12

    def scores(features, probs, anchors, head):
      return score(features, probs, anchors, head, block_size=16)

    shapes = (
      jnp.zeros((pool, dim)),
      jnp.zeros((pool, classes)),
      Anchors(jnp.zeros((classes, dim)), jnp.zeros((classes, classes))),
      LinearHead(jnp.zeros((dim, classes)), jnp.zeros(classes)),
    )
    compiled = jax.jit(scores).lower(*shapes).compile()
    floats = compiled.memory_analysis().temp_size_in_bytes / 4
    assert floats < pool * classes * dim / 4
