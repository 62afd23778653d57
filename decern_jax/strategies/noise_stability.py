"""Noise stability: the outputs that change most under noise on parameters."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from decern_jax.ops import head as linear
from decern_jax.ops.distances import greedy_k_center
from decern_jax.strategies.base import Pool, Selection, Strategy, register

NUM_NOISES = 30
# Eigenvalues below this fraction of the largest are rounding errors.
ROUNDING = 1e-6


def select(key: Key[Array, ""], pool: Pool, *, budget: int) -> Selection:
  """Selects by the deviations of the logits under noise on the head.

  With 30 Gaussian noises E_k of equal length on the kernel W, the deviations of
  the logits z of a feature x, relative to them, are the rows

    d = [x E_1, …, x E_30] / |z|.

  The candidate with the longest d is selected first, then repeatedly the one
  farthest from those selected. The size of the noise, published as 1/1000 of
  |W|, scales all deviations of a linear head by one factor, so it is left out.

  Only distances between deviations matter. For E = [E_1, …, E_30] they are the
  distances between x (E Eᵀ)^½ / |z|, which take as much memory as the features,
  for any number of noises and classes.

  Returns:
    The selection; scores are the lengths |d|, 0 at examples that are not
    candidates.

  References:
    Li et al., "Deep Active Learning with Noise Stability", AAAI 2024,
    https://arxiv.org/abs/2205.13340.
  """
  return _select(key, pool, budget=budget)


@functools.partial(jax.jit, static_argnames="budget")
def _select(key, pool, *, budget) -> Selection:
  root = _root(_noise_products(key, pool.head.kernel))
  features = jnp.where(pool.candidates[:, None], pool.features, 0.0)
  sizes = jnp.linalg.norm(linear.logits(pool.head, features), axis=-1)
  deviations = jnp.matmul(features, root, precision=jax.lax.Precision.HIGHEST)
  deviations = deviations / jnp.where(sizes > 0.0, sizes, 1.0)[:, None]
  scores = jnp.linalg.norm(deviations, axis=-1)
  first = jnp.argmax(jnp.where(pool.candidates, scores, -1.0))
  indices = first.astype(jnp.int32)[None]
  if budget == 1:
    return Selection(indices, scores)
  is_first = jnp.arange(len(scores)) == first
  others = greedy_k_center(
    deviations, is_first, pool.candidates & ~is_first, budget=budget - 1
  )
  return Selection(jnp.concatenate([indices, others]), scores)


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
  key: Key[Array, ""],
  index: int | Int[Array, ""],
  kernel: Float[Array, "dim classes"],
) -> Float[Array, "dim classes"]:
  """Returns a Gaussian noise on a kernel, of length 1.

  Args:
    key: Random key of all noises.
    index: Index of the noise, in [0, 30).
    kernel: The kernel.
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


register(
  Strategy("noise_stability", select, select, needs=("features", "head"))
)
