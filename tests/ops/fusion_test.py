"""Tests of decern_jax/ops/fusion.py."""

import jax.numpy as jnp
import numpy as np

from decern_jax.ops import fusion
from decern_jax.ops.saliency import upsampling_bins
from tests import oracle
from tests.table import each


class TestFusionRatio:
  def test_is_clipped_on_both_sides(self):
    probs = jnp.array([0.0, 1 / 64, 0.5, 63 / 64, 1.0])
    np.testing.assert_array_equal(
      fusion.fusion_ratio(probs), [1 / 64, 1 / 64, 0.5, 63 / 64, 63 / 64]
    )


class TestSplitBins:
  @each("dim", [7, 100, 333])
  def test_holds_every_coordinate_once(self, dim):
    rows = np.random.default_rng(0).normal(size=(3, dim)).astype(np.float32)
    split = np.asarray(fusion.split_bins(jnp.asarray(rows), 100))
    bins = upsampling_bins(dim, 100)
    for k in range(100):
      own = rows[:, bins == k]
      np.testing.assert_array_equal(split[k, :, : own.shape[1]], own)
      assert not split[k, :, own.shape[1] :].any()


class TestAnchorShifts:
  @each("dim", [7, 37, 100, 333])
  def test_gives_the_logits_of_fused_features(self, dim):
    problem = oracle.make_problem(dim=dim)
    anchors = problem.anchors.features
    mask = oracle.saliency_mask(problem)
    shifts = fusion.anchor_shifts(
      fusion.split_bins(jnp.asarray(anchors), 100),
      fusion.split_bins(jnp.asarray(problem.kernel.T), 100),
    )
    bins = upsampling_bins(dim, 100)
    x, ratio = np.float64(problem.features), 0.3
    for i, anchor in enumerate(anchors):
      expected = (x + mask * ratio * (anchor - x)) @ problem.kernel
      top = np.zeros((len(x), 100), bool)
      top[:, bins] = mask
      moved = top @ np.float64(shifts[i]).T - (mask * x) @ problem.kernel
      actual = x @ problem.kernel + ratio * moved
      np.testing.assert_allclose(actual, expected, atol=1e-5)
