"""Discrepancy-confusion uncertainty of a pool, in blocks.

Local feature fusion moves the salient part of a feature x to a class anchor a:

  m = x + s · lam · (a - x),   s = 1 inside the saliency mask, 0 outside.

The head is linear and the mask is constant on bins, so the logits of m are

  z + lam · (sum over the top bins k of A[k] - (s · x) W),

where A[k] = (a restricted to bin k) W is the same for the whole pool. No fused
feature is ever formed.

All arrays of a block are class-major, [classes, rows]: the sums over classes
then run over whole vectors of rows.
"""

from collections.abc import Sequence
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int
import numpy as np

from decern_jax.distributed.collective import AxisName, varying
from decern_jax.distributed.rows import HostRows, Rows
from decern_jax.distributed.sharding import SPLIT, block_floats, shard_rows
from decern_jax.io.validation import (
  as_float32,
  check_integer,
  check_pool,
  float32_tree,
)
from decern_jax.ops.anchors import Anchors
from decern_jax.ops.block import compaction, fold_blocks, rows_at, set_rows_at
from decern_jax.ops.distances import cosine_similarity
from decern_jax.ops.head import LinearHead, logits
from decern_jax.ops.saliency import (
  NUM_BINS,
  NUM_TOP_BINS,
  check_bins,
  top_bins,
  upsampling_bins,
)

# The floor inside the logarithm of a probability (official code).
EPSILON = 1e-10

# The range of the fusion ratio lam: an anchor never replaces the whole feature
# and never leaves it unchanged (official code).
MIN_RATIO = 1 / 64
MAX_RATIO = 63 / 64

# Sums over classes are split into this many interleaved parts. XLA then fuses
# exp and log into the sums, and the product is the only array of [anchors,
# classes, rows] that it writes. This saves 12 % of the time on a CPU.
NUM_PARTS = 4

# Rows whose products with the head and the anchors are in memory at once. With
# more rows, and two CPU devices on two cores, XLA (jaxlib 0.10.2) begins the
# loop over blocks before these products are complete, as a slow test shows.
CHUNK_ROWS = 4096


class _Rows(NamedTuple):
  """What the score needs of a chunk of the pool, class-major.

  Attributes:
    logits: [classes, rows], z; -inf in padding.
    salient: [classes, rows], (s · x) W; 0 in padding.
    probs: [classes, rows], p; 0 in padding.
    exponent: [anchors, rows], the distance d of a row to each anchor.
    bins: [bins, rows], 1 at the top bins, else 0.
    fraction: [rows], rho, the salient fraction of the coordinates.
  """

  logits: jax.Array
  salient: jax.Array
  probs: jax.Array
  exponent: jax.Array
  bins: jax.Array
  fraction: jax.Array


class _Tile(NamedTuple):
  """A tile of the anchors.

  Attributes:
    shifts: [anchors · classes, bins], `anchor_shifts`, flattened.
    probs: [anchors, classes], the probability anchors q; 0 in padding.
    first: [], the class of the first anchor.
    fresh: [anchors], False at anchors that an earlier tile has counted.
  """

  shifts: jax.Array
  probs: jax.Array
  first: jax.Array
  fresh: jax.Array


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
  mesh: Mesh | None = None,
  axis: str | Sequence[str] | None = None,
) -> Float[Array, " pool"]:
  """Scores how uncertain the classification of each example of a pool is.

  Each example is fused with each class anchor, and P, the prediction on the
  fused feature, is compared with mixtures u of the example's and the anchor's
  predictions: score = mean over anchors of

    (1 - rho) (CE(p, P)^d + conf) + rho (CE(whole, P)^d + conf)
      + (CE(part, P)^d + conf),

  with whole = (1 - lam) p + lam q, part = (1 - rho lam) p + rho lam q,
  conf = H(P)^(1 - d), CE(u, P) = -sum u log(P + 1e-10), and d the cosine
  distance (1 - cos) / 2 of example and anchor.

  The run time is that of the valid rows only, and the memory beyond the inputs
  is linear in the pool.

  Args:
    features: Features of the pool, as the head consumes them.
    probs: Predicted class probabilities of the pool.
    anchors: Class anchors, of `class_anchors`.
    head: The linear head, of two classes or more.
    valid: True at the rows that exist; None means all.
    num_bins: Bins of the saliency mask, at least 1.
    num_top_bins: Salient bins, in [1, num_bins].
    block_size: Rows of the pool to work on at once. None chooses a number that
      suits the backend.
    mesh: Mesh that the rows are split over. Needed only inside `jax.jit` on
      axes of type Auto, where types do not show it.
    axis: The names of its axes that split the rows; None for all.

  Returns:
    The scores, at least 0; 0 where `valid` is False.

  Raises:
    ValueError: If shapes do not fit or an option is out of range.

  References:
    Jin and Yang, ECCV 2026, https://arxiv.org/abs/2509.24181,
    discrepancy-confusion uncertainty.
  """
  sizes = check_pool(features, probs, head, anchors=anchors, valid=valid)
  num_bins, num_top_bins = check_bins(num_bins, num_top_bins)
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
    mesh=mesh,
    axis=axis,
  )


def _block_sizes(num_classes: int, block_size: object) -> tuple[int, int]:
  """Returns the rows and the anchors to work on at once."""
  floats = block_floats()
  if block_size is None:
    block_size = max(64, min(4096, floats // num_classes**2))
  block_size = check_integer("block_size", block_size, low=1)
  tile_size = floats // (num_classes * block_size)
  return block_size, max(1, min(num_classes, tile_size))


@shard_rows(
  rows=("features", "probs", "valid"),
  out=SPLIT,
  static_argnames=("num_bins", "num_top_bins", "block_size", "tile_size"),
)
def _discrepancy_confusion(
  features: Rows,
  probs: Float[Array, "pool classes"],
  anchors: Anchors,
  head: LinearHead,
  valid: Bool[Array, " pool"] | None,
  *,
  num_bins: int,
  num_top_bins: int,
  block_size: int,
  tile_size: int,
  axis_name: AxisName = None,
) -> Float[Array, " pool"]:
  """Scores a pool in blocks of rows and tiles of anchors.

  Holds `tile_size · classes · block_size` floats in memory at once.
  """
  pool = len(features)
  num_rows = pool if valid is None else jnp.sum(valid)
  num_chunks = -(-pool // CHUNK_ROWS)
  # One size for all pools larger than a chunk, so that the products of a row
  # are rounded in the same way at every index, and equal bins keep their order.
  chunk_size = min(pool, CHUNK_ROWS)
  order = None if valid is None else compaction(valid)
  if num_chunks > 1:
    order = jnp.arange(pool) if order is None else order
    order = jnp.pad(order, (0, num_chunks * chunk_size - pool))
  kernel_bins = split_bins(_pad_classes(head.kernel.T), num_bins)
  anchor_bins = split_bins(anchors.features, num_bins)
  anchor_probs = _pad_classes(anchors.probs.T).T

  def read(array, start):
    if order is None:
      return rows_at(array, start, chunk_size)
    return array[rows_at(order, start, chunk_size)]

  def score_chunk(scores, start, fresh):
    rows = _prepare(
      read(features, start),
      read(probs, start),
      anchors,
      head,
      num_bins=num_bins,
      num_top_bins=num_top_bins,
    )

    def add_tile(total, first, fresh):
      size = len(fresh)
      bins = jax.lax.dynamic_slice_in_dim(anchor_bins, first, size, axis=1)
      shifts = anchor_shifts(bins, kernel_bins).reshape(-1, num_bins)
      tile = _Tile(shifts, rows_at(anchor_probs, first, size), first, fresh)
      return _add_scores(
        total,
        rows,
        tile,
        num_rows=jnp.clip(num_rows - start, 0, chunk_size),
        block_size=block_size,
      )

    total = fold_blocks(
      add_tile,
      varying(jnp.zeros(chunk_size), axis_name),
      num_rows=len(anchors.features),
      max_rows=len(anchors.features),
      block_size=tile_size,
    )
    return set_rows_at(scores, total / len(anchors.features), start)

  length = num_chunks * chunk_size
  scores = fold_blocks(
    score_chunk,
    varying(jnp.zeros(length), axis_name),
    num_rows=num_rows,
    max_rows=length,
    block_size=chunk_size,
  )[:pool]
  if order is not None:
    scores = jnp.zeros_like(scores).at[order[:pool]].set(scores)
  return scores if valid is None else jnp.where(valid, scores, 0.0)


def _pad_classes(rows: Array, value: float = 0.0) -> Array:
  """Pads the first axis, of classes, to whole parts."""
  padding = -len(rows) % NUM_PARTS
  return jnp.pad(rows, ((0, padding), (0, 0)), constant_values=value)


def _prepare(features, probs, anchors, head, *, num_bins, num_top_bins):
  """Computes what the score needs of a chunk of the pool, as `_Rows`."""
  z = logits(head, features)
  bins = top_bins(z, probs, head, num_bins=num_bins, num_top_bins=num_top_bins)
  mask = bins[:, upsampling_bins(features.shape[-1], num_bins)]
  salient = jnp.matmul(
    jnp.where(mask, features, 0.0),
    head.kernel,
    precision=jax.lax.Precision.HIGHEST,
  )
  cosine = cosine_similarity(features, anchors.features)
  return _Rows(
    logits=_pad_classes(z.T, -jnp.inf),
    salient=_pad_classes(salient.T),
    probs=_pad_classes(probs.T),
    exponent=jnp.clip((1.0 - cosine.T) / 2.0, 0.0, 1.0),
    bins=bins.T.astype(features.dtype),
    fraction=jnp.mean(mask, axis=-1, dtype=features.dtype),
  )


def _add_scores(
  total: Float[Array, " rows"],
  rows: _Rows,
  tile: _Tile,
  *,
  num_rows: Int[Array, ""],
  block_size: int,
) -> Float[Array, " rows"]:
  """Adds one tile's share of the score to every row of a chunk."""

  def add_block(total, start, fresh):
    size = len(fresh)
    block = jax.tree.map(
      lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, start, size, axis=-1),
      rows,
    )
    share = rows_at(total, start, size)
    share = share + jnp.where(fresh, _block_scores(block, tile), 0.0)
    return set_rows_at(total, share, start)

  return fold_blocks(
    add_block,
    total,
    num_rows=num_rows,
    max_rows=len(total),
    block_size=block_size,
  )


def _block_scores(block: _Rows, tile: _Tile) -> Float[Array, " rows"]:
  """Returns the sum over the tile's anchors of the score of a block."""
  num_anchors = len(tile.fresh)
  ratio = fusion_ratio(rows_at(block.probs, tile.first, num_anchors))
  d = rows_at(block.exponent, tile.first, num_anchors)
  entropy, cross_own, cross_anchor = _cross_entropies(block, tile, ratio)
  rho = block.fraction[None]

  def mixture(weight):
    return (1.0 - weight) * cross_own + weight * cross_anchor

  confusion = power(entropy, 1.0 - d)
  scores = (
    (1.0 - rho) * (power(cross_own, d) + confusion)
    + rho * (power(mixture(ratio), d) + confusion)
    + (power(mixture(rho * ratio), d) + confusion)
  )
  return jnp.sum(jnp.where(tile.fresh[:, None], scores, 0.0), axis=0)


def power(base: Array, exponent: Array) -> Array:
  """Raises a base clamped at 0 to a power, with 0^0 = 1 on every backend.

  Args:
    base: The base.
    exponent: The exponent, at least 0.
  """
  safe = jnp.maximum(base, 0.0)
  return jnp.where(exponent == 0.0, 1.0, jnp.power(safe, exponent))


def _cross_entropies(
  block: _Rows, tile: _Tile, ratio: Float[Array, "anchors rows"]
) -> tuple[Array, Array, Array]:
  """Returns H(P), CE(p, P) and CE(q, P), each [anchors, rows].

  The log-probability of the largest class is -log1p(sum of the others), so that
  nothing cancels when the softmax saturates. The other probabilities are at
  most 1/2, where log(P + epsilon) loses no digits.
  """
  fused = _fused_logits(block, tile, ratio)
  top = functools.reduce(jnp.maximum, fused).max(axis=1)[:, None]
  others = num_top = jnp.zeros(())
  for part in fused:
    is_top = part >= top
    others = others + jnp.where(is_top, 0.0, jnp.exp(part - top))
    num_top = num_top + jnp.where(is_top, 1.0, 0.0)
  rest = others.sum(axis=1) + (num_top.sum(axis=1) - 1.0)
  top_log = (EPSILON * (1.0 + rest) - jnp.log1p(rest))[:, None]
  scale = (1.0 / (1.0 + rest))[:, None]

  own, anchor = _parts(block.probs[None], 1), _parts(tile.probs[..., None], 1)
  sums = (jnp.zeros(()),) * 3
  for part, p, q in zip(fused, own, anchor, strict=True):
    prob = jnp.exp(part - top) * scale
    log = jnp.where(part >= top, top_log, jnp.log(prob + EPSILON))
    terms = (prob * log, p * log, q * log)
    sums = tuple(s - t for s, t in zip(sums, terms, strict=True))
  entropy, cross_own, cross_anchor = (s.sum(axis=1) for s in sums)
  return entropy, cross_own, cross_anchor


def _fused_logits(block: _Rows, tile: _Tile, ratio: Array) -> list[Array]:
  """Returns the logits of the fused features, [anchors, classes, rows] cut."""
  num_rows = block.bins.shape[-1]
  shift = jnp.matmul(
    tile.shifts, block.bins, precision=jax.lax.Precision.HIGHEST
  )
  shift = shift.reshape(len(tile.fresh), -1, num_rows)
  ratio = ratio[:, None]
  parts = (_parts(shift, 1), *(_parts(a[None], 1) for a in block[:2]))
  return [
    z + ratio * (moved - salient)
    for moved, z, salient in zip(*parts, strict=True)
  ]


def _parts(array: Array, axis: int) -> list[Array]:
  """Cuts the axis of classes into `NUM_PARTS` interleaved parts."""
  shape = array.shape
  array = array.reshape(*shape[:axis], -1, NUM_PARTS, *shape[axis + 1 :])
  return [
    jax.lax.index_in_dim(array, part, axis + 1, keepdims=False)
    for part in range(NUM_PARTS)
  ]


def fusion_ratio(
  probs: Float[Array, "*batch classes"],
) -> Float[Array, "*batch classes"]:
  """Returns how far fusion moves an example to each anchor: 1/64 to 63/64."""
  return jnp.clip(probs, MIN_RATIO, MAX_RATIO)


def split_bins(
  rows: Float[Array, "rows dim"], num_bins: int
) -> Float[Array, "bins rows width"]:
  """Splits coordinates by upsampling bin, padding every bin with zeros."""
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
    kernel_bins: The transposed kernel of the head, split in the same way.

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
