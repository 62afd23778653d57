"""Uniform selection: what every other strategy is measured against."""

import jax
import jax.numpy as jnp

from decern_jax.ops.keys import uniform_at
from decern_jax.strategies.pool import Pool, Selection, take_highest


def select(key: jax.Array, pool: Pool, *, budget: int) -> Selection:
  """Selects uniformly without replacement.

  Args:
    key: Random key.
    pool: The pool; only its candidates are looked at.
    budget: Examples to select, at most the candidates.

  Returns:
    The selection, without scores.
  """
  chance = _chance(key, pool.candidates)
  return Selection(take_highest(chance, pool.candidates, budget=budget), None)


@jax.jit
def _chance(key, candidates):
  return uniform_at(key, jnp.arange(len(candidates)))
