"""Tests of decern_jax/strategies/scoring.py."""

import jax
import numpy as np
import pytest

from decern_jax import (
  Anchors,
  LinearHead,
  class_anchors,
  discrepancy_confusion,
  saliency_mask,
  uncertainty_threshold,
)
from decern_jax.distributed.sharding import make_mesh, place_pool
from tests import oracle
from tests.table import each

# No multiple of a number of shards.
POOL = 37
PROBLEM = oracle.make_problem(pool=POOL)


def place(num_devices: int, *arrays) -> list[jax.Array]:
  """Splits arrays over devices, with the mask of the rows that exist."""
  mesh = make_mesh(num_devices)
  valid = np.ones(len(arrays[0]), bool)
  return [place_pool(np.asarray(array), mesh) for array in (*arrays, valid)]


class TestClassAnchors:
  def anchors(self, *, labels=PROBLEM.labels, num_classes=5) -> Anchors:
    return class_anchors(
      PROBLEM.labeled_features,
      PROBLEM.labeled_probs,
      labels,
      num_classes=num_classes,
    )

  def test_matches_naive_loop(self):
    for actual, expected in zip(self.anchors(), PROBLEM.anchors, strict=True):
      assert actual.dtype == np.float32
      np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)

  @each("num_devices", [1, 2, 4, 8])
  def test_is_independent_of_shard_count(self, num_devices):
    features, probs, labels, valid = place(
      num_devices,
      PROBLEM.labeled_features,
      PROBLEM.labeled_probs,
      PROBLEM.labels,
    )
    labels = np.where(valid, labels, -1)
    found = class_anchors(features, probs, labels, num_classes=5)
    for actual, expected in zip(found, PROBLEM.anchors, strict=True):
      np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)

  @pytest.mark.usefixtures("unannotated")
  @each("dtype", [np.uint8, np.int8, np.int64])
  def test_accepts_any_integer_type_of_labels(self, dtype):
    found = self.anchors(labels=PROBLEM.labels.astype(dtype))
    np.testing.assert_array_equal(found.features, self.anchors().features)

  @pytest.mark.usefixtures("unannotated")
  @each("dtype", [np.uint8, np.int8])
  def test_classes_beyond_the_range_of_the_labels_type_stay_empty(self, dtype):
    rows = np.eye(4, dtype=np.float32)
    probs = np.full((4, 300), 1 / 300, np.float32)
    found = class_anchors(
      rows, probs, np.arange(4, dtype=dtype), num_classes=300
    )
    np.testing.assert_array_equal(found.features[:4], rows)
    np.testing.assert_allclose(found.features[4:], 0.25)

  @pytest.mark.usefixtures("unannotated")
  def test_rejects_what_does_not_fit(self):
    with pytest.raises(ValueError, match=r"`labels` .* \[12\], got \(3,\)"):
      self.anchors(labels=np.zeros(3, int))
    with pytest.raises(ValueError, match=r"`probs` .* 4\], got \(12, 5\)"):
      self.anchors(num_classes=4)
    with pytest.raises(ValueError, match="1 <= `num_classes`, got 0"):
      self.anchors(num_classes=0)
    with pytest.raises(ValueError, match=r"`num_classes`, got 5\.0"):
      self.anchors(num_classes=5.0)


class TestSaliencyMask:
  pool = PROBLEM.features, PROBLEM.probs, PROBLEM.head

  def test_matches_naive_loop(self):
    mask = saliency_mask(*self.pool)
    assert mask.dtype == bool
    np.testing.assert_array_equal(mask, oracle.saliency_mask(PROBLEM))

  @each("num_devices", [2, 8])
  def test_is_independent_of_shard_count(self, num_devices):
    features, probs, _ = place(num_devices, *self.pool[:2])
    mask = saliency_mask(features, probs, PROBLEM.head)
    np.testing.assert_array_equal(mask[:POOL], saliency_mask(*self.pool))

  @pytest.mark.usefixtures("unannotated")
  def test_accepts_any_integer_type_of_options(self):
    options = {"num_bins": np.int64(20), "num_top_bins": np.uint8(3)}
    mask = saliency_mask(*self.pool, **options)
    expected = saliency_mask(*self.pool, num_bins=20, num_top_bins=3)
    np.testing.assert_array_equal(mask, expected)

  @pytest.mark.usefixtures("unannotated")
  def test_rejects_what_does_not_fit(self):
    with pytest.raises(ValueError, match="`num_top_bins` <= 4, got 5"):
      saliency_mask(*self.pool, num_bins=4, num_top_bins=5)
    with pytest.raises(ValueError, match="1 <= `num_top_bins` <= 100, got 0"):
      saliency_mask(*self.pool, num_top_bins=0)
    with pytest.raises(ValueError, match="1 <= `num_bins`, got 0"):
      saliency_mask(*self.pool, num_bins=0)
    with pytest.raises(ValueError, match=r"`features` .* got \(37,\)"):
      saliency_mask(PROBLEM.features[:, 0], *self.pool[1:])


class TestDiscrepancyConfusion:
  def test_matches_naive_loop(self):
    scores = discrepancy_confusion(*PROBLEM.pool)
    assert scores.dtype == np.float32
    expected = oracle.discrepancy_confusion(PROBLEM)
    np.testing.assert_allclose(scores, expected, rtol=1e-5)

  @each("num_devices", [1, 2, 4, 8])
  def test_is_independent_of_shard_count(self, num_devices):
    features, probs, valid = place(num_devices, *PROBLEM.pool[:2])
    scores = discrepancy_confusion(
      features, probs, *PROBLEM.pool[2:], valid=valid
    )
    assert scores.sharding.is_equivalent_to(features.sharding, 1)
    np.testing.assert_array_equal(scores[POOL:], 0.0)
    np.testing.assert_allclose(
      scores[:POOL], discrepancy_confusion(*PROBLEM.pool), rtol=2e-6
    )

  def test_shards_without_a_valid_row_score_zero(self):
    features, probs, _ = place(8, *PROBLEM.pool[:2])
    valid = np.arange(len(features)) < 3
    scores = discrepancy_confusion(
      features, probs, *PROBLEM.pool[2:], valid=valid
    )
    np.testing.assert_array_equal(scores[3:], 0.0)
    np.testing.assert_allclose(
      scores[:3], discrepancy_confusion(*PROBLEM.pool)[:3], rtol=2e-6
    )

  @each("block_size", [1, 10, 10**6])
  def test_is_independent_of_block_size(self, block_size):
    np.testing.assert_allclose(
      discrepancy_confusion(*PROBLEM.pool, block_size=block_size),
      discrepancy_confusion(*PROBLEM.pool),
      rtol=2e-6,
    )

  @pytest.mark.usefixtures("unannotated")
  @each("dtype", [np.float64, np.float16, np.int32])
  def test_accepts_other_types_of_numbers(self, dtype):
    cast = PROBLEM._replace(features=PROBLEM.features.astype(dtype))
    same = PROBLEM._replace(features=cast.features.astype(np.float32))
    np.testing.assert_array_equal(
      discrepancy_confusion(*cast.pool), discrepancy_confusion(*same.pool)
    )

  def test_works_inside_of_a_users_jit(self):
    features, probs, _ = place(4, *PROBLEM.pool[:2])
    scores = jax.jit(discrepancy_confusion)(features, probs, *PROBLEM.pool[2:])
    np.testing.assert_allclose(
      scores[:POOL], discrepancy_confusion(*PROBLEM.pool), rtol=2e-6
    )

  def test_never_holds_an_array_of_pool_by_classes_by_classes(self):
    pool, classes, dim = 20_000, 50, 64
    shapes = (
      (pool, dim),
      (pool, classes),
      Anchors((classes, dim), (classes, classes)),
      LinearHead((dim, classes), (classes,)),
    )
    arguments = jax.tree.map(
      lambda shape: jax.ShapeDtypeStruct(shape, np.float32),
      shapes,
      is_leaf=lambda node: type(node) is tuple and isinstance(node[0], int),
    )
    compiled = jax.jit(discrepancy_confusion).lower(*arguments).compile()
    held = compiled.memory_analysis().temp_size_in_bytes
    assert held < 0.2 * pool * classes**2 * 4

  @pytest.mark.usefixtures("unannotated")
  def test_rejects_what_does_not_fit(self):
    features, probs, anchors, head = PROBLEM.pool
    fewer = anchors._replace(features=anchors.features[:4])
    narrow = head._replace(kernel=head.kernel[:36])
    with pytest.raises(ValueError, match=r"`valid` .* \[37\], got \(36,\)"):
      discrepancy_confusion(*PROBLEM.pool, valid=np.ones(36, bool))
    with pytest.raises(
      ValueError, match=r"`anchors.features` .* got \(4, 37\)"
    ):
      discrepancy_confusion(features, probs, fewer, head)
    with pytest.raises(ValueError, match=r"`head.kernel` .* got \(36, 5\)"):
      discrepancy_confusion(features, probs, anchors, narrow)
    with pytest.raises(ValueError, match="1 <= `block_size`, got -2"):
      discrepancy_confusion(*PROBLEM.pool, block_size=-2)
    with pytest.raises(ValueError, match="`num_top_bins` <= 100, got 101"):
      discrepancy_confusion(*PROBLEM.pool, num_top_bins=101)
    with pytest.raises(ValueError, match=r"shape \[pool, dim\], got \(0, 37\)"):
      discrepancy_confusion(features[:0], probs[:0], anchors, head)


class TestUncertaintyThreshold:
  scores = np.random.default_rng(0).gamma(2.0, size=POOL)

  @each("gamma", [-2.0, 0.0, 0.5])
  def test_matches_definition(self, gamma):
    np.testing.assert_allclose(
      uncertainty_threshold(self.scores, gamma=gamma),
      oracle.uncertainty_threshold(self.scores, gamma=gamma),
      rtol=1e-5,
    )

  def test_constant_scores_are_their_own_threshold(self):
    assert uncertainty_threshold(np.full(9, 0.75)) == 0.75

  @each("num_devices", [1, 2, 8])
  def test_is_independent_of_shard_count_and_padding(self, num_devices):
    scores, valid = place(num_devices, np.float32(self.scores))
    np.testing.assert_allclose(
      uncertainty_threshold(scores, valid=valid),
      uncertainty_threshold(self.scores),
      rtol=1e-6,
    )

  @pytest.mark.usefixtures("unannotated")
  def test_rejects_what_does_not_fit(self):
    with pytest.raises(ValueError, match=r"shape \[pool\], got \(3, 2\)"):
      uncertainty_threshold(np.ones((3, 2)))
    with pytest.raises(ValueError, match=r"`valid` .* \[37\], got \(4,\)"):
      uncertainty_threshold(self.scores, valid=np.ones(4, bool))
    with pytest.raises(ValueError, match="finite `gamma`, got nan"):
      uncertainty_threshold(self.scores, gamma=float("nan"))
