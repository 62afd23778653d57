"""The score of a pool: jitted, sharded, in blocks."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from decern_jax import ops
from decern_jax.distributed.rows import HostRows
from decern_jax.distributed.sharding import SPLIT, block_floats, shard_rows
from decern_jax.io.validation import (
  as_float32,
  as_int32,
  check_integer,
  check_number,
  check_pool,
  check_shapes,
  float32_tree,
)
from decern_jax.ops.anchors import Anchors
from decern_jax.ops.head import LinearHead
from decern_jax.ops.saliency import NUM_BINS, NUM_TOP_BINS


def class_anchors(
  features: Float[jax.typing.ArrayLike, "rows dim"] | HostRows,
  probs: Float[jax.typing.ArrayLike, "rows classes"],
  labels: Int[jax.typing.ArrayLike, " rows"],
  *,
  num_classes: int,
) -> Anchors:
  """Returns the mean feature and mean prediction of every class.

  A class without a labeled example takes the mean over all labeled examples,
  for both anchors.

  Args:
    features: Features of labeled examples, as the head consumes them.
    probs: Predicted class probabilities of the same examples.
    labels: Class of each example in [0, num_classes); a row with another
      value (-1: no label yet) counts for nothing.
    num_classes: Number of classes.

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
    # A narrow type cannot count the classes: 256 is 0 in uint8.
    as_int32(labels),
    num_classes=num_classes,
  )


_class_anchors = shard_rows(
  rows=("features", "probs", "labels"), static_argnames=("num_classes",)
)(ops.anchors.class_anchors)


def saliency_mask(
  features: Float[jax.typing.ArrayLike, "rows dim"],
  probs: Float[jax.typing.ArrayLike, "rows classes"],
  head: LinearHead,
  *,
  num_bins: int = NUM_BINS,
  num_top_bins: int = NUM_TOP_BINS,
) -> Bool[Array, "rows dim"]:
  """Marks the coordinates of each feature that its prediction hangs on.

  These are the coordinates in the bins with the largest mean gradient of
  cross-entropy(head(x), argmax p) with respect to x.

  Args:
    features: Features x, as the head consumes them.
    probs: Predicted class probabilities p of the same examples.
    head: The linear head, of two classes or more.
    num_bins: Bins that the coordinates are pooled to, at least 1.
    num_top_bins: Bins to mark, in [1, num_bins].

  Returns:
    The mask, True at salient coordinates.

  Raises:
    ValueError: If shapes do not fit or an option is out of range.

  References:
    Jin and Yang, ECCV 2026, https://arxiv.org/abs/2509.24181, local feature
    fusion.
  """
  check_pool(features, probs, head)
  num_bins, num_top_bins = _check_bins(num_bins, num_top_bins)
  return _saliency_mask(
    as_float32(features),
    as_float32(probs),
    float32_tree(head),
    num_bins=num_bins,
    num_top_bins=num_top_bins,
  )


@functools.partial(jax.jit, static_argnames=("num_bins", "num_top_bins"))
def _saliency_mask(features, probs, head, *, num_bins, num_top_bins):
  return ops.saliency.saliency_mask(
    features, probs, head, num_bins=num_bins, num_top_bins=num_top_bins
  )


def discrepancy_confusion(
  features: Float[jax.typing.ArrayLike, "pool dim"] | HostRows,
  probs: Float[jax.typing.ArrayLike, "pool classes"],
  anchors: Anchors,
  head: LinearHead,
  *,
  valid: Bool[jax.typing.ArrayLike, " pool"] | None = None,
  num_bins: int = NUM_BINS,
  num_top_bins: int = NUM_TOP_BINS,
  block_size: int | None = None,
) -> Float[Array, " pool"]:
  """Scores how much each example of a pool is torn between the classes.

  See `decern_jax.ops.discrepancy` for the formula. The cost of the valid rows
  alone is paid, and memory beyond the inputs stays linear in the pool.

  Args:
    features: Features of the pool, as the head consumes them.
    probs: Predicted class probabilities of the pool.
    anchors: Class anchors, of `class_anchors`.
    head: The linear head, of two classes or more.
    valid: True at the rows that exist; None: all.
    num_bins: Bins of the saliency mask, at least 1.
    num_top_bins: Salient bins, in [1, num_bins].
    block_size: Rows of the pool to work on at once; None: by the backend.

  Returns:
    The scores, at least 0; 0 where `valid` is False.

  Raises:
    ValueError: If shapes do not fit or an option is out of range.

  References:
    Jin and Yang, ECCV 2026, https://arxiv.org/abs/2509.24181,
    discrepancy-confusion uncertainty.
  """
  sizes = check_pool(features, probs, head, anchors=anchors, valid=valid)
  num_bins, num_top_bins = _check_bins(num_bins, num_top_bins)
  block_size, tile_size = _block_sizes(sizes["classes"], block_size)
  return _discrepancy_confusion(
    as_float32(features),
    as_float32(probs),
    float32_tree(anchors),
    float32_tree(head),
    valid,
    num_bins=num_bins,
    num_top_bins=num_top_bins,
    block_size=block_size,
    tile_size=tile_size,
  )


_discrepancy_confusion = shard_rows(
  rows=("features", "probs", "valid"),
  out=SPLIT,
  static_argnames=("num_bins", "num_top_bins", "block_size", "tile_size"),
)(ops.discrepancy.discrepancy_confusion)


def uncertainty_threshold(
  scores: Float[jax.typing.ArrayLike, " pool"],
  *,
  valid: Bool[jax.typing.ArrayLike, " pool"] | None = None,
  gamma: float = 0.5,
) -> Float[Array, ""]:
  """Returns the score above which an example is a candidate.

  threshold = mean + gamma · std · skewness, with population moments; constant
  scores have skewness 0.

  Args:
    scores: Scores of a pool.
    valid: True at the rows that exist; None: all.
    gamma: Factor of the skew term.

  Returns:
    The threshold.

  Raises:
    ValueError: If shapes do not fit.

  References:
    Jin and Yang, ECCV 2026, https://arxiv.org/abs/2509.24181.
  """
  sizes = check_shapes({}, scores=(scores, ("pool",)))
  if valid is not None:
    check_shapes(sizes, valid=(valid, ("pool",)))
  gamma = check_number("gamma", gamma, low=-float("inf"))
  return _uncertainty_threshold(as_float32(scores), valid, gamma)


@jax.jit
def _uncertainty_threshold(scores, valid, gamma):
  valid = jnp.ones(scores.shape, bool) if valid is None else valid
  return ops.statistics.uncertainty_threshold(scores, valid, gamma=gamma)


def _check_bins(num_bins: object, num_top_bins: object) -> tuple[int, int]:
  """Returns the options of the saliency mask as ints."""
  num_bins = check_integer("num_bins", num_bins, low=1)
  return num_bins, check_integer(
    "num_top_bins", num_top_bins, low=1, high=num_bins
  )


def _block_sizes(num_classes: int, block_size: object) -> tuple[int, int]:
  """Returns the rows and the anchors to work on at once."""
  floats = block_floats()
  if block_size is None:
    block_size = max(64, min(4096, floats // num_classes**2))
  block_size = check_integer("block_size", block_size, low=1)
  tile_size = floats // (num_classes * block_size)
  return block_size, max(1, min(num_classes, tile_size))
