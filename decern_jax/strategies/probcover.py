"""ProbCover: the examples whose neighborhoods cover the most of the pool."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from decern_jax.ops.block import compaction, fold_blocks, rows_at
from decern_jax.ops.distances import (
  covered_distances,
  normalize,
  square_distances,
)
from decern_jax.ops.keys import uniform_at
from decern_jax.ops.kmeans import weighted_kmeans
from decern_jax.strategies.base import (
  Option,
  Pool,
  Selection,
  Strategy,
  register,
)

# Percentage of the balls that must hold only one pseudo-class.
MIN_PURITY_PERCENT = 95

# The most balls on which the purity is measured.
MAX_BALLS = 2048

# Rows whose distances to the pool are in memory at once: for many rows, and for
# the few that a step of the cover adds.
BLOCK_ROWS = 128
STEP_ROWS = 32

COVER_DELTA = Option(
  "cover_delta",
  0.0,
  "ProbCover: radius of the balls; 0: the largest at which 95 % are pure.",
  low=0.0,
  high=2.0,
)


def select(
  key: Key[Array, ""], pool: Pool, *, budget: int, cover_delta: float
) -> Selection:
  """Selects by a greedy cover of the pool with balls.

  On features of length 1, an example covers all examples at a distance below
  delta. Each step selects the candidate that covers the most examples not
  covered by labeled or selected ones. Ties are broken at random, also among the
  candidates left when all examples are covered. Neighbors are counted in
  blocks, so no graph is stored.

  With delta = 0 the distance is estimated: k-means with as many clusters as
  classes gives pseudo-classes, and delta is the largest distance at which 95 %
  of the balls around examples (at most 2,048, drawn at random) hold only one
  pseudo-class.

  Returns:
    The selection, in the order of the steps, without scores.

  References:
    Yehuda, Dekel, Hacohen and Weinshall, "Active Learning Through a Covering
    Lens", NeurIPS 2022, https://arxiv.org/abs/2205.11320.
  """
  key, cluster_key, ball_key = jax.random.split(key, 3)
  features = _normalize(pool.features)
  if cover_delta == 0.0:
    members = pool.covered | pool.candidates
    clusters = weighted_kmeans(
      cluster_key,
      features,
      members.astype(jnp.float32),
      num_clusters=min(len(pool.head.bias), len(features)),
    )
    cover_delta = _largest_pure_radius(
      ball_key, features, clusters.assignments, members
    )
  # An array, as the estimate is: one program for both.
  delta = jnp.float32(cover_delta)
  indices = _cover(
    key, features, pool.covered, pool.candidates, delta, budget=budget
  )
  return Selection(indices, None)


def select_multi_label(
  key: Key[Array, ""], pool: Pool, *, budget: int, cover_delta: float
) -> Selection:
  """Selects as `select`, but delta must be given: there are no classes.

  Returns:
    The selection, in the order of the steps, without scores.

  Raises:
    ValueError: If the distance is not given.
  """
  if not cover_delta > 0.0:
    raise ValueError(
      "Expected `cover_delta` > 0 where examples have several labels, got "
      f"{cover_delta}."
    )
  return select(key, pool, budget=budget, cover_delta=cover_delta)


_normalize = jax.jit(normalize)


@jax.jit
def _largest_pure_radius(key, features, classes, members) -> jax.Array:
  """Returns the largest radius at which enough balls are pure.

  A ball is pure up to the distance from its center to the nearest example of
  another class, so the radius is a quantile of these distances.
  """
  norms = jnp.sum(features**2, axis=-1)
  noise = uniform_at(key, jnp.arange(len(features)))
  count = min(MAX_BALLS, len(features))
  centers = jax.lax.top_k(jnp.where(members, noise, -1.0), count)[1]

  def to_others(center):
    row = center[None]
    squares = square_distances(features, norms, features[row], norms[row])
    is_other = members & (classes != classes[row])
    return jnp.min(jnp.where(is_other, squares[:, 0], jnp.inf))

  squares = jax.lax.map(to_others, centers, batch_size=BLOCK_ROWS)
  squares = jnp.sort(jnp.where(members[centers], squares, jnp.inf))
  num_balls = jnp.minimum(jnp.sum(members), count)
  num_impure = num_balls * (100 - MIN_PURITY_PERCENT) // 100
  return jnp.sqrt(squares[num_impure])


@functools.partial(jax.jit, static_argnames="budget")
def _cover(key, features, labeled, candidates, delta, *, budget) -> jax.Array:
  """Returns the candidates of a greedy cover, [budget]."""
  norms = jnp.sum(features**2, axis=-1)
  noise = uniform_at(key, jnp.arange(len(features)))
  reach = jnp.asarray(delta, norms.dtype) ** 2
  near = functools.partial(_count_near, features, norms, reach=reach)

  def step(index, state):
    degrees, uncovered, free, taken = state
    best = _argmax_random(degrees, noise, free)[None]
    squares = square_distances(features, norms, features[best], norms[best])
    gone = uncovered & (squares[:, 0] < reach)
    return (
      degrees - near(gone, block_size=STEP_ROWS),
      uncovered & ~gone,
      free & (jnp.arange(len(free)) != best),
      taken.at[index].set(best[0]),
    )

  is_covered = covered_distances(features, norms, labeled) < reach
  uncovered = (candidates | labeled) & ~is_covered
  degrees = near(uncovered, block_size=BLOCK_ROWS)
  empty = jnp.zeros(budget, jnp.int32)
  start = (degrees, uncovered, candidates, empty)
  return jax.lax.fori_loop(0, budget, step, start)[-1]


def _count_near(features, norms, mask, *, reach, block_size) -> jax.Array:
  """Returns [pool], how many rows under the mask lie near each row."""
  order = compaction(mask)

  def step(counts, start, fresh):
    rows = rows_at(order, start, len(fresh))
    squares = square_distances(features, norms, features[rows], norms[rows])
    is_near = (squares < reach) & fresh[None]
    return counts + jnp.sum(is_near, axis=1, dtype=jnp.int32)

  return fold_blocks(
    step,
    jnp.zeros(len(features), jnp.int32),
    num_rows=jnp.sum(mask),
    max_rows=len(features),
    block_size=block_size,
  )


def _argmax_random(degrees, noise, free) -> jax.Array:
  """Returns the free row of the highest degree; noise breaks ties."""
  degrees = jnp.where(free, degrees, -1)
  is_highest = degrees == jnp.max(degrees)
  return jnp.argmax(jnp.where(is_highest, noise, -1.0)).astype(jnp.int32)


register(
  Strategy(
    "probcover",
    select,
    select_multi_label,
    needs=("features", "labels", "head"),
    options=(COVER_DELTA,),
  )
)
