"""Learning loss: the examples whose loss a module expects to be the highest."""

import jax

from decern_jax.strategies.pool import Pool, Selection, take_highest


def select(key: jax.Array, pool: Pool, *, budget: int) -> Selection:
  """Selects the highest predicted losses.

  The module that predicts them trains beside the classifier, to rank the
  examples of a batch by their loss (`ops.ranking_loss`). Works likewise where
  an example has several labels.

  Args:
    key: Unused: nothing is drawn.
    pool: The pool.
    budget: Examples to select, at most the candidates.

  Returns:
    The selection; scores are the predicted losses, of either sign: only their
    order was trained.

  References:
    Yoo and Kweon, "Learning Loss for Active Learning", CVPR 2019,
    https://arxiv.org/abs/1905.03677.
  """
  del key
  scores = pool.predicted_losses
  return Selection(take_highest(scores, pool.candidates, budget=budget), scores)
