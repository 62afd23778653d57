"""DropQuery: examples whose prediction does not survive dropout."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from decern_jax.distributed.collective import AxisName, row_offset
from decern_jax.distributed.sharding import SPLIT, block_rows, shard_rows
from decern_jax.ops import head as linear
from decern_jax.strategies.base import Pool, Selection, Strategy, register
from decern_jax.strategies.pick import pick_diverse

NUM_PASSES = 3
DROPOUT_RATE = 0.75
# Smallest length of a shortlist, as a multiple of the budget.
SHORTLIST_FACTOR = 25


def select(key: Key[Array, ""], pool: Pool, *, budget: int) -> Selection:
  """Selects among the examples whose predicted class changes under dropout.

  The head is applied three times to features with three quarters of the
  coordinates dropped and the others scaled up. Examples whose predicted class
  changes in at least two passes are shortlisted; if these are fewer than 25
  times the budget, also those that change in one. The shortlist is clustered by
  k-means on features of length 1, and the examples nearest to the centers are
  selected. If it is shorter than the budget, random candidates fill the batch.

  Returns:
    The selection; scores are the fraction of the passes that change the
    prediction.

  References:
    Gupte, Aklilu, Nirschl and Yeung-Levy, "Revisiting Active Learning in the
    Era of Vision Foundation Models", TMLR 2024,
    https://arxiv.org/abs/2401.14555.
  """
  return _select(key, pool, _is_other_class, budget=budget)


def select_multi_label(
  key: Key[Array, ""], pool: Pool, *, budget: int
) -> Selection:
  """Selects as `select`, for several labels per example.

  A pass changes the prediction if it changes the decision on any label.

  """
  return _select(key, pool, _is_other_decision, budget=budget)


def _select(key, pool, changes, *, budget) -> Selection:
  dropout_key, pick_key = jax.random.split(key)
  counts = _num_changes(
    dropout_key,
    pool.features,
    pool.head,
    changes=changes,
    block_size=block_rows(pool.features.shape[-1]),
  )
  shortlist, scores = _shortlist(counts, pool.candidates, budget)
  indices = pick_diverse(
    pick_key, pool.features, shortlist, pool.candidates, budget=budget
  )
  return Selection(indices, scores)


def _is_other_class(logits, dropped):
  return jnp.argmax(logits, axis=-1) != jnp.argmax(dropped, axis=-1)


def _is_other_decision(logits, dropped):
  return jnp.any((logits >= 0.0) != (dropped >= 0.0), axis=-1)


@jax.jit
def _shortlist(counts, candidates, budget):
  """Returns the candidates that change most often, and all scores."""
  counts = jnp.where(candidates, counts, 0)
  shortlist = counts > 0
  for threshold in range(1, NUM_PASSES // 2 + 1):
    stricter = counts > threshold
    is_enough = jnp.sum(stricter) >= SHORTLIST_FACTOR * budget
    shortlist = jnp.where(is_enough, stricter, shortlist)
  return shortlist, counts / NUM_PASSES


@shard_rows(
  rows=("features",), out=SPLIT, static_argnames=("changes", "block_size")
)
def _num_changes(
  key: Key[Array, ""],
  features: Float[Array, "pool dim"],
  head: linear.LinearHead,
  *,
  changes: Callable,
  block_size: int,
  axis_name: AxisName = None,
) -> Int[Array, " pool"]:
  """Returns how many passes change each prediction.

  The draws of an example depend on its index in the pool, not on the shards.
  """

  def count_row(row):
    index, feature = row
    logits = linear.logits(head, feature)
    row_key = jax.random.fold_in(key, index)
    kept = jax.random.bernoulli(
      row_key, 1.0 - DROPOUT_RATE, (NUM_PASSES, len(feature))
    )
    dropped = jnp.where(kept, feature[None], 0.0) / (1.0 - DROPOUT_RATE)
    return jnp.sum(changes(logits[None], linear.logits(head, dropped)))

  indices = row_offset(len(features), axis_name) + jnp.arange(len(features))
  return jax.lax.map(count_row, (indices, features), batch_size=block_size)


register(
  Strategy("dropquery", select, select_multi_label, needs=("features", "head"))
)
