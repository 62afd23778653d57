"""Tests of decern_jax/pretraining/objectives.py against loops in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from decern_jax.pretraining import objectives
from tests.table import each

TEMPERATURES = pytest.mark.parametrize("temperature", [0.07, 0.2, 1.0])


def draw(count: int, size: int = 6, dim: int = 5, seed: int = 0):
  rng = np.random.default_rng(seed)
  return [
    (3 * rng.standard_normal((size, dim))).astype(np.float32)
    for _ in range(count)
  ]


def cosine(a, b) -> float:
  return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def naive_nt_xent(first, second, temperature) -> float:
  """Algorithm 1 of SimCLR: views 2k-1 and 2k are of one image."""
  views = [view for pair in zip(first, second, strict=True) for view in pair]
  total = 0.0
  for i, query in enumerate(views):
    partner = i + 1 if i % 2 == 0 else i - 1
    positive = np.exp(cosine(query, views[partner]) / temperature)
    others = sum(
      np.exp(cosine(query, other) / temperature)
      for k, other in enumerate(views)
      if k != i
    )
    total -= np.log(positive / others)
  return total / len(views)


def naive_barlow_twins(first, second, weight) -> float:
  """Equations 1 and 2 of Barlow Twins, on coordinates with mean 0."""
  first, second = first - first.mean(0), second - second.mean(0)
  total = 0.0
  for i in range(first.shape[1]):
    for j in range(first.shape[1]):
      top = sum(a[i] * b[j] for a, b in zip(first, second, strict=True))
      norms = np.sqrt((first[:, i] ** 2).sum() * (second[:, j] ** 2).sum())
      correlation = top / norms
      total += (1 - correlation) ** 2 if i == j else weight * correlation**2
  return total


def naive_moco(queries, keys, queue, temperature) -> float:
  """Equation 1 of MoCo: one positive and all keys of the queue."""
  total = 0.0
  for query, key in zip(queries, keys, strict=True):
    positive = np.exp(cosine(query, key) / temperature)
    negatives = sum(np.exp(cosine(query, n) / temperature) for n in queue)
    total -= np.log(positive / (positive + negatives))
  return total / len(queries)


class TestNormalize:
  def test_gives_length_one(self):
    (rows,) = draw(1)
    found = np.asarray(objectives.normalize(jnp.asarray(rows)))
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-6)

  def test_zero_has_a_finite_gradient(self):
    gradient = jax.grad(lambda row: objectives.normalize(row).sum())
    assert np.isfinite(gradient(jnp.zeros(4))).all()


class TestNtXent:
  @TEMPERATURES
  @each("size", [2, 7])
  def test_matches_naive_loop(self, temperature, size):
    first, second = draw(2, size)
    found = objectives.nt_xent(first, second, temperature=temperature)
    expected = naive_nt_xent(first, second, temperature)
    np.testing.assert_allclose(found, expected, rtol=1e-5)

  def test_ignores_lengths_and_order(self):
    first, second = draw(2)
    scaled = objectives.nt_xent(5 * first[::-1], second[::-1], temperature=0.2)
    expected = objectives.nt_xent(second, first, temperature=0.2)
    np.testing.assert_allclose(scaled, expected, rtol=1e-5)

  def test_equal_outputs_cannot_be_told_apart(self):
    same = jnp.ones((4, 3))
    found = objectives.nt_xent(same, same, temperature=0.2)
    np.testing.assert_allclose(found, np.log(7), rtol=1e-6)

  def test_gradient_is_finite(self):
    first, second = draw(2)
    gradient = jax.grad(
      lambda a: objectives.nt_xent(a, second, temperature=0.05)
    )
    assert np.isfinite(gradient(first)).all()


class TestBarlowTwins:
  @each("weight", [0.0, 0.0051, 1.0])
  @each("size", [3, 20])
  def test_matches_naive_loop(self, weight, size):
    first, second = draw(2, size)
    found = objectives.barlow_twins(first, second, off_diagonal_weight=weight)
    expected = naive_barlow_twins(first, second, weight)
    np.testing.assert_allclose(found, expected, rtol=1e-4)

  def test_ignores_shift_and_scale_of_coordinates(self):
    first, second = draw(2)
    options = {"off_diagonal_weight": 0.1}
    found = objectives.barlow_twins(3 * first + 2, second, **options)
    expected = objectives.barlow_twins(first, second, **options)
    np.testing.assert_allclose(found, expected, rtol=1e-4)

  def test_uncorrelated_coordinates_seen_alike_have_no_loss(self):
    signs = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]], np.float32)
    found = objectives.barlow_twins(signs, signs, off_diagonal_weight=1.0)
    np.testing.assert_allclose(found, 0, atol=1e-8)

  def test_constant_coordinate_has_a_finite_gradient(self):
    gradient = jax.grad(
      lambda a: objectives.barlow_twins(a, a, off_diagonal_weight=0.1)
    )
    assert np.isfinite(gradient(jnp.ones((4, 3)))).all()


class TestMoco:
  @TEMPERATURES
  def test_matches_naive_loop(self, temperature):
    queries, keys = draw(2)
    (queue,) = draw(1, 11, seed=1)
    queue /= np.linalg.norm(queue, axis=1, keepdims=True)
    found = objectives.moco(queries, keys, queue, temperature=temperature)
    expected = naive_moco(queries, keys, queue, temperature)
    np.testing.assert_allclose(found, expected, rtol=1e-5)

  def test_no_gradient_reaches_keys_and_queue(self):
    queries, keys, queue = draw(3)
    gradients = jax.grad(
      lambda *arrays: objectives.moco(*arrays, temperature=0.2), (0, 1, 2)
    )(queries, keys, queue)
    are_moved = [bool(np.abs(gradient).max() > 0) for gradient in gradients]
    assert are_moved == [True, False, False]
