"""Tests of decern_jax/training/recipe.py, against NumPy."""

from dataclasses import replace
import math

import jax
import jax.numpy as jnp
import numpy as np

from decern_jax.training.recipe import (
  OPTIMIZERS,
  Recipe,
  apply_gradient,
  learning_rates,
  make_optimizer,
)
from tests.table import each

PUBLISHED = Recipe(
  num_epochs=200,
  batch_size=128,
  learning_rate=1e-3,
  warmup_epochs=5,
  warmup_learning_rate=1e-6,
  final_learning_rate=1e-5,
)
BY_STEP = Recipe(
  num_epochs=10,
  batch_size=8,
  learning_rate=2.0,
  warmup_epochs=2,
  steps_per_epoch=3,
)


def rates_of(**changes) -> np.ndarray:
  """The rates by epoch."""
  recipe = replace(PUBLISHED, **changes)
  return np.asarray(learning_rates(recipe, jnp.arange(recipe.num_epochs)))


def step_rates(**changes) -> np.ndarray:
  recipe = replace(BY_STEP, **changes)
  steps = jnp.arange(recipe.num_steps)
  return np.asarray(learning_rates(recipe, steps, by_step=True))


class TestLearningRates:
  def test_published_schedule_warms_up_and_decays(self):
    rates = rates_of()
    assert rates.shape == (200,)
    np.testing.assert_allclose(rates[0], 1e-6, rtol=1e-3)
    np.testing.assert_allclose(np.diff(rates[:6]), 999e-6 / 5, rtol=1e-4)
    assert rates.argmax() == 5
    np.testing.assert_allclose(rates[5], 1e-3, rtol=1e-6)
    # The cosine would reach 1e-5 in the epoch after the last.
    epochs = np.arange(195)
    expected = 1e-5 + 0.5 * 99e-5 * (1.0 + np.cos(math.pi * epochs / 195))
    np.testing.assert_allclose(rates[5:], expected, rtol=1e-4)

  def test_starts_at_the_peak_without_warmup(self):
    np.testing.assert_allclose(rates_of(warmup_epochs=0)[0], 1e-3, rtol=1e-6)
    np.testing.assert_allclose(step_rates(warmup_epochs=0)[0], 2.0)

  def test_may_warm_up_all_the_time(self):
    rates = rates_of(num_epochs=4, warmup_epochs=4)
    np.testing.assert_allclose(np.diff(rates), 999e-6 / 4, rtol=1e-4)
    rates = step_rates(warmup_epochs=10)
    np.testing.assert_allclose(rates, np.arange(1, 31) / 15, rtol=1e-5)

  def test_one_epoch_has_a_rate(self):
    found = rates_of(num_epochs=1, warmup_epochs=0)
    np.testing.assert_allclose(found, [1e-3], rtol=1e-6)

  def test_by_step_rises_from_zero_to_the_peak_and_falls_to_zero(self):
    rates = step_rates()
    np.testing.assert_allclose(rates[:6], np.arange(1, 7) / 3, rtol=1e-5)
    expected = 1.0 + np.cos(math.pi * np.arange(24) / 24)
    np.testing.assert_allclose(rates[6:], expected, rtol=1e-4, atol=1e-6)


PARAMS = {
  "kernel": np.random.default_rng(0).normal(size=(3, 2)).astype(np.float32),
  "bias": np.ones(2, np.float32),
}
GRADIENTS = [
  {
    name: np.random.default_rng(seed).normal(size=leaf.shape).astype("f4")
    for name, leaf in PARAMS.items()
  }
  for seed in (1, 2, 3)
]
RATES = (0.5, 0.25, 0.125)


def optimize(optimizer: str, weight_decay: float):
  """Makes three steps; strict promotion of types is on in all tests."""
  recipe = replace(PUBLISHED, optimizer=optimizer, weight_decay=weight_decay)
  step = jax.jit(
    lambda params, state, gradient, rate: apply_gradient(
      recipe, params, state, gradient, rate
    )
  )
  params, state = PARAMS, make_optimizer(recipe).init(PARAMS)
  for gradient, rate in zip(GRADIENTS, RATES, strict=True):
    params, state = step(params, state, gradient, np.float32(rate))
  return params


def naive_adamw(name: str, weight_decay: float) -> np.ndarray:
  """Algorithm 2 of Loshchilov and Hutter, "Decoupled weight decay"."""
  value = PARAMS[name].astype(np.float64)
  first = second = np.zeros_like(value)
  for count, gradient in enumerate(GRADIENTS, start=1):
    first = 0.9 * first + 0.1 * gradient[name]
    second = 0.999 * second + 0.001 * gradient[name].astype(np.float64) ** 2
    move = first / (1 - 0.9**count)
    move /= np.sqrt(second / (1 - 0.999**count)) + 1e-8
    decay = weight_decay if name == "kernel" else 0.0
    value = value - RATES[count - 1] * (move + decay * value)
  return value


def naive_lars(name: str, weight_decay: float) -> np.ndarray:
  """You et al., "Large Batch Training", with a trust ratio for kernels only."""
  value = PARAMS[name].astype(np.float64)
  momentum = np.zeros_like(value)
  for gradient, rate in zip(GRADIENTS, RATES, strict=True):
    move = gradient[name].astype(np.float64)
    if name == "kernel":
      move = move + weight_decay * value
      move *= 1e-3 * np.linalg.norm(value) / np.linalg.norm(move)
    momentum = 0.9 * momentum - rate * move
    value = value + momentum
  return value


class TestMakeOptimizer:
  @each("weight_decay", [0.0, 0.3])
  @each("name", PARAMS)
  @each("optimizer, naive", [("adamw", naive_adamw), ("lars", naive_lars)])
  def test_matches_numpy(self, optimizer, naive, name, weight_decay):
    found = optimize(optimizer, weight_decay)[name]
    expected = naive(name, weight_decay)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)

  @each("optimizer", OPTIMIZERS)
  def test_counts_in_float32(self, optimizer):
    """So that a checkpoint holds no other type than a later step gives."""
    state = make_optimizer(replace(PUBLISHED, optimizer=optimizer)).init(PARAMS)
    for leaf in jax.tree.leaves(state):
      assert leaf.dtype == np.float32
