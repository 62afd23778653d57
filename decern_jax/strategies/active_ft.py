"""ActiveFT: a batch that is distributed as the pool, yet diverse."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from decern_jax.ops.block import compaction
from decern_jax.ops.distances import nearest_distinct, normalize
from decern_jax.strategies.base import Pool, Selection, Strategy, register
from decern_jax.strategies.pick import (
  draw_uniform,
  take_highest,
  unit_features,
)

TEMPERATURE = 0.07
NUM_STEPS = 300
LEARNING_RATE = 1e-3
# Examples of a step. From a larger pool, each step draws its own sample.
BATCH_SIZE = 8192


def select(key: Key[Array, ""], pool: Pool, *, budget: int) -> Selection:
  """Selects the examples nearest to centers that spread over the candidates.

  Centers c_1 … c_b of length 1 start at random candidates. With x the features
  of the candidates, scaled to length 1, 300 steps of Adam minimise

    -mean over x of max over j of x · c_j / T
    + mean over j of log sum over k ≠ j of exp(c_j · c_k / T),  T = 0.07.

  Then each center in turn takes the nearest candidate that is not taken yet.
  Labeled examples play no role. In a pool of more than 8192 examples, each step
  uses 8192 candidates, drawn with replacement.

  Returns:
    The selection, without scores.

  References:
    Xie, Lu, Yan, Yang, Tomizuka and Zhan, "Active Finetuning: Exploiting
    Annotation Budget in the Pretraining-Finetuning Paradigm", CVPR 2023,
    https://arxiv.org/abs/2303.14382.
  """
  start_key, batch_key = jax.random.split(key)
  directions = unit_features(pool.features, pool.candidates)
  noise = draw_uniform(start_key, pool.candidates)
  start = take_highest(noise, pool.candidates, budget=budget)
  indices = _select(
    batch_key,
    directions,
    pool.candidates,
    start,
    budget=budget,
    batch_size=BATCH_SIZE,
  )
  return Selection(indices, None)


@functools.partial(jax.jit, static_argnames=("budget", "batch_size"))
def _select(key, directions, candidates, start, *, budget, batch_size):
  import optax

  batch_of = _sampler(key, directions, candidates, batch_size)
  optimizer = optax.adam(LEARNING_RATE)

  def step(index, state):
    centers, opt_state = state
    gradient = jax.grad(loss)(centers, *batch_of(index))
    update, opt_state = optimizer.update(gradient, opt_state)
    return optax.apply_updates(centers, update), opt_state

  centers = directions[start]
  # The step count becomes a float, because optax computes float ** count, which
  # strict type promotion refuses for an integer.
  opt_state = optax.tree.cast(optimizer.init(centers), centers.dtype)
  state = (centers, opt_state)
  centers, _ = jax.lax.fori_loop(0, NUM_STEPS, step, state)
  return nearest_distinct(
    directions, normalize(centers), candidates, budget=budget
  )


def _sampler(key, directions, candidates, batch_size):
  """Returns a function from the step to its rows and their weights."""
  weights = candidates.astype(directions.dtype)
  if len(directions) <= batch_size:
    return lambda index: (directions, weights)
  order = compaction(candidates)
  count = jnp.sum(candidates)
  ones = jnp.ones(batch_size, directions.dtype)

  def draw(index):
    step_key = jax.random.fold_in(key, index)
    rank = jax.random.randint(step_key, (batch_size,), 0, count)
    return directions[order[rank]], ones

  return draw


def loss(
  centers: Float[Array, "centers dim"],
  rows: Float[Array, "rows dim"],
  weights: Float[Array, " rows"],
) -> Float[Array, ""]:
  """Returns the loss of centers that are far from rows or near each other.

  Args:
    centers: Centers of any length but 0.
    rows: Features of length 1.
    weights: 1 where a row counts, else 0.

  Returns:
    The loss; for one center, without the second term.
  """
  highest = jax.lax.Precision.HIGHEST
  centers = normalize(centers)
  # Only the nearest center of a row has a gradient, so the products with the
  # others need no backward pass.
  fixed = jax.lax.stop_gradient(centers)
  nearest = jnp.argmax(jnp.matmul(rows, fixed.T, precision=highest), axis=-1)
  similarity = jnp.sum(rows * centers[nearest], axis=-1)
  pull = jnp.sum(weights * similarity) / jnp.sum(weights) / TEMPERATURE
  if len(centers) == 1:
    return -pull
  between = jnp.matmul(centers, centers.T, precision=highest) / TEMPERATURE
  is_self = jnp.eye(len(centers), dtype=bool)
  between = jnp.where(is_self, -jnp.inf, between)
  return jnp.mean(jax.nn.logsumexp(between, axis=-1)) - pull


register(Strategy("active_ft", select, select, needs=("features",)))
