"""DECERN: discrepancy-confusion uncertainty and calibrated diversity."""

import jax

from decern_jax.strategies.pool import Pool, Selection
from decern_jax.strategies.scoring import class_anchors, discrepancy_confusion
from decern_jax.strategies.selection import select_by_score


def select(
  key: jax.Array,
  pool: Pool,
  *,
  budget: int,
  uncertainty_gamma: float,
  diversity_gamma: float,
) -> Selection:
  """Selects by DECERN, with the anchors of the examples labeled so far.

  Args:
    key: Random key.
    pool: The pool.
    budget: Examples to select, at most the candidates.
    uncertainty_gamma: Factor of the skew term in the uncertainty threshold.
    diversity_gamma: Weight of nearness to the cluster's center, in [0, 1].

  Returns:
    The selection; scores are the discrepancy-confusion uncertainties, 0 at
    examples that are not candidates.

  References:
    Jin and Yang, "Combining Discrepancy-Confusion Uncertainty and Calibration
    Diversity for Active Fine-Grained Image Classification", ECCV 2026,
    https://arxiv.org/abs/2509.24181.
  """
  anchors = class_anchors(
    pool.features, pool.probs, pool.labels, num_classes=pool.probs.shape[1]
  )
  scores = discrepancy_confusion(
    pool.features, pool.probs, anchors, pool.head, valid=pool.candidates
  )
  positions = select_by_score(
    key,
    pool.features,
    scores,
    anchors,
    budget=budget,
    valid=pool.candidates,
    uncertainty_gamma=uncertainty_gamma,
    diversity_gamma=diversity_gamma,
  )
  return Selection(positions, scores)
