"""DECERN for several labels per example: this project's own extension.

The paper has one label per example. Here every label c is read as a decision
between yes and no of its own, and the distribution that a prediction stands for
is the product of these decisions; its entropy and cross-entropies are the sums
of the binary ones. It has not been published.

With features x, head W and bias b, p = sigmoid(x W + b), and for each label i
the anchors a_i, q_i, the mean feature and the mean prediction of its labeled
positives (of all labeled examples where it has none):

  lam_i = clip(p_i, 1/64, 63/64)
  d_i   = (1 - cos(x, a_i)) / 2
  g     = W (p - [p >= 1/2]), the gradient of the binary cross-entropy, summed
          over the labels, by x
  s     = the mask of the top 10 of 100 bins of g, and rho its mean
  P_i   = sigmoid((x + s lam_i (a_i - x)) W + b)

  CE(u, P) = - sum over labels c of
               u_c log(P_c + 1e-10) + (1 - u_c) log(1 - P_c + 1e-10)
  whole_i  = (1 - lam_i) p + lam_i q_i
  part_i   = (1 - rho lam_i) p + rho lam_i q_i
  conf_i   = CE(P_i, P_i)^(1 - d_i)

  score = mean over labels i of
      (1 - rho) (CE(p, P_i)^d_i + conf_i) + rho (CE(whole_i, P_i)^d_i + conf_i)
      + (CE(part_i, P_i)^d_i + conf_i)

Saliency, fusion and the three terms are those of the paper with the binary
cross-entropy for the other one; threshold, weighted clustering and calibrated
pick are the paper's, with the anchors of the labels. The order of the labels
does not matter.
"""

import jax

from decern_jax.distributed.sharding import SPLIT, block_floats, shard_rows
from decern_jax.ops import label_discrepancy
from decern_jax.ops.saliency import NUM_BINS, NUM_TOP_BINS
from decern_jax.strategies.pool import Pool, Selection
from decern_jax.strategies.selection import select_by_score


def select_multi_label(
  key: jax.Array,
  pool: Pool,
  *,
  budget: int,
  uncertainty_gamma: float,
  diversity_gamma: float,
) -> Selection:
  """Selects by DECERN's reading for several labels, as the module defines it.

  Args:
    key: Random key.
    pool: The pool; its probabilities are those of single labels.
    budget: Examples to select, at most the candidates.
    uncertainty_gamma: Factor of the skew term in the uncertainty threshold.
    diversity_gamma: Weight of nearness to the cluster's center, in [0, 1].

  Returns:
    The selection; scores are the uncertainties, 0 at examples that are not
    candidates.

  References:
    Jin and Yang, "Combining Discrepancy-Confusion Uncertainty and Calibration
    Diversity for Active Fine-Grained Image Classification", ECCV 2026,
    https://arxiv.org/abs/2509.24181: the method for one label.
  """
  anchors = _anchors(pool.features, pool.probs, pool.labels)
  num_classes = pool.probs.shape[-1]
  scores = _scores(
    pool.features,
    pool.probs,
    anchors,
    pool.head,
    pool.candidates,
    num_bins=NUM_BINS,
    num_top_bins=NUM_TOP_BINS,
    block_size=max(8, block_floats() // num_classes**2),
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


_anchors = shard_rows(rows=("features", "probs", "labels"))(
  label_discrepancy.label_anchors
)
_scores = shard_rows(
  rows=("features", "probs", "valid"),
  out=SPLIT,
  static_argnames=("num_bins", "num_top_bins", "block_size"),
)(label_discrepancy.label_discrepancy_confusion)
