"""Tests of decern_jax/strategies/active_ft.py."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import logsumexp, softmax

from decern_jax.ops.keys import uniform_at
from decern_jax.strategies import active_ft
from tests import oracle
from tests.strategies import pools
from tests.strategies.pools import BUDGET
from tests.table import each

TEMPERATURE = 0.07


def naive_loss(centers, rows) -> float:
  """The loss, by a loop over the rows and one over the centers."""
  centers = oracle.normalize(centers)
  pull = [max(x @ c for c in centers) / TEMPERATURE for x in rows]
  push = []
  for j, center in enumerate(centers):
    others = np.delete(centers, j, axis=0)
    push.append(logsumexp(others @ center / TEMPERATURE))
  return float(np.mean(push) - np.mean(pull))


def naive_gradient(centers, rows) -> np.ndarray:
  """The gradient of the loss by the centers."""
  units = oracle.normalize(centers)
  count = len(units)
  gradient = np.zeros_like(units)
  for x in rows:
    gradient[(units @ x).argmax()] -= x / len(rows) / TEMPERATURE
  between = units @ units.T / TEMPERATURE
  np.fill_diagonal(between, -np.inf)
  shares = softmax(between, axis=1)
  gradient += (shares + shares.T) @ units / count / TEMPERATURE
  # Only what turns a center changes it.
  gradient -= (gradient * units).sum(axis=1, keepdims=True) * units
  return gradient / np.linalg.norm(centers, axis=1, keepdims=True)


def naive_select(key, features, candidates, budget) -> list[int]:
  """300 steps of Adam, then each center takes the nearest one left."""
  directions = oracle.normalize(features)
  chance = np.asarray(
    uniform_at(jax.random.split(key)[0], jnp.arange(len(features)))
  )
  start = np.argsort(np.where(candidates, -chance, 1.0), kind="stable")
  centers = directions[start[:budget]]
  mean, square = np.zeros_like(centers), np.zeros_like(centers)
  for step in range(1, 301):
    gradient = naive_gradient(centers, directions[candidates])
    mean = 0.9 * mean + 0.1 * gradient
    square = 0.999 * square + 0.001 * gradient**2
    size = np.sqrt(square / (1 - 0.999**step)) + 1e-8
    centers = centers - 1e-3 * mean / (1 - 0.9**step) / size
  left, taken = set(np.flatnonzero(candidates)), []
  for center in oracle.normalize(centers):
    taken.append(max(left, key=lambda row: directions[row] @ center))
    left.remove(taken[-1])
  return taken


class TestSelect:
  def test_matches_naive_descent(self, key):
    pool = pools.make_pool()
    selection = active_ft.select(key, pool, budget=BUDGET)
    expected = naive_select(key, pools.FEATURES, pools.CANDIDATES, BUDGET)
    np.testing.assert_array_equal(selection.indices, expected)
    assert selection.scores is None

  @each("batch_size", [64, 8192])
  def test_ignores_rows_that_do_not_count(self, key, monkeypatch, batch_size):
    monkeypatch.setattr(active_ft, "BATCH_SIZE", batch_size)
    garbage = pools.make_pool(garbage=pools.GARBAGE)
    found = active_ft.select(key, garbage, budget=BUDGET).indices
    pools.assert_distinct_candidates(found)
    pool = pools.make_pool()
    np.testing.assert_array_equal(
      found, active_ft.select(key, pool, budget=BUDGET).indices
    )


# Without `jit` each of its operations is a program.
loss = jax.jit(active_ft.loss)
loss_and_gradient = jax.jit(jax.value_and_grad(active_ft.loss))


class TestLoss:
  rows = oracle.normalize(pools.FEATURES)[:30]
  centers = pools.FEATURES[40:44]

  def value_and_gradient(self, weights, rows):
    return loss_and_gradient(self.centers, rows, weights)

  def test_matches_naive_loops(self):
    rows = self.rows.astype(np.float32)
    value, gradient = self.value_and_gradient(np.ones(30, np.float32), rows)
    expected = naive_loss(self.centers, self.rows)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    expected = naive_gradient(self.centers.astype(np.float64), self.rows)
    np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=1e-5)

  def test_rows_without_weight_do_not_count(self):
    weights = (np.arange(30) < 20).astype(np.float32)
    value, _ = self.value_and_gradient(weights, self.rows.astype(np.float32))
    expected = naive_loss(self.centers, self.rows[:20])
    np.testing.assert_allclose(value, expected, rtol=1e-5)

  def test_one_center_is_not_pushed(self):
    rows = self.rows.astype(np.float32)
    value = loss(rows[:1], rows, np.ones(30, np.float32))
    expected = -(self.rows @ self.rows[0]).mean() / TEMPERATURE
    np.testing.assert_allclose(value, expected, rtol=1e-5)
