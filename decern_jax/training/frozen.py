"""Training on frozen features: a fresh linear head in every round."""

from collections.abc import Callable
import functools
from typing import Any

import jax.numpy as jnp
import numpy as np

from decern_jax.distributed import sharding
from decern_jax.ops import keys
from decern_jax.strategies.base import Auxiliary
from decern_jax.training import auxiliary as auxiliary_lib
from decern_jax.training import learner, propagation, rounds
from decern_jax.training.head import start_head, train_head
from decern_jax.training.recipe import Recipe


def make_learner(
  variables: Any,
  splits: dict[str, learner.PlacedSplit],
  *,
  num_classes: int,
  capacity: int,
  seed: int,
  recipe: Recipe,
  auxiliary: Auxiliary | None = None,
  describe_pool: Callable[[], propagation.PoolGraph] | None = None,
) -> learner.Learner:
  """Makes a learner of heads.

  Args:
    variables: Variables of the backbone that computed the features.
    splits: "train", "test" and, if there is one, "val".
    num_classes: Number of classes.
    capacity: Number of labels in the last round. All rounds use arrays of this
      length, so that one program serves them all.
    seed: Seed of the run.
    recipe: How to train.
    auxiliary: The module that trains together with the head, if any; the head
      is the same with it.
    describe_pool: Returns what `propagation.fit_with_pool` needs of the
      features of "train", the same in all rounds. None if the recipe trains the
      heads.

  Returns:
    The learner, which ignores the mask of its `embed`. Where the recipe does
    not train the heads, the module trains with one that the recipe trains.
  """

  def fit(state: rounds.RoundState) -> learner.Fit:
    round_num, params = int(state.round), None
    indices, rows = _labeled_rows(splits["train"], state, capacity)
    if auxiliary is None and describe_pool is not None:
      head, losses = fit_convex(indices, rows)
    elif auxiliary is None:
      head, losses = train_head(
        *rows,
        seed=seed,
        round_num=round_num,
        num_classes=num_classes,
        recipe=recipe,
      )
    else:
      dim = splits["train"].features.shape[1]
      (head, params), losses = auxiliary_lib.fit_with_head(
        keys.round_key(seed, "order", round_num),
        start_head(seed, dim=dim, num_classes=num_classes),
        auxiliary_lib.init(auxiliary, seed, stage_dims=(dim,)),
        rows[0],
        rows[1],
        jnp.asarray(rows[2]),
        auxiliary=auxiliary,
        recipe=recipe,
      )
      if describe_pool is not None:
        head, losses = fit_convex(indices, rows)
    losses = np.asarray(losses)
    learner.check_losses(losses, round_num)
    return learner.Fit(variables, head, losses, params)

  def fit_convex(indices, rows):
    assert describe_pool is not None
    labels = rows[1]
    is_multi_label = labels.ndim > 1
    solution = propagation.fit_with_pool(
      describe_pool(),
      splits["train"].features,
      indices,
      rows[2],
      labels if is_multi_label else np.eye(num_classes)[labels],
      is_multi_label=is_multi_label,
    )
    return solution.head, solution.loss[None]

  return learner.Learner(
    fit=fit,
    embed=lambda model, wanted: learner.with_predictions(
      splits, auxiliary, model.auxiliary
    ),
  )


def pool_description(
  method: str, train: learner.PlacedSplit
) -> Callable[[], propagation.PoolGraph] | None:
  """Returns the `describe_pool` of a method, which computes it once.

  Args:
    method: One of `recipe.METHODS`.
    train: The features of the pool.

  Returns:
    The function, for all rounds and seeds; None for "supervised", which needs
    nothing.
  """
  if method == "supervised":
    return None
  return functools.cache(
    functools.partial(
      propagation.describe_pool,
      train.features,
      train.valid,
      has_graph=method == "propagation",
    )
  )


def _labeled_rows(
  train: learner.PlacedSplit, state: rounds.RoundState, capacity: int
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray, int]]:
  """Returns the labeled rows, padded to the capacity.

  Returns:
    Their indices; their features, labels and number.
  """
  indices = np.flatnonzero(state.labeled)
  padded = np.zeros(capacity, np.int32)
  padded[: len(indices)] = indices
  rows, labels = (
    sharding.take_replicated(array, padded)
    for array in (train.features, train.labels)
  )
  return padded, (rows, labels, len(indices))
