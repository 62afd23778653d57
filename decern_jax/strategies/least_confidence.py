"""Least confidence: the least likely predictions first."""

import jax

from decern_jax.ops import uncertainty
from decern_jax.strategies.pool import Pool, Selection, take_highest

_least_confidence = jax.jit(uncertainty.least_confidence)
_binary_least_confidence = jax.jit(uncertainty.binary_least_confidence)


def select(key: jax.Array, pool: Pool, *, budget: int) -> Selection:
  """Selects the predictions whose likeliest class is the least likely.

  Args:
    key: Unused: nothing is drawn.
    pool: The pool.
    budget: Examples to select, at most the candidates.

  Returns:
    The selection; scores are 1 - max p, in [0, 1].

  References:
    Lewis and Gale, "A Sequential Algorithm for Training Text Classifiers",
    SIGIR 1994.
  """
  del key
  scores = _least_confidence(pool.probs)
  return Selection(take_highest(scores, pool.candidates, budget=budget), scores)


def select_multi_label(key: jax.Array, pool: Pool, *, budget: int) -> Selection:
  """Selects the highest mean over labels of 1 - max(p, 1 - p).

  Args:
    key: Unused: nothing is drawn.
    pool: The pool; its probabilities are those of single labels.
    budget: Examples to select, at most the candidates.

  Returns:
    The selection; scores are the means, in [0, 1/2].
  """
  del key
  scores = _binary_least_confidence(pool.probs)
  return Selection(take_highest(scores, pool.candidates, budget=budget), scores)
