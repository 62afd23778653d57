"""What every strategy is given, and what it gives back."""

from collections.abc import Callable
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from decern_jax.ops.collective import top_rows
from decern_jax.ops.head import LinearHead
from decern_jax.sharding import pool_layout


class Pool(NamedTuple):
  """The training set as a strategy sees it, split over the mesh.

  Attributes:
    features: float32 [pool, dim], as the head consumes them.
    probs: float32 [pool, classes], predicted class probabilities.
    labels: int32 [pool], the class of labeled examples; -1 elsewhere.
    candidates: bool [pool], the examples that may be selected.
    head: The classifier of this round.
  """

  features: jax.Array
  probs: jax.Array
  labels: jax.Array
  candidates: jax.Array
  head: LinearHead


class Selection(NamedTuple):
  """What a strategy answers.

  Attributes:
    positions: int32 [budget], distinct candidates.
    scores: float32 [pool], the score that ranked the examples, or None where
      nothing was scored.
  """

  positions: jax.Array
  scores: jax.Array | None


class Strategy(NamedTuple):
  """A row of the table of strategies.

  Attributes:
    select: Maps `(key, pool, *, budget, **options)` to a `Selection`.
    options: Names of the options that `select` takes from the configuration.
  """

  select: Callable[..., Selection]
  options: tuple[str, ...] = ()


def take_highest(
  scores: jax.Array, candidates: jax.Array, *, budget: int
) -> jax.Array:
  """Returns the positions of the candidates with the highest scores.

  Args:
    scores: float32 [pool].
    candidates: bool [pool], at least `budget` of them True.
    budget: Examples to select.

  Returns:
    int32 [budget], by falling score; among equal ones the lowest position
    comes first.
  """
  return _take_highest(
    scores, candidates, budget=budget, layout=pool_layout(candidates)
  )


@functools.partial(jax.jit, static_argnames=("budget", "layout"))
def _take_highest(scores, candidates, *, budget, layout):
  def take(scores, candidates):
    ranked = jnp.where(candidates, scores, -jnp.inf)
    axis = None if layout is None else layout.axis
    return top_rows(ranked, budget, axis)[1].astype(jnp.int32)

  if layout is None:
    return take(scores, candidates)
  return jax.shard_map(
    take,
    mesh=layout.mesh,
    in_specs=(layout.rows, layout.rows),
    out_specs=PartitionSpec(),
  )(scores, candidates)
