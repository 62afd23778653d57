"""Tests of decern_jax/strategies/noise_stability.py."""

import numpy as np

from decern_jax.strategies import noise_stability
from tests.strategies import pools
from tests.strategies.pools import BUDGET


def naive_deviations(key, pool) -> np.ndarray:
  """The deviations of the logits under all noises, side by side."""
  features = np.asarray(pool.features, np.float64)
  kernel = np.asarray(pool.head.kernel, np.float64)
  bias = np.asarray(pool.head.bias, np.float64)
  logits = features @ kernel + bias
  stacked = []
  for index in range(30):
    noise = noise_stability.draw_noise(key, index, pool.head.kernel)
    noisy = features @ (kernel + np.asarray(noise, np.float64)) + bias
    stacked.append(noisy - logits)
  sizes = np.linalg.norm(logits, axis=1, keepdims=True)
  return np.concatenate(stacked, axis=1) / sizes


def naive_select(deviations, candidates, budget) -> list[int]:
  """The longest first, then the farthest from all that are taken."""
  rows = np.flatnonzero(candidates).tolist()
  lengths = np.linalg.norm(deviations, axis=1)
  taken = [max(rows, key=lambda row: lengths[row])]
  while len(taken) < budget:
    taken.append(
      max(
        (row for row in rows if row not in taken),
        key=lambda row: min(
          np.linalg.norm(deviations[row] - deviations[other]) for other in taken
        ),
      )
    )
  return taken


class TestSelect:
  def test_matches_naive_stack(self, key):
    pool = pools.make_pool()
    selection = noise_stability.select(key, pool, budget=BUDGET)
    deviations = naive_deviations(key, pool)
    np.testing.assert_array_equal(
      selection.indices,
      naive_select(deviations, pools.CANDIDATES, BUDGET),
    )
    expected = np.linalg.norm(deviations, axis=1)
    expected = np.where(pools.CANDIDATES, expected, 0.0)
    np.testing.assert_allclose(
      np.asarray(selection.scores), expected, rtol=1e-4
    )

  def test_takes_the_longest_alone(self, key):
    selection = noise_stability.select(key, pools.make_pool(), budget=1)
    scores = np.asarray(selection.scores)
    np.testing.assert_array_equal(selection.indices, [scores.argmax()])

  def test_holds_no_deviation_per_noise(self):
    pool = pools.wide_pool(rows=2000, dim=40, classes=60)
    floats = pools.temporary_floats(noise_stability.select, pool, budget=3)
    assert floats < 10 * 2000 * (40 + 60)


class TestDrawNoise:
  def test_has_length_one(self, key):
    kernel = pools.KERNEL
    noises = [noise_stability.draw_noise(key, k, kernel) for k in range(2)]
    np.testing.assert_allclose(np.linalg.norm(noises, axis=(1, 2)), 1.0, 1e-6)
    assert not np.any(noises[0] == noises[1])
