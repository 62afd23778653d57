"""Tests of decern_jax/ops/discrepancy.py."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from decern_jax.ops import discrepancy
from tests import oracle
from tests.table import each


@functools.cache
def scorer(chunk_rows: int, **options):
  """One jitted function for all calls with the same options."""
  del chunk_rows  # a constant of the module, read while it is traced
  return jax.jit(
    functools.partial(discrepancy.discrepancy_confusion, **options)
  )


def score(problem: oracle.Problem, *, valid=None, **options) -> np.ndarray:
  options = {
    "num_bins": 100,
    "num_top_bins": 10,
    "block_size": 16,
    "tile_size": 3,
    **options,
  }
  valid = None if valid is None else jnp.asarray(valid)
  function = scorer(discrepancy.CHUNK_ROWS, **options)
  return np.asarray(function(*problem.pool, valid=valid))


class TestDiscrepancyConfusion:
  @each(
    "dim, classes",
    [(1, 3), (7, 2), (37, 5), (100, 3), (101, 2), (333, 17), (1024, 5)],
  )
  def test_matches_naive_loop(self, dim, classes):
    problem = oracle.make_problem(dim=dim, classes=classes)
    np.testing.assert_allclose(
      score(problem), oracle.discrepancy_confusion(problem), rtol=1e-5
    )

  @each("sharpness", [0.0, 10.0, 40.0])
  def test_matches_from_uniform_to_saturated(self, sharpness):
    problem = oracle.make_problem(dim=128, sharpness=sharpness)
    np.testing.assert_allclose(
      score(problem), oracle.discrepancy_confusion(problem), rtol=1e-5
    )

  @each("bins", [(1, 1), (7, 3), (40, 40)])
  def test_matches_with_other_numbers_of_bins(self, bins):
    problem = oracle.make_problem(dim=61)
    options = dict(zip(("num_bins", "num_top_bins"), bins, strict=True))
    np.testing.assert_allclose(
      score(problem, **options),
      oracle.discrepancy_confusion(problem, **options),
      rtol=1e-5,
    )

  def test_matches_where_the_top_class_comes_twice(self):
    problem = oracle.make_problem(dim=64, classes=6)
    kernel, bias = problem.kernel.copy(), problem.bias.copy()
    kernel[:, 4], bias[1], bias[4] = kernel[:, 1], 4.0, 4.0
    twins = oracle.predict(problem.features, kernel, bias).astype(np.float32)
    assert (twins[:, 1] == twins[:, 4]).all()
    assert (twins.argmax(axis=1) == 1).mean() > 0.5
    problem = problem._replace(kernel=kernel, bias=bias, probs=twins)
    np.testing.assert_allclose(
      score(problem), oracle.discrepancy_confusion(problem), rtol=1e-5
    )

  def test_matches_where_all_classes_tie(self):
    problem = oracle.make_problem(kernel=np.zeros((37, 5)))
    uniform = np.full_like(problem.probs, 0.2)
    problem = problem._replace(bias=np.zeros(5, np.float32), probs=uniform)
    np.testing.assert_allclose(
      score(problem), oracle.discrepancy_confusion(problem), rtol=1e-5
    )

  def test_matches_with_zero_features(self):
    problem = oracle.make_problem(dim=64)
    features = problem.features.copy()
    features[::3] = 0.0
    probs = oracle.predict(features, problem.kernel, problem.bias)
    problem = problem._replace(
      features=features, probs=probs.astype(np.float32)
    )
    np.testing.assert_allclose(
      score(problem), oracle.discrepancy_confusion(problem), rtol=1e-5
    )

  def test_zero_to_the_power_of_zero_is_one(self):
    # Sure of class 1 whatever is fused, so that every entropy is 0; opposite
    # to the first anchor (d = 1) and equal to the second (d = 0).
    problem = oracle.make_problem(pool=1, dim=2, classes=2)._replace(
      features=np.float32([[-1.0, 0.0]]),
      probs=np.float32([[0.0, 1.0]]),
      labeled_features=np.float32([[1.0, 0.0], [-1.0, 0.0]]),
      labeled_probs=np.float32([[0.0, 1.0], [0.0, 1.0]]),
      labels=np.array([0, 1]),
      kernel=np.float32([[0.0, -1.0], [0.0, 0.0]]),
      bias=np.float32([0.0, 500.0]),
    )
    np.testing.assert_array_equal(score(problem), [2.0])
    np.testing.assert_array_equal(oracle.discrepancy_confusion(problem), [2.0])

  @each("sharpness", [300.0, 3000.0])
  def test_is_finite_where_every_other_class_underflows(self, sharpness):
    scores = score(oracle.make_problem(sharpness=sharpness))
    assert np.isfinite(scores).all()
    assert (scores >= 0.0).all()

  @each("block_size, tile_size", [(1, 5), (7, 1), (40, 4), (1000, 9)])
  def test_is_independent_of_block_and_tile(self, block_size, tile_size):
    problem = oracle.make_problem()
    found = score(problem, block_size=block_size, tile_size=tile_size)
    np.testing.assert_allclose(found, score(problem), rtol=2e-6)

  @each(
    "chunk_rows, is_padded",
    [(1, False), (11, False), (11, True), (20, True), (39, True)],
  )
  def test_is_independent_of_chunks(self, monkeypatch, chunk_rows, is_padded):
    problem = oracle.make_problem()
    valid = np.arange(40) % 4 != 1 if is_padded else None
    expected = score(problem, valid=valid)
    monkeypatch.setattr(discrepancy, "CHUNK_ROWS", chunk_rows)
    np.testing.assert_allclose(score(problem, valid=valid), expected, rtol=2e-6)

  @each("num_valid", [0, 1, 16, 17, 39, 40])
  def test_counts_the_valid_rows_alone(self, num_valid):
    problem = oracle.make_problem()
    valid = np.zeros(40, bool)
    valid[np.random.default_rng(0).permutation(40)[:num_valid]] = True
    scores = score(problem, valid=valid)
    np.testing.assert_array_equal(scores[~valid], 0.0)
    np.testing.assert_allclose(scores[valid], score(problem)[valid], rtol=2e-6)

  @each("garbage", [1e30, np.inf, np.nan])
  def test_is_independent_of_padding(self, garbage):
    problem = oracle.make_problem()
    valid = np.arange(40) % 3 != 0
    features, probs = problem.features.copy(), problem.probs.copy()
    features[~valid], probs[~valid] = garbage, garbage
    found = score(problem._replace(features=features, probs=probs), valid=valid)
    np.testing.assert_array_equal(found, score(problem, valid=valid))

  def test_permuting_rows_permutes_scores(self):
    problem = oracle.make_problem()
    order = np.random.default_rng(0).permutation(40)
    permuted = problem._replace(
      features=problem.features[order], probs=problem.probs[order]
    )
    np.testing.assert_allclose(
      score(permuted), score(problem)[order], rtol=2e-6
    )

  def test_permuting_classes_leaves_scores(self):
    problem = oracle.make_problem()
    order = np.array([3, 0, 4, 2, 1])
    permuted = problem._replace(
      probs=problem.probs[:, order],
      labeled_probs=problem.labeled_probs[:, order],
      labels=np.argsort(order)[problem.labels],
      kernel=problem.kernel[:, order],
      bias=problem.bias[order],
    )
    np.testing.assert_allclose(score(permuted), score(problem), rtol=1e-5)

  def test_a_constant_added_to_all_logits_leaves_scores(self):
    problem = oracle.make_problem()
    shifted = problem._replace(bias=problem.bias + 3.0)
    np.testing.assert_allclose(score(shifted), score(problem), rtol=1e-5)
