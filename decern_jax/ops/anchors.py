"""Class anchors, the means of the labeled examples of each class."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from decern_jax.distributed.collective import AxisName, psum, varying
from decern_jax.distributed.rows import HostRows, Rows
from decern_jax.distributed.sharding import shard_rows
from decern_jax.io.validation import (
  as_float32,
  as_int32,
  check_integer,
  check_shapes,
)
from decern_jax.ops.block import compaction, fold_blocks, rows_at

# Labeled rows that are read from the host in one block.
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
  features: Float[jax.typing.ArrayLike, "rows dim"] | HostRows,
  probs: Float[jax.typing.ArrayLike, "rows classes"],
  labels: Int[jax.typing.ArrayLike, " rows"],
  *,
  num_classes: int,
  mesh: Mesh | None = None,
  axis: str | Sequence[str] | None = None,
) -> Anchors:
  """Returns the mean feature and mean prediction of every class.

  A class without a labeled example takes the mean over all labeled examples,
  for both anchors.

  Args:
    features: Features of labeled examples, as the head consumes them.
    probs: Predicted class probabilities of the same examples.
    labels: Class of each example in [0, num_classes). Rows with another value,
      such as -1 for no label yet, are left out.
    num_classes: Number of classes.
    mesh: Mesh that the rows are split over. Needed only inside `jax.jit` on
      axes of type Auto, where types do not show it.
    axis: The names of its axes that split the rows; None for all.

  Returns:
    `Anchors(features [classes, dim], probs [classes, classes])`.

  Raises:
    ValueError: If shapes do not fit.

  References:
    Jin and Yang, "Combining Discrepancy-Confusion Uncertainty and Calibration
    Diversity for Active Fine-Grained Image Classification", ECCV 2026,
    https://arxiv.org/abs/2509.24181.
  """
  num_classes = check_integer("num_classes", num_classes, low=1)
  check_shapes(
    {"classes": num_classes},
    probs=(probs, ("rows", "classes")),
    features=(features, ("rows", "dim")),
    labels=(labels, ("rows",)),
  )
  return _class_anchors(
    as_float32(features),
    as_float32(probs),
    # A narrow type cannot hold the number of classes: 256 is 0 in uint8.
    as_int32(labels),
    num_classes=num_classes,
    mesh=mesh,
    axis=axis,
  )


@shard_rows(
  rows=("features", "probs", "labels"), static_argnames=("num_classes",)
)
def _class_anchors(
  features: Rows,
  probs: Float[Array, "rows classes"],
  labels: Int[Array, " rows"],
  *,
  num_classes: int,
  axis_name: AxisName = None,
) -> Anchors:
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
