"""BAIT: the batch whose Fisher information covers that of the pool."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from decern_jax.ops.block import compaction, fold_blocks, rows_at
from decern_jax.strategies.base import Pool, Selection, Strategy, register

# Added to the information of the labeled examples, times the identity.
REGULARIZER = 1.0
# Number of forward steps, as a multiple of the budget.
OVERSAMPLING = 2
# Labeled examples whose information is added in one step.
BLOCK_ROWS = 64
# Smallest 1 - vᵀ A v of an example that may be removed; below it, rounding
# errors dominate.
MIN_REMAINDER = 1e-6

_HIGHEST = jax.lax.Precision.HIGHEST


class Covariance(NamedTuple):
  """The inverse of a set's information M, and its product with the pool's.

  Attributes:
    inverse: A = M⁻¹.
    sandwich: B = A F A, with the information F of the pool.
  """

  inverse: Float[Array, "dim dim"]
  sandwich: Float[Array, "dim dim"]


def select(key: Key[Array, ""], pool: Pool, *, budget: int) -> Selection:
  """Selects by the Fisher information of the batch, forward and backward.

  The information of an example with features x and prediction p is v vᵀ, where
  v = sqrt(w) x and w = sum over classes of p (1 - p): the sum over the classes
  of the diagonal blocks of the exact one, (diag p - p pᵀ) ⊗ x xᵀ, which has
  (classes · dim)² entries. With F the mean of v vᵀ over all examples and M the
  sum over the labeled and selected ones, plus the identity, the objective is

    tr(M⁻¹ F).

  Forward steps add the example that lowers it the most, until there are twice
  the budget. Backward steps remove the example whose removal raises it the
  least, until the budget is left. Each step changes M by rank one, so M⁻¹,
  vᵀ M⁻¹ v and vᵀ M⁻¹ F M⁻¹ v are updated by Woodbury's formula: a step costs
  one product of the features with two vectors.

  Returns:
    The selection, without scores.

  References:
    Ash, Goel, Krishnamurthy and Kakade, "Gone Fishing: Neural Active Learning
    with Fisher Embeddings", NeurIPS 2021, https://arxiv.org/abs/2106.09675.
  """
  del key
  indices = _select(
    pool.features,
    _weights(pool.probs),
    pool.covered,
    pool.candidates,
    budget=budget,
  )
  return Selection(indices, None)


# The labels of an example are independent: their information is diagonal, with
# p (1 - p) of each label, and the weights are the same sum.
select_multi_label = select


@jax.jit
def _weights(probs):
  return jnp.sum(probs * (1.0 - probs), axis=-1)


@functools.partial(jax.jit, static_argnames="budget")
def _select(features, weights, labeled, candidates, *, budget):
  valid = labeled | candidates
  features = jnp.where(valid[:, None], features, 0.0)
  roots = jnp.sqrt(jnp.where(valid, jnp.maximum(weights, 0.0), 0.0))
  vectors = roots[:, None] * features
  start = _start(vectors, labeled, jnp.sum(valid, dtype=roots.dtype))
  covariance, taken, is_taken = _forward(
    vectors, candidates, start, num_steps=OVERSAMPLING * budget
  )
  kept = _backward(vectors[taken], is_taken, covariance, budget=budget)
  return taken[kept]


def _start(vectors, labeled, count) -> Covariance:
  """Returns the covariance of the labeled examples."""
  inverse = _labeled_inverse(vectors, labeled)
  fisher = jnp.matmul(vectors.T, vectors, precision=_HIGHEST) / count
  half = jnp.matmul(inverse, fisher, precision=_HIGHEST)
  return Covariance(inverse, jnp.matmul(half, inverse, precision=_HIGHEST))


def _labeled_inverse(vectors, labeled) -> jax.Array:
  """Returns the inverse of the information of the labeled examples.

  It is updated block by block, from the inverse of the regulariser. This keeps
  directions that no example covers exact, which inverting the sum would not.
  """
  order = compaction(labeled)
  identity = jnp.eye(BLOCK_ROWS, dtype=vectors.dtype)

  def add(inverse, start, fresh):
    rows = vectors[rows_at(order, start, len(fresh))]
    rows = jnp.where(fresh[:, None], rows, 0.0)
    half = jnp.matmul(rows, inverse, precision=_HIGHEST)
    inner = jnp.matmul(half, rows.T, precision=_HIGHEST)
    inner = inner + identity[: len(fresh), : len(fresh)]
    solved = jax.scipy.linalg.solve(inner, half, assume_a="pos")
    return inverse - jnp.matmul(half.T, solved, precision=_HIGHEST)

  return fold_blocks(
    add,
    jnp.eye(vectors.shape[-1], dtype=vectors.dtype) / REGULARIZER,
    num_rows=jnp.sum(labeled),
    max_rows=len(vectors),
    block_size=BLOCK_ROWS,
  )


def _forms(vectors, covariance) -> tuple[jax.Array, jax.Array]:
  """Returns vᵀ A v and vᵀ B v of each row v."""

  def form(matrix):
    product = jnp.matmul(vectors, matrix, precision=_HIGHEST)
    return jnp.sum(product * vectors, axis=-1)

  return form(covariance.inverse), form(covariance.sandwich)


def _change(vectors, covariance, forms, vector, sign):
  """Adds (sign 1) or removes (sign -1) the information of one example.

  With u = A v, t = B v and c = vᵀ A v + sign, M + sign · v vᵀ has

    A' = A - u uᵀ / c,   B' = B - (u tᵀ + t uᵀ) / c + (v·t) u uᵀ / c².
  """
  u = jnp.matmul(covariance.inverse, vector, precision=_HIGHEST)
  t = jnp.matmul(covariance.sandwich, vector, precision=_HIGHEST)
  # Bounded away from 0, as in `_backward`.
  c = sign * jnp.maximum(sign * jnp.sum(vector * u) + 1.0, MIN_REMAINDER)
  u = u / c
  stretch = jnp.sum(vector * t)
  cross = jnp.outer(u, t)
  covariance = Covariance(
    covariance.inverse - c * jnp.outer(u, u),
    covariance.sandwich - cross - cross.T + stretch * jnp.outer(u, u),
  )
  pair = jnp.stack([u, t], axis=-1)
  along = jnp.matmul(vectors, pair, precision=_HIGHEST)
  along_u, along_t = along[:, 0], along[:, 1]
  inverse, sandwich = forms
  inverse = inverse - c * along_u**2
  sandwich = sandwich - 2.0 * along_u * along_t + stretch * along_u**2
  # The quadratic form of a covariance is never negative.
  forms = (jnp.maximum(inverse, 0.0), jnp.maximum(sandwich, 0.0))
  return covariance, forms


def _forward(vectors, candidates, covariance, *, num_steps):
  """Takes the examples that lower the objective the most, one by one.

  Returns:
    The covariance with them, their indices [num_steps], and a mask: False at
    steps for which no candidate was left.
  """

  def take(step, state):
    covariance, forms, free, taken, is_taken = state
    inverse, sandwich = forms
    gain = jnp.where(free, sandwich / (1.0 + inverse), -1.0)
    best = jnp.argmax(gain)
    is_any = free[best]
    # By an array of indices: XLA would gather the whole pool for a scalar one.
    vector = jnp.where(is_any, vectors[best[None]][0], 0.0)
    covariance, forms = _change(vectors, covariance, forms, vector, 1.0)
    free = free & (jnp.arange(len(free)) != best)
    taken = taken.at[step].set(best.astype(jnp.int32))
    is_taken = is_taken.at[step].set(is_any)
    return covariance, forms, free, taken, is_taken

  start = (
    covariance,
    _forms(vectors, covariance),
    candidates,
    jnp.zeros(num_steps, jnp.int32),
    jnp.zeros(num_steps, bool),
  )
  state = jax.lax.fori_loop(0, num_steps, take, start)
  return state[0], state[3], state[4]


def _backward(vectors, is_taken, covariance, *, budget) -> jax.Array:
  """Removes the examples whose removal raises the objective the least.

  Returns:
    [budget], the rows of `vectors` that stay, in order.
  """

  def drop(_, state):
    covariance, forms, kept = state
    inverse, sandwich = forms
    remainder = jnp.maximum(1.0 - inverse, MIN_REMAINDER)
    loss = jnp.where(kept, sandwich / remainder, jnp.inf)
    worst = jnp.argmin(loss)
    vector = vectors[worst]
    covariance, forms = _change(vectors, covariance, forms, vector, -1.0)
    return covariance, forms, kept & (jnp.arange(len(kept)) != worst)

  start = (covariance, _forms(vectors, covariance), is_taken)
  num_drops = jnp.sum(is_taken) - budget
  kept = jax.lax.fori_loop(0, num_drops, drop, start)[2]
  return compaction(kept)[:budget]


register(
  Strategy(
    "bait",
    select,
    select_multi_label,
    needs=("features", "probs", "labels"),
  )
)
