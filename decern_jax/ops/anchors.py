"""Class anchors: what the labeled examples of a class have in common."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from decern_jax.ops.collective import AxisName, psum


class Anchors(NamedTuple):
  """Mean feature and mean prediction of the labeled examples of each class.

  Attributes:
    features: [classes, dim], the feature anchors a.
    probs: [classes, classes], the probability anchors q, one row per class.
  """

  features: Float[Array, "classes dim"]
  probs: Float[Array, "classes classes"]


def class_anchors(
  features: Float[Array, "rows dim"],
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
    features: Features, as the classifier head consumes them.
    probs: Predicted class probabilities of the same examples.
    labels: Class of each example in [0, num_classes); a row with another
      value (-1: no label yet) counts for nothing.
    num_classes: Number of classes.
    axis_name: Mesh axes that the rows are split over, inside `shard_map`.

  Returns:
    The anchors, equal on every shard; zeros where there is no label at all.
  """
  member = jax.nn.one_hot(labels, num_classes, dtype=features.dtype)
  counts = psum(member.sum(0), axis_name)

  def mean_by_class(rows):
    sums = jnp.matmul(member.T, rows, precision=jax.lax.Precision.HIGHEST)
    sums = psum(sums, axis_name)
    overall = sums.sum(0) / jnp.maximum(counts.sum(), 1.0)
    means = sums / jnp.maximum(counts, 1.0)[:, None]
    return jnp.where((counts > 0)[:, None], means, overall[None])

  return Anchors(mean_by_class(features), mean_by_class(probs))
