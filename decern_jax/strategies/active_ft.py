"""ActiveFT: a batch that is distributed as the pool, yet diverse."""

import functools

import jax
import jax.numpy as jnp
import optax

from decern_jax.ops.block import compaction
from decern_jax.ops.distances import nearest_distinct, normalize
from decern_jax.ops.keys import uniform_at
from decern_jax.strategies.pool import Pool, Selection, take_highest

TEMPERATURE = 0.07
NUM_STEPS = 300
LEARNING_RATE = 1e-3
# Examples of a step; of a larger pool they are drawn anew in every step.
BATCH_SIZE = 8192


def select(key: jax.Array, pool: Pool, *, budget: int) -> Selection:
  """Selects the examples nearest to centers that spread over the candidates.

  Centers c_1 … c_b of length 1 start at random candidates, and 300 steps of
  Adam minimise over the features x of the candidates, scaled to length 1,

    -mean over x of max over j of x · c_j / T
    + mean over j of log sum over k ≠ j of exp(c_j · c_k / T),  T = 0.07.

  Then each center in turn takes the nearest candidate not taken yet. What is
  labeled already has no part in it. Of a pool of more than 8192 examples, each
  step sees as many candidates, drawn with replacement.

  Args:
    key: Random key of the start and of the batches.
    pool: The pool.
    budget: Examples to select, at most the candidates.

  Returns:
    The selection, without scores.

  References:
    Xie, Lu, Yan, Yang, Tomizuka and Zhan, "Active Finetuning: Exploiting
    Annotation Budget in the Pretraining-Finetuning Paradigm", CVPR 2023,
    https://arxiv.org/abs/2303.14382.
  """
  start_key, batch_key = jax.random.split(key)
  directions = _directions(pool.features, pool.candidates)
  start = take_highest(
    _chance(start_key, pool.candidates), pool.candidates, budget=budget
  )
  positions = _select(
    batch_key,
    directions,
    pool.candidates,
    start,
    budget=budget,
    batch_size=BATCH_SIZE,
  )
  return Selection(positions, None)


@jax.jit
def _directions(features, candidates):
  return normalize(jnp.where(candidates[:, None], features, 0.0))


@jax.jit
def _chance(key, candidates):
  return uniform_at(key, jnp.arange(len(candidates)))


@functools.partial(jax.jit, static_argnames=("budget", "batch_size"))
def _select(key, directions, candidates, start, *, budget, batch_size):
  batch_of = _sampler(key, directions, candidates, batch_size)
  optimizer = optax.adam(LEARNING_RATE)

  def step(index, state):
    centers, opt_state = state
    gradient = jax.grad(loss)(centers, *batch_of(index))
    # Adam in optax raises a float to the power of an integer.
    with jax.numpy_dtype_promotion("standard"):
      update, opt_state = optimizer.update(gradient, opt_state)
    return optax.apply_updates(centers, update), opt_state

  centers = directions[start]
  state = (centers, optimizer.init(centers))
  centers, _ = jax.lax.fori_loop(0, NUM_STEPS, step, state)
  return nearest_distinct(
    directions, normalize(centers), candidates, budget=budget
  )


def _sampler(key, directions, candidates, batch_size):
  """Returns a function of the step to the rows it sees, and their weights."""
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


def loss(centers: jax.Array, rows: jax.Array, weights: jax.Array) -> jax.Array:
  """Returns how badly centers cover the rows, and how near they are.

  Args:
    centers: [centers, dim], of any length but 0.
    rows: [rows, dim], of length 1.
    weights: [rows], 1 where a row counts, else 0.

  Returns:
    The loss; of one center without the second term.
  """
  highest = jax.lax.Precision.HIGHEST
  centers = normalize(centers)
  # Only the nearest center of a row has a gradient: no need to go back through
  # the products with all others.
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
