"""DECERN for several labels per example, an unpublished extension.

The paper has one label per example. Here every label c is a separate decision
between yes and no. The distribution of a prediction is the product of these
decisions, and its entropy and cross-entropies are the sums of the binary ones.

With features x, head W and bias b, p = sigmoid(x W + b), and for each label i
the anchors a_i, q_i, the mean feature and the mean prediction of its labeled
positives (of all labeled examples where it has none):

  lam_i = clip(p_i, 1/64, 63/64)
  d_i   = (1 - cos(x, a_i)) / 2
  g     = W (p - [p >= 1/2]), the gradient with respect to x of the binary
          cross-entropy, summed over the labels
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

Saliency, fusion and the three terms are those of the paper, with the binary
cross-entropy in place of the categorical one. Threshold, weighted clustering
and calibrated pick are those of the paper, with the anchors of the labels. The
order of the labels does not matter.

As for single labels, the head is linear and the mask is constant on bins. The
logits of all fused features therefore come from one product per block, and no
array of pool · labels · coordinates exists.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from decern_jax.distributed.collective import AxisName, psum, varying
from decern_jax.distributed.sharding import SPLIT, block_floats, shard_rows
from decern_jax.ops.anchors import Anchors
from decern_jax.ops.block import compaction, fold_blocks, rows_at
from decern_jax.ops.discrepancy import (
  EPSILON,
  anchor_shifts,
  fusion_ratio,
  power,
  split_bins,
)
from decern_jax.ops.distances import cosine_similarity
from decern_jax.ops.head import LinearHead, logits
from decern_jax.ops.saliency import (
  NUM_BINS,
  NUM_TOP_BINS,
  pooling_weights,
  upsampling_bins,
)
from decern_jax.strategies.base import Pool, Selection, Strategy, register
from decern_jax.strategies.decern import OPTIONS, select_by_score

_HIGHEST = jax.lax.Precision.HIGHEST


def select_multi_label(
  key: jax.Array,
  pool: Pool,
  *,
  budget: int,
  uncertainty_gamma: float,
  diversity_gamma: float,
) -> Selection:
  """Selects by DECERN for several labels, as defined at the top of this module.

  Args:
    key: Random key.
    pool: The pool, with the probability of each label.
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
  anchors = label_anchors(pool.features, pool.probs, pool.labels)
  num_classes = pool.probs.shape[-1]
  scores = label_discrepancy_confusion(
    pool.features,
    pool.probs,
    anchors,
    pool.head,
    pool.candidates,
    num_bins=NUM_BINS,
    num_top_bins=NUM_TOP_BINS,
    block_size=max(8, block_floats() // num_classes**2),
  )
  indices = select_by_score(
    key,
    pool.features,
    scores,
    anchors,
    budget=budget,
    valid=pool.candidates,
    uncertainty_gamma=uncertainty_gamma,
    diversity_gamma=diversity_gamma,
  )
  return Selection(indices, scores)


@shard_rows(rows=("features", "probs", "labels"))
def label_anchors(
  features: Float[Array, "rows dim"],
  probs: Float[Array, "rows classes"],
  labels: Int[Array, "rows classes"],
  *,
  axis_name: AxisName = None,
) -> Anchors:
  """Returns the mean feature and mean prediction of each label's positives.

  A label without a positive takes the mean over all labeled examples.

  Args:
    features: Features, as the head consumes them.
    probs: Predicted probabilities of the labels of the same examples.
    labels: 0 or 1; -1 in the rows that have no labels yet.
    axis_name: Mesh axes that the rows are split over, inside `shard_map`.

  Returns:
    The anchors, equal on every shard; zeros where nothing is labeled.
  """
  labeled = labels[:, :1] >= 0
  # The last column sums over all labeled examples.
  member = jnp.concatenate([labels == 1, labeled], axis=1)
  member = member.astype(features.dtype)
  counts = psum(member.sum(0), axis_name)

  def mean_by_label(rows):
    rows = jnp.where(labeled, rows, 0.0)
    sums = psum(jnp.matmul(member.T, rows, precision=_HIGHEST), axis_name)
    means = sums / jnp.maximum(counts, 1.0)[:, None]
    return jnp.where((counts[:-1] > 0)[:, None], means[:-1], means[-1:])

  return Anchors(mean_by_label(features), mean_by_label(probs))


def label_top_bins(
  logits: Float[Array, "rows classes"],
  head: LinearHead,
  *,
  num_bins: int,
  num_top_bins: int,
) -> Bool[Array, "rows bins"]:
  """Marks the bins with the largest pooled gradient of each example.

  The gradient is that of the binary cross-entropy, summed over the labels, with
  the thresholded prediction as the target: W (p - [p >= 1/2]). A positive
  factor does not change the result. For each example it is chosen such that the
  residual of the least certain label is near 1/2, so that no residual
  underflows where all sigmoids saturate.

  Args:
    logits: Logits of the head on each example.
    head: The linear head.
    num_bins: Bins that the coordinates are pooled to.
    num_top_bins: Bins to mark, in [1, num_bins].

  Returns:
    True at the top bins; among equal ones the lowest come first.
  """
  size = jnp.abs(logits)
  scaled = jnp.exp(jnp.min(size, axis=-1, keepdims=True) - size)
  residual = jnp.where(logits >= 0.0, -1.0, 1.0) * scaled / (1 + jnp.exp(-size))
  pooling = jnp.asarray(pooling_weights(head.kernel.shape[0], num_bins))
  pooled_kernel = jnp.matmul(pooling, head.kernel, precision=_HIGHEST)
  pooled = jnp.matmul(residual, pooled_kernel.T, precision=_HIGHEST)
  _, top = jax.lax.top_k(pooled, num_top_bins)
  return (top[:, :, None] == jnp.arange(num_bins)[None, None]).any(axis=1)


@shard_rows(
  rows=("features", "probs", "valid"),
  out=SPLIT,
  static_argnames=("num_bins", "num_top_bins", "block_size"),
)
def label_discrepancy_confusion(
  features: Float[Array, "pool dim"],
  probs: Float[Array, "pool classes"],
  anchors: Anchors,
  head: LinearHead,
  valid: Bool[Array, " pool"],
  *,
  num_bins: int,
  num_top_bins: int,
  block_size: int,
  axis_name: AxisName = None,
) -> Float[Array, " pool"]:
  """Scores how uncertain the labels of each example are.

  Args:
    features: Features x of the pool, as the head consumes them.
    probs: Their predicted probabilities p of the labels.
    anchors: The anchors of the labels.
    head: The linear head.
    valid: True at the rows that exist. Only blocks that hold valid rows are
      computed.
    num_bins: Bins of the saliency mask.
    num_top_bins: Salient bins.
    block_size: Rows in a block; `classes² · block_size` floats are in memory at
      once.
    axis_name: Mesh axes that the pool is split over, inside `shard_map`.

  Returns:
    The score of each row, at least 0; 0 where `valid` is False.
  """
  order = compaction(valid)
  shifts = anchor_shifts(
    split_bins(anchors.features, num_bins), split_bins(head.kernel.T, num_bins)
  )

  def score(scores, start, fresh):
    rows = rows_at(order, start, len(fresh))
    x, p = features[rows], probs[rows]
    z = logits(head, x)
    bins = label_top_bins(z, head, num_bins=num_bins, num_top_bins=num_top_bins)
    mask = bins[:, upsampling_bins(x.shape[-1], num_bins)]
    salient = jnp.matmul(
      jnp.where(mask, x, 0.0), head.kernel, precision=_HIGHEST
    )
    moved = jnp.einsum(
      "ick,nk->nic", shifts, bins.astype(x.dtype), precision=_HIGHEST
    )
    ratio = fusion_ratio(p)
    fused = z[:, None] + ratio[..., None] * (moved - salient[:, None])
    d = jnp.clip((1.0 - cosine_similarity(x, anchors.features)) / 2.0, 0.0, 1.0)
    rho = jnp.mean(mask, axis=-1, dtype=x.dtype)[:, None]
    found = _scores(fused, p, anchors.probs, ratio, d, rho)
    return scores.at[rows].set(jnp.mean(found, axis=-1))

  scores = fold_blocks(
    score,
    varying(jnp.zeros(len(features), features.dtype), axis_name),
    num_rows=jnp.sum(valid),
    max_rows=len(features),
    block_size=block_size,
  )
  return jnp.where(valid, scores, 0.0)


def _scores(fused, probs, anchor_probs, ratio, d, rho) -> Array:
  """Returns the score of each example with each anchor.

  Args:
    fused: [rows, anchors, labels], logits of the fused features.
    probs: [rows, labels], p.
    anchor_probs: [anchors, labels], q.
    ratio: [rows, anchors], lam.
    d: [rows, anchors], the distance.
    rho: [rows, 1], the salient fraction.

  Returns:
    [rows, anchors].
  """
  log_yes, log_no = _log_probs(fused), _log_probs(-fused)

  def cross_entropy(yes, no):
    return -jnp.sum(yes * log_yes + no * log_no, axis=-1)

  own = cross_entropy(probs[:, None], 1.0 - probs[:, None])
  other = cross_entropy(anchor_probs[None], 1.0 - anchor_probs[None])
  entropy = cross_entropy(jax.nn.sigmoid(fused), jax.nn.sigmoid(-fused))

  def mixture(weight):
    return power((1.0 - weight) * own + weight * other, d)

  confusion = power(entropy, 1.0 - d)
  # The confusion is part of all three terms, and their weights sum to 2.
  discrepancy = (1.0 - rho) * power(own, d) + rho * mixture(ratio)
  return discrepancy + mixture(rho * ratio) + 2.0 * confusion


def _log_probs(logits: Array) -> Array:
  """Returns log(sigmoid + epsilon) without cancellation."""
  return jnp.logaddexp(jax.nn.log_sigmoid(logits), math.log(EPSILON))


register(
  Strategy(
    "decern_multilabel",
    None,
    select_multi_label,
    needs=("features", "probs", "labels", "head"),
    options=OPTIONS,
  )
)
