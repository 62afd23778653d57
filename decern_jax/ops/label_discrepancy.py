"""Discrepancy-confusion uncertainty where an example has several labels.

The definition is in `decern_jax.strategies.decern_multilabel`. As for single
labels, the head is linear and the mask constant on bins, so that the logits of
all fused features come from one product by block (`ops.fusion`), and nothing of
the size of pool times labels times coordinates exists.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from decern_jax.distributed.collective import AxisName, psum, varying
from decern_jax.ops.anchors import Anchors
from decern_jax.ops.block import compaction, fold_blocks, rows_at
from decern_jax.ops.discrepancy import EPSILON, power
from decern_jax.ops.fusion import anchor_shifts, fusion_ratio, split_bins
from decern_jax.ops.head import LinearHead, logits
from decern_jax.ops.saliency import pooling_weights, upsampling_bins
from decern_jax.ops.similarity import cosine_similarity

_HIGHEST = jax.lax.Precision.HIGHEST


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
  # One column more, that of all labeled examples.
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
  the thresholded prediction as the truth: W (p - [p >= 1/2]). A positive factor
  changes nothing, and each example's is chosen so that the residual of its
  least sure label is near 1/2: none is lost where all sigmoids saturate.

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
  """Scores how much examples are torn between having their labels and not.

  Args:
    features: Features x of the pool, as the head consumes them.
    probs: Their predicted probabilities p of the labels.
    anchors: The anchors of the labels.
    head: The linear head.
    valid: True at the rows that exist. Only blocks that hold valid rows are
      computed.
    num_bins: Bins of the saliency mask.
    num_top_bins: Salient bins.
    block_size: Rows in a block; `classes² · block_size` floats are held at
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
  # The confusion is in all three terms, whose weights sum to 2.
  discrepancy = (1.0 - rho) * power(own, d) + rho * mixture(ratio)
  return discrepancy + mixture(rho * ratio) + 2.0 * confusion


def _log_probs(logits: Array) -> Array:
  """Returns log(sigmoid + epsilon), without a digit lost."""
  return jnp.logaddexp(jax.nn.log_sigmoid(logits), math.log(EPSILON))
