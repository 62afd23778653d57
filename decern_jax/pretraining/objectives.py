"""Losses of self-supervised objectives, on the outputs of a projector."""

import jax
import jax.numpy as jnp
import optax

# Added to the variance over the batch, as in the authors' code.
_EPSILON = 1e-5


def normalize(outputs: jax.Array) -> jax.Array:
  """Scales rows to length 1; a row of zeros stays zero, with a finite gradient.

  Args:
    outputs: float [..., dim].

  Returns:
    float [..., dim].
  """
  squares = jnp.sum(outputs**2, axis=-1, keepdims=True)
  return outputs * jax.lax.rsqrt(jnp.maximum(squares, 1e-12))


def nt_xent(
  first: jax.Array, second: jax.Array, *, temperature: float
) -> jax.Array:
  """Computes the loss of SimCLR, the normalised cross-entropy of pairs.

  With the 2N outputs z scaled to length 1, and z_j the other view of z_i's
  image,

    loss = mean_i -log(exp(z_i·z_j / T) / sum_(k != i) exp(z_i·z_k / T)).

  Args:
    first: float [batch, dim], outputs of one view of each image; N = batch.
    second: float [batch, dim], those of the other view.
    temperature: T, positive.

  Returns:
    float [], the mean over both views of all images.

  References:
    Chen et al., "A Simple Framework for Contrastive Learning of Visual
    Representations", ICML 2020, https://arxiv.org/abs/2002.05709.
  """
  first, second = normalize(first), normalize(second)
  itself = jnp.eye(len(first), dtype=bool)

  def one_side(queries: jax.Array, others: jax.Array) -> jax.Array:
    same_side = jnp.where(itself, -jnp.inf, queries @ queries.T / temperature)
    across = queries @ others.T / temperature
    similarities = jnp.concatenate([across, same_side], axis=1)
    return jax.nn.logsumexp(similarities, axis=1) - jnp.diagonal(across)

  losses = jnp.stack([one_side(first, second), one_side(second, first)])
  return jnp.mean(losses)


def barlow_twins(
  first: jax.Array, second: jax.Array, *, off_diagonal_weight: float
) -> jax.Array:
  """Computes the loss of Barlow Twins.

  With C the correlations, over the batch, of the coordinates of one view's
  outputs with those of the other's,

    loss = sum_i (1 - C_ii)^2 + lambda · sum_(i != j) C_ij^2.

  Args:
    first: float [batch, dim], outputs of one view of each image.
    second: float [batch, dim], those of the other view.
    off_diagonal_weight: lambda, at least 0.

  Returns:
    float [].

  References:
    Zbontar et al., "Barlow Twins: Self-Supervised Learning via Redundancy
    Reduction", ICML 2021, https://arxiv.org/abs/2103.03230.
  """
  first, second = _standardize(first), _standardize(second)
  correlations = first.T @ second / len(first)
  diagonal = jnp.diagonal(correlations)
  off_diagonal = jnp.where(
    jnp.eye(len(diagonal), dtype=bool), 0.0, correlations
  )
  return jnp.sum((1.0 - diagonal) ** 2) + off_diagonal_weight * jnp.sum(
    off_diagonal**2
  )


def moco(
  queries: jax.Array, keys: jax.Array, queue: jax.Array, *, temperature: float
) -> jax.Array:
  """Computes the loss of MoCo: each query must find its key among others.

  With all rows scaled to length 1, q_i a query, k_i the key of the same image
  and n_j the keys in the queue,

    loss = mean_i -log(exp(q_i·k_i / T)
                       / (exp(q_i·k_i / T) + sum_j exp(q_i·n_j / T))).

  Args:
    queries: float [batch, dim], outputs of the trained network.
    keys: float [batch, dim], outputs of the momentum network for the other
      view; no gradient passes.
    queue: float [queue, dim], keys of earlier batches, of length 1.
    temperature: T, positive.

  Returns:
    float [].

  References:
    He et al., "Momentum Contrast for Unsupervised Visual Representation
    Learning", CVPR 2020, https://arxiv.org/abs/1911.05722; Chen et al.,
    "Improved Baselines with Momentum Contrastive Learning", 2020,
    https://arxiv.org/abs/2003.04297.
  """
  queries = normalize(queries)
  keys = jax.lax.stop_gradient(normalize(keys))
  queue = jax.lax.stop_gradient(queue)
  positive = jnp.sum(queries * keys, axis=1, keepdims=True)
  similarities = jnp.concatenate([positive, queries @ queue.T], axis=1)
  return jnp.mean(
    optax.softmax_cross_entropy_with_integer_labels(
      similarities / temperature, jnp.zeros(len(queries), jnp.int32)
    )
  )


def _standardize(outputs: jax.Array) -> jax.Array:
  """Gives every coordinate mean 0 and variance 1 over the batch."""
  centered = outputs - jnp.mean(outputs, axis=0, keepdims=True)
  variance = jnp.mean(centered**2, axis=0, keepdims=True)
  return centered * jax.lax.rsqrt(variance + _EPSILON)
