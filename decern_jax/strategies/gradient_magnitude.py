"""Gradient magnitude: the examples that would change the head the most."""

import jax
import jax.numpy as jnp

from decern_jax.strategies.pool import Pool, Selection, take_highest


def select(key: jax.Array, pool: Pool, *, budget: int) -> Selection:
  """Selects the longest gradients of the cross-entropy by the head's kernel.

  With the likeliest class as the label, the gradient at an example with
  features h and prediction p is h outer (p - onehot(argmax p)), of length

    |h| |p - onehot(argmax p)|.

  Args:
    key: Unused: nothing is drawn.
    pool: The pool.
    budget: Examples to select, at most the candidates.

  Returns:
    The selection; scores are the lengths, 0 at examples that are not
    candidates.
  """
  del key
  return _select(pool, _likeliest_norms(pool.probs), budget=budget)


def select_multi_label(key: jax.Array, pool: Pool, *, budget: int) -> Selection:
  """Selects the longest gradients of the binary cross-entropy likewise.

  The criterion is published, the formula is this project's choice: with the
  thresholded prediction as the labels, the gradient of the sum over the labels
  c is h outer (p - [p >= 1/2]), of length

    |h| sqrt(sum over c of min(p_c, 1 - p_c)²),

  the least that any labels give. No pass backwards is made.

  Args:
    key: Unused: nothing is drawn.
    pool: The pool; its probabilities are those of single labels.
    budget: Examples to select, at most the candidates.

  Returns:
    The selection; scores are the lengths, 0 at examples that are not
    candidates.

  References:
    Möllenbrok and Demir, "Active Learning Guided Fine-Tuning for enhancing
    Self-Supervised Based Multi-Label Classification of Remote Sensing Images",
    IGARSS 2023, https://arxiv.org/abs/2306.06908.
  """
  del key
  return _select(pool, _binary_norms(pool.probs), budget=budget)


def _select(pool: Pool, residual_norms: jax.Array, *, budget: int) -> Selection:
  scores = _lengths(pool.features, residual_norms, pool.candidates)
  return Selection(take_highest(scores, pool.candidates, budget=budget), scores)


@jax.jit
def _likeliest_norms(probs):
  is_likeliest = (
    jnp.arange(probs.shape[-1])[None] == (jnp.argmax(probs, axis=-1)[:, None])
  )
  return jnp.linalg.norm(probs - is_likeliest.astype(probs.dtype), axis=-1)


@jax.jit
def _binary_norms(probs):
  return jnp.linalg.norm(jnp.minimum(probs, 1.0 - probs), axis=-1)


@jax.jit
def _lengths(features, residual_norms, candidates):
  lengths = jnp.linalg.norm(features, axis=-1) * residual_norms
  return jnp.where(candidates, lengths, 0.0)
