"""Temporal discrepancy: the predictions that the last round moved the most."""

import jax
import jax.numpy as jnp

from decern_jax.strategies import random
from decern_jax.strategies.pool import Pool, Selection, take_highest


def select(key: jax.Array, pool: Pool, *, budget: int) -> Selection:
  """Selects the largest changes of the prediction between two rounds.

  With the predictions p of this round's model and p' of that of the round
  before, the score is |p - p'|, a lower bound of the loss that is left at the
  example. In the first round there is no model before, and the selection is
  random. Works likewise where an example has several labels.

  Args:
    key: Random key of the first round's draw.
    pool: The pool.
    budget: Examples to select, at most the candidates.

  Returns:
    The selection; scores are the distances, 0 at examples that are not
    candidates. Of the first round there are none.

  References:
    Huang, Wang, Huang, Dong, Liu, Lin and Liu, "Semi-Supervised Active Learning
    with Temporal Output Discrepancy", ICCV 2021,
    https://arxiv.org/abs/2107.14153. Möllenbrok, Sumbul and Demir, "Deep Active
    Learning for Multi-Label Classification of Remote Sensing Images", IEEE GRSL
    2023, https://arxiv.org/abs/2212.01165.
  """
  if pool.previous_probs is None:
    return random.select(key, pool, budget=budget)
  scores = _distances(pool.probs, pool.previous_probs, pool.candidates)
  return Selection(take_highest(scores, pool.candidates, budget=budget), scores)


@jax.jit
def _distances(probs, previous_probs, candidates):
  distances = jnp.linalg.norm(probs - previous_probs, axis=-1)
  return jnp.where(candidates, distances, 0.0)
