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


@jax.jit
def _closeness(probs):
  return 1.0 - uncertainty.margin(probs)
