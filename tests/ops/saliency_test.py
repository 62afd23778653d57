"""Tests of decern_jax/ops/saliency.py."""

import jax
import jax.numpy as jnp
import numpy as np

from decern_jax.ops import saliency
from decern_jax.ops.head import LinearHead, logits
from tests import oracle
from tests.table import each

# Fewer coordinates than bins, as many, more, a multiple, and odd ones.
WIDTHS = (1, 7, 37, 99, 100, 101, 200, 333, 1024)


def device_head(problem: oracle.Problem) -> LinearHead:
  return LinearHead(*map(jnp.asarray, problem.head))


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
    expected = oracle.softmax(np.float64(z)) - np.eye(5)[targets]
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


class TestTopBins:
  def top_bins(self, problem, head, **options):
    z = logits(device_head(problem), jnp.asarray(problem.features))
    options = {"num_bins": 100, "num_top_bins": 10, **options}
    return saliency.top_bins(z, jnp.asarray(problem.probs), head, **options)

  def test_ignores_shift_and_scale_of_gradient(self):
    problem = oracle.make_problem(dim=120)
    head = device_head(problem)
    expected = self.top_bins(problem, head)
    # A constant in a column of the kernel shifts all coordinates of a gradient.
    shift = jnp.arange(5.0)[None]
    for kernel in (head.kernel + shift, 128.0 * head.kernel):
      moved = self.top_bins(problem, LinearHead(kernel, head.bias))
      np.testing.assert_array_equal(moved, expected)

  def test_lowest_bins_come_first_among_equal_ones(self):
    problem = oracle.make_problem()
    head = jax.tree.map(jnp.zeros_like, device_head(problem))
    bins = self.top_bins(problem, head, num_top_bins=4)
    assert bins[:, :4].all()
    assert not bins[:, 4:].any()

  @each("num_top_bins", [1, 10, 100])
  def test_marks_as_many_as_asked(self, num_top_bins):
    problem = oracle.make_problem()
    head = device_head(problem)
    bins = self.top_bins(problem, head, num_top_bins=num_top_bins)
    np.testing.assert_array_equal(bins.sum(axis=1), num_top_bins)


class TestSaliencyMask:
  def mask(self, problem, *, num_bins=100, num_top_bins=10):
    return saliency.saliency_mask(
      jnp.asarray(problem.features),
      jnp.asarray(problem.probs),
      device_head(problem),
      num_bins=num_bins,
      num_top_bins=num_top_bins,
    )

  @each("dim", WIDTHS)
  def test_matches_the_official_steps(self, dim):
    problem = oracle.make_problem(dim=dim, pool=30)
    np.testing.assert_array_equal(
      self.mask(problem), oracle.saliency_mask(problem)
    )

  @each("bins", [(1, 1), (7, 3), (50, 50), (300, 20)])
  def test_matches_with_other_numbers_of_bins(self, bins):
    problem = oracle.make_problem(dim=61)
    options = dict(zip(("num_bins", "num_top_bins"), bins, strict=True))
    np.testing.assert_array_equal(
      self.mask(problem, **options), oracle.saliency_mask(problem, **options)
    )

  def test_matches_where_the_softmax_saturates(self):
    problem = oracle.make_problem(dim=128, sharpness=30.0)
    assert (problem.probs.max(axis=1) == 1.0).mean() > 0.3
    np.testing.assert_array_equal(
      self.mask(problem), oracle.saliency_mask(problem)
    )

  def test_batch_mean_of_the_loss_changes_nothing(self):
    problem = oracle.make_problem(dim=128)
    gradients = oracle.gradients(
      problem.features, problem.probs, problem.kernel, problem.bias
    )
    np.testing.assert_array_equal(
      self.mask(problem),
      oracle.salient_coordinates(gradients / len(gradients)),
    )
