"""BADGE: k-means++ on the gradients of the last layer."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from decern_jax.ops.distances import squares_by_products
from decern_jax.ops.seeding import sample_rows
from decern_jax.strategies.base import Pool, Selection, Strategy, register


def select(key: Key[Array, ""], pool: Pool, *, budget: int) -> Selection:
  """Selects examples whose gradients are large and unlike each other.

  With the most likely class as the label, the gradient of the cross-entropy by
  the head's kernel is g = h outer r, with r = p - onehot(argmax p). The first
  example has the largest |g|. Each further one is drawn with a probability
  proportional to the squared distance of its g to the nearest selected one.
  Distances follow from the products of the factors,

    g · g' = (h · h') (r · r'),

  so no gradient is stored.

  Returns:
    The selection, in the order of the draws; scores are the lengths |g|.

  References:
    Ash, Zhang, Krishnamurthy, Langford and Agarwal, "Deep Batch Active
    Learning by Diverse, Uncertain Gradient Lower Bounds", ICLR 2020,
    https://arxiv.org/abs/1906.03671.
  """
  return _select(
    key,
    pool.features,
    _top_residuals(pool.probs),
    pool.candidates,
    budget=budget,
  )


def select_multi_label(
  key: Key[Array, ""], pool: Pool, *, budget: int
) -> Selection:
  """Selects by the gradient of the binary cross-entropy: r = p - [p >= 1/2]."""
  return _select(
    key,
    pool.features,
    _binary_residuals(pool.probs),
    pool.candidates,
    budget=budget,
  )


@jax.jit
def _top_residuals(probs):
  top = jnp.argmax(probs, axis=-1)
  return probs - jax.nn.one_hot(top, probs.shape[-1], dtype=probs.dtype)


@jax.jit
def _binary_residuals(probs):
  return jnp.where(probs >= 0.5, probs - 1.0, probs)


@functools.partial(jax.jit, static_argnames="budget")
def _select(key, features, residuals, candidates, *, budget) -> Selection:
  norms = jnp.sum(features**2, axis=-1) * jnp.sum(residuals**2, axis=-1)
  norms = jnp.where(candidates, norms, 0.0)

  def take(step, state):
    distances, free, taken, index = state
    taken = taken.at[step].set(index)
    free = free & (jnp.arange(len(free)) != index)
    row = index[None]
    products = _products_with(features, row) * _products_with(residuals, row)
    squares = squares_by_products(products, norms[:, None], norms[row][None])
    distances = jnp.minimum(distances, squares[:, 0])
    index = _draw(jax.random.fold_in(key, step), distances, free)
    return distances, free, taken, index

  first = jnp.argmax(jnp.where(candidates, norms, -1.0)).astype(jnp.int32)
  start = (
    jnp.full(len(features), jnp.inf),
    candidates,
    jnp.zeros(budget, jnp.int32),
    first,
  )
  taken = jax.lax.fori_loop(0, budget, take, start)[2]
  return Selection(taken, jnp.sqrt(norms))


def _products_with(rows, index) -> jax.Array:
  """Returns the inner products of all rows with one, [pool, 1]."""
  return jnp.matmul(rows, rows[index].T, precision=jax.lax.Precision.HIGHEST)


def _draw(key, distances, free) -> jax.Array:
  """Draws a free index with probability proportional to the squares."""
  mass = jnp.where(free, distances, 0.0)
  # If all gradients that are left equal a selected one, draw uniformly.
  mass = jnp.where(jnp.sum(mass) > 0.0, mass, free.astype(mass.dtype))
  return sample_rows(key, mass, 1)[0].astype(jnp.int32)


register(
  Strategy("badge", select, select_multi_label, needs=("features", "probs"))
)
