"""Margin sampling: the closest decisions first."""

import jax

from decern_jax.ops import uncertainty
from decern_jax.strategies.pool import Pool, Selection, take_highest


def select(key: jax.Array, pool: Pool, *, budget: int) -> Selection:
  """Selects the smallest differences between the two likeliest classes.

  Args:
    key: Unused: nothing is drawn.
    pool: The pool.
    budget: Examples to select, at most the candidates.

  Returns:
    The selection; scores are 1 - margin, in [0, 1].

  References:
    Scheffer, Decomain and Wrobel, "Active Hidden Markov Models for Information
    Extraction", IDA 2001.
  """
  del key
  scores = _closeness(pool.probs)
  return Selection(take_highest(scores, pool.candidates, budget=budget), scores)


def select_multi_label(key: jax.Array, pool: Pool, *, budget: int) -> Selection:
  """Selects the smallest |2 p - 1| of any label.

  Args:
    key: Unused: nothing is drawn.
    pool: The pool; its probabilities are those of single labels.
    budget: Examples to select, at most the candidates.

  Returns:
    The selection; scores are 1 - the smallest |2 p - 1|, in [0, 1].
  """
  del key
  scores = _binary_closeness(pool.probs)
  return Selection(take_highest(scores, pool.candidates, budget=budget), scores)


@jax.jit
def _closeness(probs):
  return 1.0 - uncertainty.margin(probs)


@jax.jit
def _binary_closeness(probs):
  return 1.0 - uncertainty.binary_margin(probs)
