"""Coreset: k-center greedy from the labeled set."""

import functools

import jax

from decern_jax.ops.distances import greedy_k_center
from decern_jax.strategies.pool import Pool, Selection

_greedy_k_center = functools.partial(jax.jit, static_argnames="budget")(
  greedy_k_center
)


def select(key: jax.Array, pool: Pool, *, budget: int) -> Selection:
  """Selects the examples farthest from all labeled and selected ones.

  Each next example x is the candidate with the largest

    min over labeled and selected y of |h(x) - h(y)|.

  Works likewise where an example has several labels.

  Args:
    key: Unused: nothing is drawn.
    pool: The pool.
    budget: Examples to select, at most the candidates.

  Returns:
    The selection, in the order of the steps, without scores.

  References:
    Sener and Savarese, "Active Learning for Convolutional Neural Networks: A
    Core-Set Approach", ICLR 2018, https://arxiv.org/abs/1708.00489.
  """
  del key
  positions = _greedy_k_center(
    pool.features, pool.labeled, pool.candidates, budget=budget
  )
  return Selection(positions, None)
