"""The coordinates of a feature that the decision of the classifier depends on.

The saliency of an example is the gradient of its cross-entropy with respect to
its feature. The head is linear, so that this gradient is W r, where r is the
residual of the softmax. It needs no backward pass, and pooling it to bins is
one product with the pooled kernel.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int
import numpy as np

from decern_jax.distributed.collective import AxisName
from decern_jax.distributed.sharding import SPLIT, shard_rows
from decern_jax.io.validation import (
  as_float32,
  check_integer,
  check_pool,
  float32_tree,
)
from decern_jax.ops.head import LinearHead, logits

NUM_BINS = 100
NUM_TOP_BINS = 10


def pooling_weights(dim: int, num_bins: int) -> np.ndarray:
  """Returns the adaptive average pooling of `dim` coordinates as a matrix.

  Bin k averages the coordinates from floor(k dim / bins) up to, not including,
  ceil((k + 1) dim / bins); neighbouring bins may share one.

  Args:
    dim: Number of coordinates.
    num_bins: Number of bins; may exceed `dim`.

  Returns:
    float32 [bins, dim], each row summing to 1.
  """
  bins = np.arange(num_bins)
  begin = bins * dim // num_bins
  end = -(-(bins + 1) * dim // num_bins)
  coordinates = np.arange(dim)
  inside = (coordinates >= begin[:, None]) & (coordinates < end[:, None])
  return (inside / (end - begin)[:, None]).astype(np.float32)


def upsampling_bins(dim: int, num_bins: int) -> np.ndarray:
  """Returns the bin that each coordinate reads in nearest-neighbour upsampling.

  The product is taken in float32, as torch.nn.functional.interpolate does: for
  some widths float64 would move a coordinate to the neighbouring bin.

  Returns:
    int [dim], ascending; some bins have no coordinate when `dim` is smaller.
  """
  scale = np.float32(num_bins) / np.float32(dim)
  bins = np.floor(np.arange(dim, dtype=np.float32) * scale).astype(int)
  return np.minimum(bins, num_bins - 1)


def residuals(
  logits: Float[Array, "rows classes"], targets: Int[Array, " rows"]
) -> Float[Array, "rows classes"]:
  """Returns softmax(logits) - onehot(target), times a positive factor per row.

  The factor makes the entry of the target -1, and the other entries the softmax
  over the other classes. A subtraction would lose all digits where the softmax
  saturates.

  Args:
    logits: Logits of each example, at least two classes.
    targets: Target class of the cross-entropy of each example.

  Returns:
    The direction of the gradient of the cross-entropy with respect to the
    logits.
  """
  classes = jnp.arange(logits.shape[-1])
  is_target = classes[None] == targets[:, None]
  others = jax.nn.softmax(jnp.where(is_target, -jnp.inf, logits), axis=-1)
  return jnp.where(is_target, -1.0, others)


def top_bins(
  logits: Float[Array, "rows classes"],
  probs: Float[Array, "rows classes"],
  head: LinearHead,
  *,
  num_bins: int,
  num_top_bins: int,
) -> Bool[Array, "rows bins"]:
  """Marks the bins with the largest pooled gradient of each example.

  The official code also shifts, scales and averages the gradient. This cannot
  change the result and is left out.

  Args:
    logits: Logits of the head on each example.
    probs: Predicted probabilities; the class with the largest is the target.
    head: The linear head.
    num_bins: Bins that the coordinates are pooled to.
    num_top_bins: Bins to mark, in [1, num_bins].

  Returns:
    True at the top bins; among equal ones the lowest come first.
  """
  highest = jax.lax.Precision.HIGHEST
  pooling = jnp.asarray(pooling_weights(head.kernel.shape[0], num_bins))
  pooled_kernel = jnp.matmul(pooling, head.kernel, precision=highest)
  residual = residuals(logits, jnp.argmax(probs, axis=-1))
  pooled = jnp.matmul(residual, pooled_kernel.T, precision=highest)
  _, top = jax.lax.top_k(pooled, num_top_bins)
  return (top[:, :, None] == jnp.arange(num_bins)[None, None]).any(axis=1)


def saliency_mask(
  features: Float[jax.typing.ArrayLike, "rows dim"],
  probs: Float[jax.typing.ArrayLike, "rows classes"],
  head: LinearHead,
  *,
  num_bins: int = NUM_BINS,
  num_top_bins: int = NUM_TOP_BINS,
  mesh: Mesh | None = None,
  axis: str | Sequence[str] | None = None,
) -> Bool[Array, "rows dim"]:
  """Marks the coordinates of each feature that its prediction depends on.

  These are the coordinates in the bins with the largest mean gradient of
  cross-entropy(head(x), argmax p) with respect to x.

  Args:
    features: Features x, as the head consumes them.
    probs: Predicted class probabilities p of the same examples.
    head: The linear head, of two classes or more.
    num_bins: Bins that the coordinates are pooled to, at least 1.
    num_top_bins: Bins to mark, in [1, num_bins].
    mesh: Mesh that the rows are split over. Needed only inside `jax.jit` on
      axes of type Auto, where types do not show it.
    axis: The names of its axes that split the rows; None for all.

  Returns:
    The mask, True at salient coordinates.

  Raises:
    ValueError: If shapes do not fit or an option is out of range.

  References:
    Jin and Yang, ECCV 2026, https://arxiv.org/abs/2509.24181, local feature
    fusion.
  """
  check_pool(features, probs, head)
  num_bins, num_top_bins = check_bins(num_bins, num_top_bins)
  return _saliency_mask(
    as_float32(features),
    as_float32(probs),
    float32_tree(head),
    num_bins=num_bins,
    num_top_bins=num_top_bins,
    mesh=mesh,
    axis=axis,
  )


@shard_rows(
  rows=("features", "probs"),
  out=SPLIT,
  static_argnames=("num_bins", "num_top_bins"),
)
def _saliency_mask(
  features: Float[Array, "rows dim"],
  probs: Float[Array, "rows classes"],
  head: LinearHead,
  *,
  num_bins: int,
  num_top_bins: int,
  axis_name: AxisName = None,
) -> Bool[Array, "rows dim"]:
  del axis_name
  bins = top_bins(
    logits(head, features),
    probs,
    head,
    num_bins=num_bins,
    num_top_bins=num_top_bins,
  )
  return bins[:, upsampling_bins(features.shape[-1], num_bins)]


def check_bins(num_bins: object, num_top_bins: object) -> tuple[int, int]:
  """Returns the options of the saliency mask as ints.

  Raises:
    ValueError: If not 1 <= `num_top_bins` <= `num_bins`.
  """
  num_bins = check_integer("num_bins", num_bins, low=1)
  return num_bins, check_integer(
    "num_top_bins", num_top_bins, low=1, high=num_bins
  )
