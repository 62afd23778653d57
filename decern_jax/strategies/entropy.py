"""Entropy sampling: the least predictable first."""

import jax

from decern_jax.ops import uncertainty
from decern_jax.strategies.pool import Pool, Selection, take_highest

_entropy = jax.jit(uncertainty.entropy)
_binary_entropy = jax.jit(uncertainty.binary_entropy)


def select(key: jax.Array, pool: Pool, *, budget: int) -> Selection:
  """Selects the predictions with the highest entropy.

  Args:
    key: Unused: nothing is drawn.
    pool: The pool.
    budget: Examples to select, at most the candidates.

  Returns:
    The selection; scores are the entropies, in nats.

  References:
    Settles, "Active Learning Literature Survey", 2009.
  """
  del key
  scores = _entropy(pool.probs)
  return Selection(take_highest(scores, pool.candidates, budget=budget), scores)


def select_multi_label(key: jax.Array, pool: Pool, *, budget: int) -> Selection:
  """Selects the highest sums of the entropies of the labels.

  Args:
    key: Unused: nothing is drawn.
    pool: The pool; its probabilities are those of single labels.
    budget: Examples to select, at most the candidates.

  Returns:
    The selection; scores are the sums, in nats.
  """
  del key
  scores = _binary_entropy(pool.probs)
  return Selection(take_highest(scores, pool.candidates, budget=budget), scores)
