"""Tests of decern_jax/ops/discrepancy.py."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from decern_jax.distributed.sharding import make_mesh, place_pool
from decern_jax.ops import discrepancy
from decern_jax.ops.anchors import Anchors
from decern_jax.ops.discrepancy import discrepancy_confusion
from decern_jax.ops.head import LinearHead
from decern_jax.ops.saliency import upsampling_bins
from tests import oracle
from tests.table import each

# No multiple of a number of shards.
POOL = 43
PROBLEM = oracle.make_problem(pool=POOL)
ALL = np.ones(POOL, bool)


def score(
  problem: Any = PROBLEM, *, valid: Any = ALL, **options: Any
) -> np.ndarray:
  options = {"block_size": 16, **options}
  return np.asarray(
    discrepancy_confusion(*problem.pool, valid=valid, **options)
  )


@functools.cache
def jitted_kernel(block_size: int, tile_size: int, chunk_rows: int):
  """The function in blocks, tiles and chunks of a given size."""

  def run(*arrays):
    # A constant of the module, read while the function is traced.
    with pytest.MonkeyPatch.context() as patch:
      patch.setattr(discrepancy, "CHUNK_ROWS", chunk_rows)
      return discrepancy._discrepancy_confusion.__wrapped__(
        *arrays,
        num_bins=100,
        num_top_bins=10,
        block_size=block_size,
        tile_size=tile_size,
      )

  return jax.jit(run)


def twins() -> oracle.Problem:
  """Two classes that share the highest probability."""
  kernel, bias = PROBLEM.kernel.copy(), PROBLEM.bias.copy()
  kernel[:, 4], bias[1], bias[4] = kernel[:, 1], 4.0, 4.0
  probs = oracle.predict(PROBLEM.features, kernel, bias).astype(np.float32)
  assert (probs[:, 1] == probs[:, 4]).all()
  assert (probs.argmax(axis=1) == 1).mean() > 0.4
  return PROBLEM._replace(kernel=kernel, bias=bias, probs=probs)


def with_zero_features() -> oracle.Problem:
  features = PROBLEM.features.copy()
  features[::3] = 0.0
  probs = oracle.predict(features, PROBLEM.kernel, PROBLEM.bias)
  return PROBLEM._replace(features=features, probs=oracle.float32(probs))


PROBLEMS = {
  "usual": PROBLEM,
  "uniform": oracle.make_problem(pool=POOL, sharpness=0.0),
  "sure": oracle.make_problem(pool=POOL, sharpness=10.0),
  "saturated": oracle.make_problem(pool=POOL, sharpness=40.0),
  "twins": twins(),
  "ties": PROBLEM._replace(
    kernel=np.zeros_like(PROBLEM.kernel),
    bias=np.zeros(5, np.float32),
    probs=np.full_like(PROBLEM.probs, 0.2),
  ),
  "zero features": with_zero_features(),
}


class TestDiscrepancyConfusion:
  @each("name", PROBLEMS)
  def test_matches_naive_loop(self, name):
    found = score(PROBLEMS[name])
    assert found.dtype == np.float32
    expected = oracle.discrepancy_confusion(PROBLEMS[name])
    np.testing.assert_allclose(found, expected, rtol=1e-5)

  @each("dim, classes, bins", [(7, 2, (9, 4)), (333, 17, (100, 10))])
  def test_matches_with_other_shapes_and_bins(self, dim, classes, bins):
    problem = oracle.make_problem(dim=dim, classes=classes)
    options = dict(zip(("num_bins", "num_top_bins"), bins, strict=True))
    np.testing.assert_allclose(
      score(problem, valid=None, **options),
      oracle.discrepancy_confusion(problem, **options),
      rtol=1e-5,
    )

  def test_zero_to_the_power_of_zero_is_one(self):
    # Sure of class 1 whatever is fused, so that every entropy is 0; opposite
    # to the first anchor (d = 1) and equal to the second (d = 0).
    problem = oracle.make_problem(pool=1, dim=2, classes=2)._replace(
      features=oracle.float32([[-1.0, 0.0]]),
      probs=oracle.float32([[0.0, 1.0]]),
      labeled_features=oracle.float32([[1.0, 0.0], [-1.0, 0.0]]),
      labeled_probs=oracle.float32([[0.0, 1.0], [0.0, 1.0]]),
      labels=np.array([0, 1]),
      kernel=oracle.float32([[0.0, -1.0], [0.0, 0.0]]),
      bias=oracle.float32([0.0, 500.0]),
    )
    np.testing.assert_array_equal(score(problem, valid=None), [2.0])
    np.testing.assert_array_equal(oracle.discrepancy_confusion(problem), [2.0])

  @each("sharpness", [300.0, 3000.0])
  def test_is_finite_where_every_other_class_underflows(self, sharpness):
    scores = score(oracle.make_problem(pool=POOL, sharpness=sharpness))
    assert np.isfinite(scores).all()
    assert (scores >= 0.0).all()

  @each("block_size, tile_size, chunk_rows", [(7, 2, 4096), (16, 3, 11)])
  def test_is_independent_of_blocks_tiles_and_chunks(
    self, block_size, tile_size, chunk_rows
  ):
    function = jitted_kernel(block_size, tile_size, chunk_rows)
    for valid in (ALL, np.arange(POOL) % 4 != 1):
      np.testing.assert_allclose(
        function(*PROBLEM.pool, valid), score(valid=valid), rtol=2e-6
      )

  @each("num_valid", [0, 1, 16, 17, POOL - 1])
  def test_scores_only_the_valid_rows(self, num_valid):
    valid = np.random.default_rng(0).permutation(POOL) < num_valid
    scores = score(valid=valid)
    np.testing.assert_array_equal(scores[~valid], 0.0)
    np.testing.assert_allclose(scores[valid], score()[valid], rtol=2e-6)

  @each("garbage", [1e30, np.inf, np.nan])
  def test_is_independent_of_padding(self, garbage):
    valid = np.arange(POOL) % 3 != 0
    features, probs = PROBLEM.features.copy(), PROBLEM.probs.copy()
    features[~valid], probs[~valid] = garbage, garbage
    found = score(PROBLEM._replace(features=features, probs=probs), valid=valid)
    np.testing.assert_array_equal(found, score(valid=valid))

  def test_permuting_rows_permutes_scores(self):
    order = np.random.default_rng(0).permutation(POOL)
    permuted = PROBLEM._replace(
      features=PROBLEM.features[order], probs=PROBLEM.probs[order]
    )
    np.testing.assert_allclose(score(permuted), score()[order], rtol=2e-6)

  def test_permuting_classes_leaves_scores(self):
    order = np.array([3, 0, 4, 2, 1])
    permuted = PROBLEM._replace(
      probs=PROBLEM.probs[:, order],
      labeled_probs=PROBLEM.labeled_probs[:, order],
      labels=np.argsort(order)[PROBLEM.labels],
      kernel=PROBLEM.kernel[:, order],
      bias=PROBLEM.bias[order],
    )
    np.testing.assert_allclose(score(permuted), score(), rtol=1e-5)

  def test_a_constant_added_to_all_logits_leaves_scores(self):
    shifted = PROBLEM._replace(bias=PROBLEM.bias + 3.0)
    np.testing.assert_allclose(score(shifted), score(), rtol=1e-5)

  def test_is_independent_of_shard_count(self):
    mesh = make_mesh(8)
    features, probs = (place_pool(a, mesh) for a in PROBLEM.pool[:2])
    # All rows, and so few that most shards have none.
    for num_valid in (POOL, 3):
      valid = place_pool(np.arange(POOL) < num_valid, mesh)
      scores = discrepancy_confusion(
        features, probs, *PROBLEM.pool[2:], valid=valid
      )
      assert scores.sharding.is_equivalent_to(features.sharding, 1)
      np.testing.assert_array_equal(scores[num_valid:], 0.0)
      np.testing.assert_allclose(
        scores[:num_valid], score()[:num_valid], rtol=2e-6
      )

  def test_works_inside_of_a_users_jit(self):
    features, probs, valid = (
      place_pool(a, make_mesh(4)) for a in (*PROBLEM.pool[:2], ALL)
    )
    scores = jax.jit(discrepancy_confusion)(
      features, probs, *PROBLEM.pool[2:], valid=valid
    )
    np.testing.assert_allclose(scores[:POOL], score(), rtol=2e-6)

  @pytest.mark.usefixtures("unannotated")
  @each("dtype", [np.float64, np.float16, np.int32])
  def test_accepts_other_types_of_numbers(self, dtype):
    cast = PROBLEM._replace(features=PROBLEM.features.astype(dtype))
    same = PROBLEM._replace(features=cast.features.astype(np.float32))
    np.testing.assert_array_equal(score(cast), score(same))

  def test_never_holds_an_array_of_pool_by_classes_by_classes(self):
    pool, classes, dim = 20_000, 50, 64
    shapes: Any = (
      (pool, dim),
      (pool, classes),
      Anchors._make([(classes, dim), (classes, classes)]),
      LinearHead._make([(dim, classes), (classes,)]),
    )
    arguments = jax.tree.map(
      lambda shape: jax.ShapeDtypeStruct(shape, np.float32),
      shapes,
      is_leaf=lambda node: type(node) is tuple and isinstance(node[0], int),
    )
    compiled = jax.jit(discrepancy_confusion).lower(*arguments).compile()
    memory = compiled.memory_analysis()
    assert memory is not None
    assert memory.temp_size_in_bytes < 0.2 * pool * classes**2 * 4

  @pytest.mark.usefixtures("unannotated")
  def test_rejects_what_does_not_fit(self):
    features, probs, anchors, head = PROBLEM.pool
    fewer = anchors._replace(features=anchors.features[:4])
    narrow = head._replace(kernel=head.kernel[:36])
    with pytest.raises(ValueError, match=r"`valid` .* \[43\], got \(36,\)"):
      score(valid=np.ones(36, bool))
    with pytest.raises(
      ValueError, match=r"`anchors.features` .* got \(4, 37\)"
    ):
      discrepancy_confusion(features, probs, fewer, head)
    with pytest.raises(ValueError, match=r"`head.kernel` .* got \(36, 5\)"):
      discrepancy_confusion(features, probs, anchors, narrow)
    with pytest.raises(ValueError, match="1 <= `block_size`, got -2"):
      score(block_size=-2)
    with pytest.raises(ValueError, match="`num_top_bins` <= 100, got 101"):
      score(num_top_bins=101)
    with pytest.raises(ValueError, match=r"shape \[pool, dim\], got \(0, 37\)"):
      discrepancy_confusion(features[:0], probs[:0], anchors, head)


class TestFusionRatio:
  def test_is_clipped_on_both_sides(self):
    probs = jnp.array([0.0, 1 / 64, 0.5, 63 / 64, 1.0])
    np.testing.assert_array_equal(
      discrepancy.fusion_ratio(probs), [1 / 64, 1 / 64, 0.5, 63 / 64, 63 / 64]
    )


class TestAnchorShifts:
  @each("dim", [7, 333])
  def test_gives_the_logits_of_fused_features(self, dim):
    problem = oracle.make_problem(dim=dim)
    anchors = problem.anchors.features
    mask = oracle.saliency_mask(problem)
    shifts = discrepancy.anchor_shifts(
      discrepancy.split_bins(jnp.asarray(anchors), 100),
      discrepancy.split_bins(jnp.asarray(problem.kernel.T), 100),
    )
    bins = upsampling_bins(dim, 100)
    x, ratio = oracle.float64(problem.features), 0.3
    for i, anchor in enumerate(anchors):
      expected = (x + mask * ratio * (anchor - x)) @ problem.kernel
      top = np.zeros((len(x), 100), bool)
      top[:, bins] = mask
      moved = top @ oracle.float64(shifts[i]).T - (mask * x) @ problem.kernel
      actual = x @ problem.kernel + ratio * moved
      np.testing.assert_allclose(actual, expected, atol=1e-5)


class TestSplitBins:
  @each("dim", [7, 333])
  def test_holds_every_coordinate_once(self, dim):
    rows = np.random.default_rng(0).normal(size=(3, dim)).astype(np.float32)
    split = np.asarray(discrepancy.split_bins(jnp.asarray(rows), 100))
    bins = upsampling_bins(dim, 100)
    for k in range(100):
      own = rows[:, bins == k]
      np.testing.assert_array_equal(split[k, :, : own.shape[1]], own)
      assert not split[k, :, own.shape[1] :].any()
