"""Local feature fusion in logit space.

Fusing moves the salient part of a feature x to a class anchor a:

  m = x + s · lam · (a - x),   s = 1 inside the saliency mask, 0 outside.

The head is linear and the mask is constant on bins, so the logits of m are

  z + lam · (sum over the top bins k of A[k] - (s · x) W),

where A[k] = (a restricted to bin k) W is the same for the whole pool. No fused
feature is ever formed.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
import numpy as np

from decern_jax.ops.saliency import upsampling_bins

# The range of the fusion ratio lam: an anchor never replaces the whole feature
# and never leaves it alone (official code).
MIN_RATIO = 1 / 64
MAX_RATIO = 63 / 64


def fusion_ratio(
  probs: Float[Array, "*batch classes"],
) -> Float[Array, "*batch classes"]:
  """Returns how far fusion moves an example to each anchor: 1/64 to 63/64."""
  return jnp.clip(probs, MIN_RATIO, MAX_RATIO)


def split_bins(
  rows: Float[Array, "rows dim"], num_bins: int
) -> Float[Array, "bins rows width"]:
  """Splits coordinates by upsampling bin, padding every bin with zeros.

  Args:
    rows: Features, or the columns of a head's kernel.
    num_bins: Number of bins.

  Returns:
    For each bin, the coordinates of each row that belong to it.
  """
  bins = upsampling_bins(rows.shape[-1], num_bins)
  counts = np.bincount(bins, minlength=num_bins)
  first = np.cumsum(counts) - counts
  width = np.arange(counts.max())
  inside = width < counts[:, None]
  where = np.where(inside, first[:, None] + width, 0)
  return jnp.where(inside[:, None], rows[:, where].swapaxes(0, 1), 0.0)


def anchor_shifts(
  anchor_bins: Float[Array, "bins anchors width"],
  kernel_bins: Float[Array, "bins classes width"],
) -> Float[Array, "anchors classes bins"]:
  """Returns A: what each bin of each anchor adds to the logits.

  Args:
    anchor_bins: The feature anchors, split by `split_bins`.
    kernel_bins: The transposed kernel of the head, split likewise.

  Returns:
    A[i, c, k] = sum over the coordinates j of bin k of a[i, j] W[j, c].
  """
  shifts = jnp.einsum(
    "kiw,kcw->kic",
    anchor_bins,
    kernel_bins,
    precision=jax.lax.Precision.HIGHEST,
  )
  return jnp.moveaxis(shifts, 0, -1)
