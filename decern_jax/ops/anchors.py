"""Class anchors: what the labeled examples of a class have in common."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from decern_jax.distributed.collective import AxisName, psum, varying
from decern_jax.distributed.rows import HostRows, Rows
from decern_jax.ops.block import compaction, fold_blocks, rows_at

# Labeled rows that are read from the host at once.
BLOCK_ROWS = 1024


class Anchors(NamedTuple):
  """Mean feature and mean prediction of the labeled examples of each class.

  Attributes:
    features: [classes, dim], the feature anchors a.
    probs: [classes, classes], the probability anchors q, one row per class.
  """

  features: Float[Array, "classes dim"]
  probs: Float[Array, "classes classes"]


def class_anchors(
  features: Rows,
  probs: Float[Array, "rows classes"],
  labels: Int[Array, " rows"],
  *,
  num_classes: int,
  axis_name: AxisName = None,
) -> Anchors:
  """Returns the mean feature and mean prediction of every class.

  A class without a labeled example takes the mean over all labeled examples,
  for both anchors.

  Args:
    features: Features [rows, dim], as the classifier head consumes them.
    probs: Predicted class probabilities of the same examples.
    labels: Class of each example in [0, num_classes); a row with another
      value (-1: no label yet) counts for nothing.
    num_classes: Number of classes.
    axis_name: Mesh axes that the rows are split over, inside `shard_map`.

  Returns:
    The anchors, equal on every shard; zeros where there is no label at all.
  """
  member = jax.nn.one_hot(labels, num_classes, dtype=probs.dtype)
  counts = psum(member.sum(0), axis_name)

  def mean_by_class(rows):
    sums = psum(_sum_by_class(rows, member, axis_name), axis_name)
    overall = sums.sum(0) / jnp.maximum(counts.sum(), 1.0)
    means = sums / jnp.maximum(counts, 1.0)[:, None]
    return jnp.where((counts > 0)[:, None], means, overall[None])

  return Anchors(mean_by_class(features), mean_by_class(probs))


def _sum_by_class(rows, member, axis_name):
  """Returns the sum of the rows of each class, of this shard."""
  highest = jax.lax.Precision.HIGHEST
  if not isinstance(rows, HostRows):
    return jnp.matmul(member.T, rows, precision=highest)
  # Only labeled rows are read.
  is_labeled = jnp.any(member > 0, axis=1)
  order = compaction(is_labeled)

  def step(sums, start, fresh):
    where = rows_at(order, start, len(fresh))
    weight = jnp.where(fresh[:, None], member[where], 0.0)
    return sums + jnp.matmul(weight.T, rows[where], precision=highest)

  return fold_blocks(
    step,
    varying(jnp.zeros((member.shape[1], rows.shape[1])), axis_name),
    num_rows=jnp.sum(is_labeled),
    max_rows=len(rows),
    block_size=BLOCK_ROWS,
  )
