"""Tests of decern_jax/ops/ranking_loss.py."""

import jax
import numpy as np

from decern_jax.distributed.sharding import make_mesh, place_pool
from decern_jax.ops.ranking_loss import mirrored_ranking_loss
from tests import oracle
from tests.table import each

RNG = np.random.default_rng(0)
jitted = jax.jit(mirrored_ranking_loss)


def naive_loss(predicted, losses, margin):
  costs = []
  for i in range(len(losses) // 2):
    j = len(losses) - 1 - i
    sign = 1.0 if losses[i] > losses[j] else -1.0
    gap = oracle.float64(predicted[i]) - oracle.float64(predicted[j])
    costs.append(max(0.0, margin - sign * gap))
  return np.mean(costs) if costs else 0.0


def published_loss(predicted, losses) -> float:
  """The authors' definition, on an even batch."""
  half = len(predicted) // 2
  predicted = (predicted - predicted[::-1])[:half]
  losses = (losses - losses[::-1])[:half]
  one = 2.0 * np.sign(np.clip(losses, 0.0, None)) - 1.0
  return np.clip(1.0 - one * predicted, 0.0, None).sum() / half


def make_batch(size: int) -> tuple[np.ndarray, np.ndarray]:
  predicted = oracle.float32(2.0 * RNG.normal(size=size))
  # Some are equal.
  losses = oracle.float32(RNG.integers(0, 4, size) / 2)
  return predicted, losses


class TestMirroredRankingLoss:
  @each("num_rows", [0, 1, 2, 3, 8, 127, 128])
  @each("margin", [0.5, 1.0])
  def test_matches_naive_pairs_whatever_follows_the_batch(
    self, num_rows, margin
  ):
    predicted, losses = make_batch(128)
    predicted[num_rows:] = 1e6
    found = jitted(
      predicted, losses, num_rows=np.int32(num_rows), margin=margin
    )
    batch = predicted[:num_rows], losses[:num_rows]
    np.testing.assert_allclose(found, naive_loss(*batch, margin), rtol=1e-5)

  @each("size", [1, 9])
  def test_takes_all_rows_by_default(self, size):
    batch = make_batch(size)
    expected = naive_loss(*batch, 1.0)
    np.testing.assert_allclose(jitted(*batch), expected, rtol=1e-5)

  def test_matches_the_published_definition(self):
    batch = make_batch(8)
    expected = published_loss(*batch)
    np.testing.assert_allclose(jitted(*batch), expected, rtol=1e-5)

  def test_is_zero_where_the_ranking_is_right_by_the_margin(self):
    losses = oracle.float32([3.0, 0.0, 1.0, 2.0, 0.0, 3.0, 1.0, 0.0])
    assert jitted(2.0 * losses, losses) == 0.0
    assert jitted(-2.0 * losses, losses) > 1.0

  def test_nothing_flows_into_the_losses(self):
    gradient = jax.jit(jax.grad(mirrored_ranking_loss, (0, 1)))
    by_predicted, by_losses = gradient(*make_batch(8))
    assert np.asarray(by_predicted).any()
    assert not np.asarray(by_losses).any()

  def test_ignores_a_shift_of_the_predictions(self):
    predicted, losses = make_batch(9)
    np.testing.assert_allclose(
      jitted(predicted + oracle.float32(4.0), losses),
      jitted(predicted, losses),
      rtol=1e-5,
    )

  def test_is_independent_of_shard_count(self):
    batch = make_batch(64)
    placed = [place_pool(array, make_mesh(8)) for array in batch]
    found = jitted(*placed)
    np.testing.assert_allclose(found, naive_loss(*batch, 1.0), rtol=1e-5)
