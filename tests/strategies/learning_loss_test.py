"""Tests of decern_jax/strategies/learning_loss.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from decern_jax.strategies import learning_loss
from tests import oracle
from tests.strategies import pools
from tests.table import each

STAGE_DIMS = (3, 5)


@pytest.fixture
def module(key) -> learning_loss.LossModule:
  return learning_loss.init(key, stage_dims=STAGE_DIMS)


def draw_stages(size: int) -> tuple[jax.Array, ...]:
  rng = np.random.default_rng(1)
  return tuple(
    jnp.asarray(rng.normal(size=(size, dim)), jnp.float32) for dim in STAGE_DIMS
  )


def naive_ranking(predicted, losses) -> float:
  pairs = [(i, len(losses) - 1 - i) for i in range(len(losses) // 2)]
  signs = [1.0 if losses[i] > losses[j] else -1.0 for i, j in pairs]
  losses = [
    max(0.0, 1.0 - sign * (predicted[i] - predicted[j]))
    for sign, (i, j) in zip(signs, pairs, strict=True)
  ]
  return float(np.mean(losses))


class TestInit:
  def test_has_a_layer_for_each_stage(self, module):
    shapes = [layer.kernel.shape for layer in module.hidden]
    assert shapes == [(3, 128), (5, 128)]
    assert module.output.kernel.shape == (256, 1)

  def test_layers_differ_by_key(self, module, key):
    other = learning_loss.init(jax.random.split(key)[0], stage_dims=STAGE_DIMS)
    for ours, theirs in zip(
      *map(jax.tree.leaves, (module, other)), strict=True
    ):
      assert (np.asarray(ours) != np.asarray(theirs)).any()


class TestPredictLosses:
  def test_matches_the_layers_by_hand(self, module):
    stages = draw_stages(7)
    found = learning_loss.predict_losses(module, stages)
    expected = oracle.predicted_losses(module, stages)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


class TestRankingLoss:
  @each("num_rows", [8, 5])
  def test_matches_mirrored_pairs_by_hand(self, module, num_rows):
    stages = draw_stages(8)
    losses = jnp.asarray(np.random.default_rng(2).random(8, np.float32))
    found = learning_loss.ranking_loss(
      module,
      stages,
      losses,
      epoch=0,
      num_epochs=1,
      num_rows=jnp.asarray(num_rows),
    )
    predicted = oracle.predicted_losses(module, stages)[:num_rows]
    expected = naive_ranking(predicted, losses[:num_rows])
    np.testing.assert_allclose(found, expected, rtol=1e-4)

  @each("num_epochs, num_passing", [(200, 120), (4, 3), (5, 3), (1, 1)])
  def test_reaches_the_stages_in_three_fifths_of_the_epochs(
    self, module, num_epochs, num_passing
  ):
    stages, losses = draw_stages(4), jnp.arange(4.0)

    @jax.jit
    @jax.vmap
    def slopes(epoch):
      return jax.grad(learning_loss.ranking_loss, argnums=1)(
        module, stages, losses, epoch=epoch, num_epochs=num_epochs
      )[0]

    found = np.asarray(slopes(jnp.arange(num_epochs)))
    assert found.any(axis=(1, 2)).tolist() == [
      epoch < num_passing for epoch in range(num_epochs)
    ]


class TestSelect:
  def test_takes_the_highest_predictions_of_either_sign(self):
    pool = pools.make_pool(auxiliary=pools.AUXILIARY - 100.0)
    found = pools.select("learning_loss", pool)
    expected = pools.highest(pools.AUXILIARY, pools.BUDGET)
    np.testing.assert_array_equal(found.indices, expected)
    np.testing.assert_array_equal(found.scores, pool.auxiliary)
