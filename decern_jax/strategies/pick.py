"""Picks a batch from scores or a shortlist, in ways that strategies share."""

from collections.abc import Callable
import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from decern_jax.distributed.collective import AxisName, top_rows
from decern_jax.distributed.sharding import shard_rows, take
from decern_jax.ops.distances import ROUNDING, nearest_distinct, normalize
from decern_jax.ops.keys import uniform_at
from decern_jax.ops.kmeans import weighted_kmeans
from decern_jax.strategies.base import Option, Pool, Select, Selection

# Replaces a score or a draw of 0 in the logarithm.
SMALLEST = float(jnp.finfo(jnp.float32).tiny)

POWER_BETA = Option(
  "power_beta",
  1.0,
  "power_*: the larger, the more the draw follows the score.",
  low=1e-6,
)
SHORTLIST_FACTOR = Option(
  "shortlist_factor",
  4,
  "*_clustered: how many examples are clustered, as a multiple of the budget.",
  low=1,
)
CLUSTER_PICK = Option(
  "cluster_pick",
  "most_uncertain",
  "*_clustered: the example of a cluster that is selected.",
  choices=("most_uncertain", "nearest_center"),
)
CLUSTER_OPTIONS = (SHORTLIST_FACTOR, CLUSTER_PICK)


@shard_rows(rows=("scores", "candidates"), static_argnames=("budget",))
def take_highest(
  scores: Float[Array, " pool"],
  candidates: Bool[Array, " pool"],
  *,
  budget: int,
  axis_name: AxisName = None,
) -> Int[Array, " budget"]:
  """Takes the candidates with the highest scores.

  Args:
    scores: Scores of the pool.
    candidates: True at the candidates, at least `budget` of them.
    budget: Examples to take.
    axis_name: Mesh axes that the pool is split over, inside `shard_map`.

  Returns:
    Their indices by decreasing score, int32; of equal scores, the lowest index
    comes first.
  """
  ranking = jnp.where(candidates, scores, -jnp.inf)
  return top_rows(ranking, budget, axis_name)[1].astype(jnp.int32)


def ranked(score: Callable[[Pool], Float[Array, " pool"]]) -> Select:
  """Makes a strategy that selects the highest scores.

  Args:
    score: Maps the pool to a score for each example; only the scores of
      candidates matter.

  Returns:
    The strategy, which is deterministic.
  """

  def select(key: Key[Array, ""], pool: Pool, *, budget: int) -> Selection:
    del key
    scores = score(pool)
    indices = take_highest(scores, pool.candidates, budget=budget)
    return Selection(indices, scores)

  # `list_strategies` reads the summary and the source from it.
  select.__doc__ = score.__doc__
  return select


def power(select: Select) -> Select:
  """Makes a strategy that draws by a power of another strategy's scores.

  Examples are drawn without replacement, with probabilities proportional to
  score^beta: the highest values of log score + noise / beta are taken, with
  independent standard Gumbel noise. An infinite beta would be the strategy
  itself, beta = 0 uniform sampling. A score of 0 counts as the smallest
  positive number.

  Args:
    select: A strategy whose scores are at least 0.

  Returns:
    The strategy, with the additional option `power_beta`. Its scores are
    log score + noise / beta.
  """

  def draw(
    key: Key[Array, ""],
    pool: Pool,
    *,
    budget: int,
    power_beta: float,
    **options,
  ) -> Selection:
    """Draws with probabilities proportional to a power of the score.

    References:
      Kirsch, Farquhar, Atighehchian, Jesson, Branchaud-Charron and Gal,
      "Stochastic Batch Acquisition: A Simple Baseline for Deep Active
      Learning", TMLR 2023, https://arxiv.org/abs/2106.12059.
    """
    key, noise_key = jax.random.split(key)
    scores = select(key, pool, budget=budget, **options).scores
    scores = _perturb(noise_key, scores, power_beta)
    return Selection(
      take_highest(scores, pool.candidates, budget=budget), scores
    )

  return draw


@jax.jit
def _perturb(key, scores, beta):
  """Returns log score + noise / beta, finite where the score is."""
  uniform = jnp.maximum(uniform_at(key, jnp.arange(len(scores))), SMALLEST)
  noise = -jnp.log(-jnp.log(uniform))
  return jnp.log(jnp.maximum(scores, SMALLEST)) + noise / beta


def clustered(select: Select) -> Select:
  """Makes a strategy that picks from clusters of the most uncertain examples.

  A selection without scores, such as that of temporal discrepancy in the first
  round, is returned unchanged.

  Args:
    select: A strategy whose highest scores are wanted.

  Returns:
    The strategy, with the additional options `shortlist_factor` and
    `cluster_pick`; it needs features. Its scores are those of `select`.
  """

  def pick(
    key: Key[Array, ""],
    pool: Pool,
    *,
    budget: int,
    shortlist_factor: int,
    cluster_pick: str,
    **options,
  ) -> Selection:
    """Picks one example from each cluster of the highest scores.

    References:
      Möllenbrok, Sumbul and Demir, "Deep Active Learning for Multi-Label
      Classification of Remote Sensing Images", IEEE GRSL 2023,
      https://arxiv.org/abs/2212.01165.
    """
    key, cluster_key = jax.random.split(key)
    selection = select(key, pool, budget=budget, **options)
    if selection.scores is None:
      return selection
    indices = pick_from_clusters(
      cluster_key,
      pool.features,
      selection.scores,
      pool.candidates,
      budget=budget,
      shortlist_factor=shortlist_factor,
      cluster_pick=cluster_pick,
    )
    return Selection(indices, selection.scores)

  return pick


def pick_from_clusters(
  key: Key[Array, ""],
  features: Float[Array, "pool dim"],
  scores: Float[Array, " pool"],
  candidates: Bool[Array, " pool"],
  *,
  budget: int,
  shortlist_factor: int,
  cluster_pick: str,
) -> Int[Array, " budget"]:
  """Picks one example from each cluster of the most uncertain examples.

  The shortlist holds the `shortlist_factor · budget` candidates with the
  highest scores, or all candidates if they are fewer. K-means on the features
  divides it into `budget` clusters, and each cluster gives one example. In
  place of an empty cluster, the most uncertain example not yet picked is taken.
  The clustering is published; the factor 4 and the most uncertain example as
  the pick are this project's choice.

  Only the features of the shortlist are gathered, on every device, so that the
  result does not depend on the number of devices.

  Args:
    key: Random key of the initial centers.
    features: Features of the pool.
    scores: Scores of the pool, finite at the candidates.
    candidates: True at the candidates, at least `budget` of them.
    budget: Examples to pick.
    shortlist_factor: Length of the shortlist as a multiple of the budget, at
      least 1.
    cluster_pick: "most_uncertain" picks the highest score of a cluster,
      "nearest_center" the example nearest to its center. Ties go to the higher
      score, then to the lower index.

  Returns:
    Distinct candidates, int32: the picks, then the replacements of empty
    clusters, each by decreasing score.

  Raises:
    ValueError: If an option is outside its range.
  """
  factor = int(SHORTLIST_FACTOR.check(shortlist_factor))
  CLUSTER_PICK.check(cluster_pick)
  size = min(factor * budget, len(scores))
  shortlist = take_highest(scores, candidates, budget=size)
  points = take(features, shortlist)
  # Fewer candidates than `size` come first in the shortlist.
  is_candidate = _first(candidates, size=size)
  clusters = weighted_kmeans(
    key, points, is_candidate.astype(points.dtype), num_clusters=budget
  )
  pickable = is_candidate
  if cluster_pick == "nearest_center":
    pickable = _are_nearest(
      points, clusters.centers, clusters.assignments, is_candidate
    )
  return _pick(shortlist, clusters.assignments, pickable, budget=budget)


@functools.partial(jax.jit, static_argnames="size")
def _first(candidates, *, size):
  return jnp.arange(size) < jnp.sum(candidates)


@jax.jit
def _are_nearest(points, centers, assignments, is_candidate):
  """Marks the candidates that are nearest to their cluster's center."""
  own = centers[assignments]
  squares = jnp.sum((points - own) ** 2, axis=-1)
  squares = jnp.where(is_candidate, squares, jnp.inf)
  least = jax.ops.segment_min(squares, assignments, len(centers))
  # Two examples of a cluster are equally far from their mean, and rounding must
  # not decide between them.
  rounding = ROUNDING * jnp.sum(points**2 + own**2, axis=-1)
  return is_candidate & (squares <= least[assignments] + rounding)


@functools.partial(jax.jit, static_argnames="budget")
def _pick(shortlist, assignments, pickable, *, budget):
  """Takes the first pickable example of each cluster, then the others."""
  rank = jnp.arange(len(shortlist))
  best = jnp.where(pickable, rank, len(shortlist))
  best = jax.ops.segment_min(best, assignments, budget)
  is_picked = pickable & (rank == best[assignments])
  return shortlist[jnp.argsort(~is_picked, stable=True)[:budget]]


def pick_diverse(
  key: Key[Array, ""],
  features: Float[Array, "pool dim"],
  shortlist: Bool[Array, " pool"],
  candidates: Bool[Array, " pool"],
  *,
  budget: int,
) -> Int[Array, " budget"]:
  """Picks the examples of a shortlist that are nearest to its centers.

  The features are scaled to length 1 and clustered by k-means; each center in
  turn takes the nearest example that is not taken yet. A shortlist shorter than
  the budget is taken as a whole and filled up at random.

  Args:
    key: Random key.
    features: Features of the pool.
    shortlist: True at the candidates that are preferred.
    candidates: True at the candidates, at least `budget` of them.
    budget: Examples to pick.

  Returns:
    Distinct candidates, int32.
  """
  fill_key, cluster_key = jax.random.split(key)
  filled = take_highest(
    _shortlist_first(fill_key, shortlist), candidates, budget=budget
  )
  shortlist = _fill(shortlist, filled, budget=budget)
  directions = unit_features(features, shortlist)
  clusters = weighted_kmeans(
    cluster_key,
    directions,
    shortlist.astype(directions.dtype),
    num_clusters=budget,
  )
  return take_nearest(directions, clusters.centers, shortlist, budget=budget)


@jax.jit
def _shortlist_first(key, shortlist):
  """Returns scores that rank the shortlist first, and the rest at random."""
  noise = uniform_at(key, jnp.arange(len(shortlist)))
  return noise + shortlist.astype(noise.dtype)


@functools.partial(jax.jit, static_argnames="budget")
def _fill(shortlist, filled, *, budget):
  """Returns the shortlist, or its completion `filled` if it is too short."""
  is_long = jnp.sum(shortlist) >= budget
  taken = jnp.zeros_like(shortlist).at[filled].set(True)
  return jnp.where(is_long, shortlist, taken)


@jax.jit
def unit_features(
  features: Float[Array, "pool dim"], mask: Bool[Array, " pool"]
) -> Float[Array, "pool dim"]:
  """Scales the features inside a mask to length 1; the others become 0."""
  return normalize(jnp.where(mask[:, None], features, 0.0))


take_nearest = jax.jit(nearest_distinct, static_argnames="budget")
"""`ops.distances.nearest_distinct`, compiled."""


@jax.jit
def draw_uniform(
  key: Key[Array, ""], candidates: Bool[Array, " pool"]
) -> Float[Array, " pool"]:
  """Draws a number in [0, 1) for each example, whatever the sharding."""
  return uniform_at(key, jnp.arange(len(candidates)))
