"""Tests of decern_jax/pretraining/objectives.py against loops in NumPy."""

import functools

import jax
import numpy as np

from decern_jax.pretraining import objectives
from tests.pretraining import naive
from tests.table import each

# Options are arguments of the programs: one serves all their values.
nt_xent = jax.jit(objectives.nt_xent)
barlow_twins = jax.jit(objectives.barlow_twins)
moco = jax.jit(objectives.moco)


def draw(count: int, size: int = 6, dim: int = 5, seed: int = 0):
  rng = np.random.default_rng(seed)
  return [
    (3 * rng.standard_normal((size, dim))).astype(np.float32)
    for _ in range(count)
  ]


class TestNormalize:
  def test_gives_length_one_and_zeros_a_finite_gradient(self):
    @jax.jit
    @functools.partial(jax.value_and_grad, has_aux=True)
    def compute(rows):
      found = objectives.normalize(rows)
      return found.sum(), found

    rows = draw(1)[0]
    rows[2] = 0.0
    (_, found), gradient = compute(rows)
    lengths = np.linalg.norm(found, axis=1)
    np.testing.assert_allclose(lengths, np.arange(6) != 2, rtol=1e-6)
    assert np.isfinite(gradient).all()


class TestNtXent:
  @each("temperature", [0.07, 0.2, 1.0])
  def test_matches_naive_loop(self, temperature):
    first, second = draw(2)
    found = nt_xent(first, second, temperature=temperature)
    expected = naive.nt_xent(first, second, temperature)
    np.testing.assert_allclose(found, expected, rtol=1e-5)

  def test_ignores_lengths_and_order(self):
    first, second = draw(2)
    scaled = nt_xent(5 * first[::-1], second[::-1], temperature=0.2)
    expected = nt_xent(second, first, temperature=0.2)
    np.testing.assert_allclose(scaled, expected, rtol=1e-5)

  def test_equal_outputs_cannot_be_distinguished(self):
    same = np.ones((6, 5), np.float32)
    found = nt_xent(same, same, temperature=0.2)
    np.testing.assert_allclose(found, np.log(11), rtol=1e-6)

  def test_gradient_is_finite(self):
    gradient = jax.jit(jax.grad(objectives.nt_xent))
    assert np.isfinite(gradient(*draw(2), temperature=0.05)).all()


class TestBarlowTwins:
  @each("weight", [0.0, 0.0051, 1.0])
  def test_matches_naive_loop(self, weight):
    first, second = draw(2)
    found = barlow_twins(first, second, off_diagonal_weight=weight)
    expected = naive.barlow_twins(first, second, weight)
    np.testing.assert_allclose(found, expected, rtol=1e-4)

  def test_ignores_shift_and_scale_of_coordinates(self):
    first, second = draw(2)
    found = barlow_twins(3 * first + 2, second, off_diagonal_weight=0.1)
    expected = barlow_twins(first, second, off_diagonal_weight=0.1)
    np.testing.assert_allclose(found, expected, rtol=1e-4)

  def test_uncorrelated_coordinates_that_agree_have_no_loss(self):
    signs = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]], np.float32)
    found = barlow_twins(signs, signs, off_diagonal_weight=1.0)
    np.testing.assert_allclose(found, 0, atol=1e-8)

  def test_constant_coordinate_has_a_finite_gradient(self):
    gradient = jax.jit(jax.grad(objectives.barlow_twins))
    same = np.ones((6, 5), np.float32)
    assert np.isfinite(gradient(same, same, off_diagonal_weight=0.1)).all()


class TestMoco:
  @each("temperature", [0.07, 0.2, 1.0])
  def test_matches_naive_loop(self, temperature):
    queries, keys = draw(2)
    queue = naive.normalize(draw(1, 11, seed=1)[0])
    found = moco(queries, keys, queue, temperature=temperature)
    expected = naive.moco(queries, keys, queue, temperature)
    np.testing.assert_allclose(found, expected, rtol=1e-5)

  def test_no_gradient_reaches_keys_and_queue(self):
    gradients = jax.jit(jax.grad(objectives.moco, (0, 1, 2)))(
      *draw(3), temperature=0.2
    )
    are_moved = [bool(np.abs(gradient).max() > 0) for gradient in gradients]
    assert are_moved == [True, False, False]
