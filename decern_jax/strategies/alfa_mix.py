"""ALFA-Mix: examples whose prediction changes on the way to a class."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from decern_jax.ops import head as linear
from decern_jax.ops.distances import normalize, square_distances
from decern_jax.strategies.base import Pool, Selection, Strategy, register
from decern_jax.strategies.pick import pick_diverse

# Caps of the step, times the square root of the dimension. The next cap is used
# while no more examples than the budget change their prediction.
CAPS = (0.2, 0.4, 0.6, 0.8, 1.0)


def select(key: Key[Array, ""], pool: Pool, *, budget: int) -> Selection:
  """Selects among the examples whose class a small mixing step changes.

  A feature x is mixed with the anchor a of a class, the mean feature of its
  labeled examples, by the step in closed form

    α (a - x) = ε |a - x| g / |g|,  ε = cap / sqrt(dim),

  where g is the gradient of the cross-entropy with the predicted class. The
  direction of the step is the same for every anchor, and a prediction that has
  changed does not change back on the way; so only the farthest anchor is tried.
  The cap rises by 0.2 from 0.2 to 1, until more predictions than the budget
  change. These examples are clustered by k-means on features of length 1, and
  those nearest to the centers are selected. If there are fewer than the budget,
  random candidates fill the batch.

  Returns:
    The selection; scores are 1 / (1 + c), where c is the cap at which the
    prediction changes; 0 where it never does.

  References:
    Parvaneh et al., "Active Learning by Feature Mixing", CVPR 2022,
    https://arxiv.org/abs/2203.07034.
  """
  changing = _changing_caps(pool)
  return _select(key, pool, changing, budget=budget)


def select_multi_label(
  key: Key[Array, ""], pool: Pool, *, budget: int
) -> Selection:
  """Selects as `select`, for several labels per example.

  g is the gradient of the sum of the binary cross-entropies with the predicted
  labels. One label that changes is enough.

  """
  changing = _changing_caps_multi_label(pool)
  return _select(key, pool, changing, budget=budget)


def _select(key, pool, changing, *, budget) -> Selection:
  shortlist = _shortlist(changing, pool.candidates, budget)
  indices = pick_diverse(
    key, pool.features, shortlist, pool.candidates, budget=budget
  )
  return Selection(indices, _score(changing))


@jax.jit
def _score(changing):
  return 1.0 / (1.0 + changing)


@jax.jit
def _shortlist(changing, candidates, budget):
  """Returns the candidates that change under the first sufficient cap."""
  changed = [candidates & (changing < cap) for cap in CAPS]
  shortlist = changed[-1]
  for fewer in reversed(changed[:-1]):
    shortlist = jnp.where(jnp.sum(fewer) > budget, fewer, shortlist)
  return shortlist


@jax.jit
def _changing_caps(pool) -> jax.Array:
  """Returns [pool], the cap at which each prediction changes, or inf."""
  logits = linear.logits(pool.head, pool.features)
  classes = jnp.arange(logits.shape[-1])
  top = jnp.argmax(logits, axis=-1)
  is_top = classes[None] == top[:, None]
  # p - onehot, divided by 1 - p of the predicted class, which may round to 0.
  # Only the direction is needed.
  residual = jax.nn.softmax(jnp.where(is_top, -jnp.inf, logits), axis=-1)
  residual = jnp.where(is_top, -1.0, residual)
  slopes = _slopes(pool.head, residual)
  gap = jnp.max(logits, axis=-1, keepdims=True) - logits
  slope = jnp.take_along_axis(slopes, top[:, None], axis=-1)
  length = _crossing(gap, slopes - slope)
  member = pool.labels[:, None] == classes[None]
  return _caps(pool, length, member)


@jax.jit
def _changing_caps_multi_label(pool) -> jax.Array:
  """Returns [pool], the cap at which the first label changes, or inf."""
  logits = linear.logits(pool.head, pool.features)
  sign = jnp.where(logits >= 0.0, 1.0, -1.0)
  # p - label, divided by its largest entry, which may round to 0.
  size = jax.nn.log_sigmoid(-jnp.abs(logits))
  size = jnp.exp(size - jnp.max(size, axis=-1, keepdims=True))
  slopes = _slopes(pool.head, -sign * size)
  length = _crossing(jnp.abs(logits), -sign * slopes)
  return _caps(pool, length, pool.labels == 1)


def _slopes(head, residual) -> jax.Array:
  """Returns [pool, classes], the slopes of the logits along g / |g|."""
  highest = jax.lax.Precision.HIGHEST
  gradient = jnp.matmul(residual, head.kernel.T, precision=highest)
  return jnp.matmul(normalize(gradient), head.kernel, precision=highest)


def _crossing(gap, rate) -> jax.Array:
  """Returns [pool], the smallest gap / rate over classes of positive rate."""
  catches_up = rate > 0.0
  length = gap / jnp.where(catches_up, rate, 1.0)
  return jnp.min(jnp.where(catches_up, length, jnp.inf), axis=-1)


def _caps(pool, length, member) -> jax.Array:
  """Returns the caps at which the step to the farthest anchor is `length`."""
  features = pool.features
  sizes = jnp.sum(member, axis=0, dtype=features.dtype)
  sums = jnp.matmul(
    member.astype(features.dtype).T,
    features,
    precision=jax.lax.Precision.HIGHEST,
  )
  anchors = sums / jnp.maximum(sizes, 1.0)[:, None]
  square = square_distances(
    features,
    jnp.sum(features**2, axis=-1),
    anchors,
    jnp.sum(anchors**2, axis=-1),
  )
  square = jnp.where((sizes > 0.0)[None], square, 0.0)
  step = jnp.sqrt(jnp.max(square, axis=-1) / features.shape[-1])
  caps = length / jnp.where(step > 0.0, step, 1.0)
  return jnp.where(pool.candidates & (step > 0.0), caps, jnp.inf)


register(
  Strategy(
    "alfa_mix",
    select,
    select_multi_label,
    needs=("features", "labels", "head"),
  )
)
