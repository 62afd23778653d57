"""Noise stability: the outputs that noise on the parameters moves the most."""

import functools

import jax
import jax.numpy as jnp

from decern_jax.ops import head as linear
from decern_jax.ops.distances import greedy_k_center
from decern_jax.strategies.pool import Pool, Selection

NUM_NOISES = 30
# Eigenvalues below this, by the largest, are rounding.
ROUNDING = 1e-6


def select(key: jax.Array, pool: Pool, *, budget: int) -> Selection:
  """Selects by the deviations of the logits under noise on the head.

  With 30 Gaussian noises E_k of one length on the kernel W, the deviations of
  the logits z of a feature x, relative to them, are the rows

    d = [x E_1, …, x E_30] / |z|.

  The candidate with the longest d is selected first, then again and again the
  one farthest from those selected. The size of the noise, 1/1000 of |W| as
  published, scales the deviations of a linear head all alike, so it is left
  out.

  Only the distances between deviations matter, and for E = [E_1, …, E_30]
  these are the distances between x (E Eᵀ)^½ / |z|: the memory is that of the
  features, whatever the numbers of noises and classes.

  Args:
    key: Random key of the noises.
    pool: The pool.
    budget: Examples to select, at most the candidates.

  Returns:
    The selection; scores are the lengths |d|, 0 at examples that are not
    candidates.

  References:
    Li et al., "Deep Active Learning with Noise Stability", AAAI 2024,
    https://arxiv.org/abs/2205.13340.
  """
  return Selection(*_select(key, pool, budget=budget))


@functools.partial(jax.jit, static_argnames="budget")
def _select(key, pool, *, budget):
  root = _root(_noise_products(key, pool.head.kernel))
  features = jnp.where(pool.candidates[:, None], pool.features, 0.0)
  sizes = jnp.linalg.norm(linear.logits(pool.head, features), axis=-1)
  deviations = jnp.matmul(features, root, precision=jax.lax.Precision.HIGHEST)
  deviations = deviations / jnp.where(sizes > 0.0, sizes, 1.0)[:, None]
  scores = jnp.linalg.norm(deviations, axis=-1)
  first = jnp.argmax(jnp.where(pool.candidates, scores, -1.0))
  positions = first.astype(jnp.int32)[None]
  if budget == 1:
    return positions, scores
  is_first = jnp.arange(len(scores)) == first
  others = greedy_k_center(
    deviations, is_first, pool.candidates & ~is_first, budget=budget - 1
  )
  return jnp.concatenate([positions, others]), scores


def _noise_products(key, kernel) -> jax.Array:
  """Returns [dim, dim], the sum of E Eᵀ over the noises E of length 1."""

  def add(index, total):
    noise = draw_noise(key, index, kernel)
    product = jnp.matmul(noise, noise.T, precision=jax.lax.Precision.HIGHEST)
    return total + product

  dim = len(kernel)
  zeros = jnp.zeros((dim, dim), kernel.dtype)
  return jax.lax.fori_loop(0, NUM_NOISES, add, zeros)


def draw_noise(
  key: jax.Array, index: int | jax.Array, kernel: jax.Array
) -> jax.Array:
  """Returns a Gaussian noise on a kernel, of length 1.

  Args:
    key: Random key of all noises.
    index: Which of them, in [0, 30).
    kernel: [dim, classes].

  Returns:
    [dim, classes].
  """
  noise = jax.random.normal(
    jax.random.fold_in(key, index), kernel.shape, kernel.dtype
  )
  return noise / jnp.linalg.norm(noise)


def _root(square) -> jax.Array:
  """Returns a root R of a positive semidefinite matrix R Rᵀ."""
  values, vectors = jnp.linalg.eigh(square)
  values = jnp.where(values > ROUNDING * values[-1], values, 0.0)
  return vectors * jnp.sqrt(values)[None]
