"""DECERN's selection from a pool, in one jitted call."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key
import numpy as np

from decern_jax import ops
from decern_jax.distributed.rows import HostRows
from decern_jax.distributed.sharding import shard_rows
from decern_jax.io.validation import (
  as_float32,
  check_integer,
  check_number,
  check_pool,
  check_shapes,
  float32_tree,
)
from decern_jax.ops.anchors import Anchors
from decern_jax.ops.head import LinearHead
from decern_jax.strategies.diversity import MAX_STEPS, TOLERANCE, block_rows
from decern_jax.strategies.scoring import discrepancy_confusion


def select_decern(
  key: Key[Array, ""],
  features: Float[jax.typing.ArrayLike, "pool dim"] | HostRows,
  probs: Float[jax.typing.ArrayLike, "pool classes"],
  anchors: Anchors,
  head: LinearHead,
  *,
  budget: int,
  valid: Bool[jax.typing.ArrayLike, " pool"] | None = None,
  uncertainty_gamma: float = 0.5,
  diversity_gamma: float = 0.8,
) -> Int[Array, " budget"]:
  """Selects the examples of a pool to label next, by DECERN.

  Args:
    key: Random key of the clustering's start and of the fill-up.
    features: Features of the pool, as the head consumes them.
    probs: Predicted class probabilities of the pool.
    anchors: Class anchors, of `class_anchors`.
    head: The linear head, of two classes or more.
    budget: Examples to select, in [1, valid rows].
    valid: True at the rows that exist; None: all.
    uncertainty_gamma: Factor of the skew term in the uncertainty threshold.
    diversity_gamma: Weight of nearness to the cluster's center, in [0, 1].

  Returns:
    Distinct positions in `features`, int32, exactly `budget` of them. A budget
    equal to the valid pool returns all of it.

  Raises:
    ValueError: If shapes do not fit or an option is out of range.

  References:
    Jin and Yang, "Combining Discrepancy-Confusion Uncertainty and Calibration
    Diversity for Active Fine-Grained Image Classification", ECCV 2026,
    https://arxiv.org/abs/2509.24181.
  """
  check_pool(features, probs, head, anchors=anchors, valid=valid)
  # Before the scoring, which takes its time.
  options = _check_options(
    len(features),
    valid,
    budget=budget,
    uncertainty_gamma=uncertainty_gamma,
    diversity_gamma=diversity_gamma,
  )
  scores = discrepancy_confusion(features, probs, anchors, head, valid=valid)
  return select_by_score(key, features, scores, anchors, valid=valid, **options)


def select_by_score(
  key: Key[Array, ""],
  features: Float[jax.typing.ArrayLike, "pool dim"] | HostRows,
  scores: Float[jax.typing.ArrayLike, " pool"],
  anchors: Anchors,
  *,
  budget: int,
  valid: Bool[jax.typing.ArrayLike, " pool"] | None = None,
  uncertainty_gamma: float = 0.5,
  diversity_gamma: float = 0.8,
) -> Int[Array, " budget"]:
  """Selects by DECERN's filter, clustering and pick, given any scores.

  Args:
    key: Random key of the clustering's start and of the fill-up.
    features: Features of the pool.
    scores: Uncertainty of each example, at least 0.
    anchors: Class anchors; only their features are used.
    budget: Examples to select, in [1, valid rows].
    valid: True at the rows that exist; None: all.
    uncertainty_gamma: Factor of the skew term in the uncertainty threshold.
    diversity_gamma: Weight of nearness to the cluster's center, in [0, 1].

  Returns:
    Distinct positions in `features`, int32, exactly `budget` of them.

  Raises:
    ValueError: If shapes do not fit or an option is out of range.
  """
  arrays = {
    "features": (features, ("pool", "dim")),
    "scores": (scores, ("pool",)),
    "anchors.features": (anchors.features, ("classes", "dim")),
  }
  if valid is not None:
    arrays["valid"] = (valid, ("pool",))
  sizes = check_shapes({}, **arrays)
  options = _check_options(
    sizes["pool"],
    valid,
    budget=budget,
    uncertainty_gamma=uncertainty_gamma,
    diversity_gamma=diversity_gamma,
  )
  return _select_by_score(
    key,
    as_float32(features),
    as_float32(scores),
    float32_tree(anchors),
    jnp.ones(sizes["pool"], bool) if valid is None else valid,
    max_steps=MAX_STEPS,
    tolerance=TOLERANCE,
    block_size=block_rows(sizes["dim"]),
    **options,
  )


_select_by_score = shard_rows(
  rows=("features", "scores", "valid"),
  static_argnames=("budget", "max_steps", "block_size"),
)(ops.decern.select_by_score)


def _check_options(
  pool, valid, *, budget, uncertainty_gamma, diversity_gamma
) -> dict[str, int | float]:
  """Returns the options of a selection, checked."""
  return {
    "budget": check_budget(budget, pool, valid),
    "uncertainty_gamma": check_number(
      "uncertainty_gamma", uncertainty_gamma, low=-float("inf")
    ),
    "diversity_gamma": check_number(
      "diversity_gamma", diversity_gamma, low=0.0, high=1.0
    ),
  }


def check_budget(
  budget: object, pool: int, valid: jax.typing.ArrayLike | None
) -> int:
  """Returns a budget as an int.

  Args:
    budget: Examples to select.
    pool: Rows of the pool.
    valid: True at the rows that exist; None: all. Its values are looked at
      where this process has them.

  Returns:
    The budget.

  Raises:
    ValueError: If it is not an integer in [1, rows that exist].
  """
  budget = check_integer("budget", budget, low=1, high=pool)
  if valid is None or isinstance(valid, jax.core.Tracer | jax.ShapeDtypeStruct):
    return budget
  if isinstance(valid, jax.Array) and not valid.is_fully_addressable:
    return budget
  rows = int(np.sum(np.asarray(valid)))
  if budget > rows:
    raise ValueError(f"Expected `budget` <= {rows} valid rows, got {budget}.")
  return budget
