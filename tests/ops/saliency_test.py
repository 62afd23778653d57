"""Tests of decern_jax/ops/saliency.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from decern_jax.distributed.sharding import make_mesh, place_pool
from decern_jax.ops import saliency
from decern_jax.ops.head import LinearHead
from decern_jax.ops.saliency import saliency_mask
from tests import oracle
from tests.table import each

# Fewer coordinates than bins, as many, more, a multiple, and odd ones.
WIDTHS = (1, 7, 37, 99, 100, 101, 200, 333, 1024)


class TestPoolingWeights:
  @each("dim", WIDTHS)
  def test_averages_from_floor_to_ceiling(self, dim):
    values = np.random.default_rng(0).normal(size=dim)
    pooled = saliency.pooling_weights(dim, 100) @ values
    for k in range(100):
      begin, end = int(np.floor(k * dim / 100)), (k + 1) * dim / 100
      members = values[begin : int(np.ceil(end - 1e-9))]
      np.testing.assert_allclose(pooled[k], members.mean(), atol=1e-6)

  def test_bins_of_a_divisor_do_not_overlap(self):
    weights = saliency.pooling_weights(300, 100)
    np.testing.assert_array_equal((weights > 0).sum(axis=0), 1)


class TestUpsamplingBins:
  @each("dim", WIDTHS)
  def test_rises_from_the_first_bin(self, dim):
    bins = saliency.upsampling_bins(dim, 100)
    assert bins[0] == 0
    assert bins[-1] <= 99
    assert (np.diff(bins) >= 0).all()

  def test_is_one_to_one_when_as_wide_as_the_bins(self):
    bins = saliency.upsampling_bins(100, 100)
    np.testing.assert_array_equal(bins, np.arange(100))

  @each(
    "dim, coordinate, expected",
    [(115, 69, 59), (135, 81, 59), (198, 99, 49), (230, 138, 59)],
  )
  def test_rounds_as_float32_does(self, dim, coordinate, expected):
    assert saliency.upsampling_bins(dim, 100)[coordinate] == expected
    assert int(np.floor(coordinate * (100 / dim))) != expected


class TestResiduals:
  def test_points_along_softmax_minus_target(self):
    z = np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32)
    targets = np.array([0, 1, 2, 3, 4, 0])
    expected = oracle.softmax(oracle.float64(z)) - np.eye(5)[targets]
    expected /= -expected[np.arange(6), targets][:, None]
    actual = saliency.residuals(jnp.asarray(z), jnp.asarray(targets))
    np.testing.assert_allclose(actual, expected, atol=1e-6)

  @each("gap", [30.0, 100.0, 1000.0])
  def test_keeps_all_digits_where_the_softmax_saturates(self, gap):
    z = jnp.array([[gap, 0.0, 1.0, -1.0]])
    others = oracle.softmax(np.array([0.0, 1.0, -1.0]))
    actual = saliency.residuals(z, jnp.array([0]))
    np.testing.assert_allclose(actual, [[-1.0, *others]], rtol=1e-5)

  def test_two_classes_oppose_each_other(self):
    z = jnp.array([[3.0, -3.0], [0.0, 0.0]])
    actual = saliency.residuals(z, jnp.array([0, 1]))
    np.testing.assert_array_equal(actual, [[-1.0, 1.0], [1.0, -1.0]])


jitted_top_bins = jax.jit(
  saliency.top_bins, static_argnames=("num_bins", "num_top_bins")
)


class TestTopBins:
  problem = oracle.make_problem(dim=120)

  def top_bins(self, head, *, num_top_bins=10):
    kernel, bias = self.problem.head
    z = oracle.float32(self.problem.features @ kernel + bias)
    return jitted_top_bins(
      z, self.problem.probs, head, num_bins=100, num_top_bins=num_top_bins
    )

  def test_ignores_shift_and_scale_of_gradient(self):
    head = self.problem.head
    expected = self.top_bins(head)
    # A constant in a column of the kernel shifts all coordinates of a gradient.
    shift = np.arange(5, dtype=np.float32)[None]
    for kernel in (head.kernel + shift, 128.0 * head.kernel):
      moved = self.top_bins(LinearHead(oracle.float32(kernel), head.bias))
      np.testing.assert_array_equal(moved, expected)

  def test_lowest_bins_come_first_among_equal_ones(self):
    head = jax.tree.map(np.zeros_like, self.problem.head)
    bins = self.top_bins(head)
    assert bins[:, :10].all()
    assert not bins[:, 10:].any()

  @each("num_top_bins", [1])
  def test_marks_as_many_as_asked(self, num_top_bins):
    bins = self.top_bins(self.problem.head, num_top_bins=num_top_bins)
    np.testing.assert_array_equal(bins.sum(axis=1), num_top_bins)


PROBLEM = oracle.make_problem(dim=128)
POOL = PROBLEM.features, PROBLEM.probs, PROBLEM.head


def mask(problem=PROBLEM, **options) -> np.ndarray:
  pool = problem.features, problem.probs, problem.head
  found = saliency_mask(*pool, **options)
  assert found.dtype == bool
  return np.asarray(found)


class TestSaliencyMask:
  @each("dim", [7, 101, 333])
  def test_matches_the_official_steps(self, dim):
    problem = oracle.make_problem(dim=dim)
    np.testing.assert_array_equal(mask(problem), oracle.saliency_mask(problem))

  @each("bins", [(1, 1), (300, 20)])
  def test_matches_with_other_numbers_of_bins(self, bins):
    options = dict(zip(("num_bins", "num_top_bins"), bins, strict=True))
    np.testing.assert_array_equal(
      mask(**options), oracle.saliency_mask(PROBLEM, **options)
    )

  def test_matches_where_the_softmax_saturates(self):
    problem = oracle.make_problem(dim=128, sharpness=30.0)
    assert (problem.probs.max(axis=1) == 1.0).mean() > 0.3
    np.testing.assert_array_equal(mask(problem), oracle.saliency_mask(problem))

  def test_batch_mean_of_the_loss_changes_nothing(self):
    gradients = oracle.gradients(
      PROBLEM.features, PROBLEM.probs, PROBLEM.kernel, PROBLEM.bias
    )
    np.testing.assert_array_equal(
      mask(), oracle.salient_coordinates(gradients / len(gradients))
    )

  def test_is_independent_of_shard_count(self):
    features, probs = (place_pool(a, make_mesh(8)) for a in POOL[:2])
    found = saliency_mask(features, probs, PROBLEM.head)
    assert found.sharding.is_equivalent_to(features.sharding, 2)
    np.testing.assert_array_equal(found[: len(mask())], mask())

  @pytest.mark.usefixtures("unannotated")
  def test_accepts_any_integer_type_of_options(self):
    options = {"num_bins": np.int64(300), "num_top_bins": np.uint8(20)}
    expected = mask(num_bins=300, num_top_bins=20)
    np.testing.assert_array_equal(mask(**options), expected)

  @pytest.mark.usefixtures("unannotated")
  def test_rejects_what_does_not_fit(self):
    with pytest.raises(ValueError, match="`num_top_bins` <= 4, got 5"):
      mask(num_bins=4, num_top_bins=5)
    with pytest.raises(ValueError, match="1 <= `num_top_bins` <= 100, got 0"):
      mask(num_top_bins=0)
    with pytest.raises(ValueError, match="1 <= `num_bins`, got 0"):
      mask(num_bins=0)
    with pytest.raises(ValueError, match=r"`features` .* got \(40,\)"):
      saliency_mask(PROBLEM.features[:, 0], *POOL[1:])
