"""Which coordinates of a feature the classifier's decision hangs on.

The saliency of an example is the gradient of its cross-entropy with respect to
its feature. The head is linear, so that gradient is W r, with r the residual
of the softmax: no backward pass is needed, and pooling the gradient to bins is
one product with the pooled kernel.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int
import numpy as np

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

  Args:
    dim: Number of coordinates.
    num_bins: Number of bins.

  Returns:
    int [dim], ascending; some bins have no coordinate when `dim` is smaller.
  """
  scale = np.float32(num_bins) / np.float32(dim)
  bins = np.floor(np.arange(dim, dtype=np.float32) * scale).astype(int)
  return np.minimum(bins, num_bins - 1)


def residuals(
  logits: Float[Array, "rows classes"], targets: Int[Array, " rows"]
) -> Float[Array, "rows classes"]:
  """Returns softmax(logits) - onehot(target), up to a positive factor a row.

  The factor makes the target's entry -1 and leaves the softmax over the other
  classes elsewhere. Subtracting would lose every digit where the softmax
  saturates.

  Args:
    logits: Logits of each example, at least two classes.
    targets: Class whose cross-entropy is meant.

  Returns:
    The direction of the gradient of cross-entropy by the logits.
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

  The gradient's shift, scale and batch average, which the official code
  computes, cannot change the answer and are left out.

  Args:
    logits: Logits of the head on each example.
    probs: Predicted probabilities; their largest is the target.
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
  features: Float[Array, "rows dim"],
  probs: Float[Array, "rows classes"],
  head: LinearHead,
  *,
  num_bins: int,
  num_top_bins: int,
) -> Bool[Array, "rows dim"]:
  """Marks the salient coordinates of each feature.

  Args:
    features: Features, as the head consumes them.
    probs: Predicted probabilities of the same examples.
    head: The linear head.
    num_bins: Bins that the gradient is pooled to.
    num_top_bins: Bins that are salient, in [1, num_bins].

  Returns:
    True at the coordinates of the top bins.

  References:
    Jin and Yang, ECCV 2026, https://arxiv.org/abs/2509.24181, local feature
    fusion.
  """
  bins = top_bins(
    logits(head, features),
    probs,
    head,
    num_bins=num_bins,
    num_top_bins=num_top_bins,
  )
  return bins[:, upsampling_bins(features.shape[-1], num_bins)]
