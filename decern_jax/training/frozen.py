"""Learning on frozen features: a fresh linear head in every round.

The features of every image are computed once, and a head is trained on them in
a second.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from decern_jax.distributed import sharding
from decern_jax.ops import keys
from decern_jax.training import learner, loss_module, rounds
from decern_jax.training.head import fit_head, init_head
from decern_jax.training.recipe import Recipe


def make_learner(
  variables: Any,
  parts: dict[str, learner.PlacedSplit],
  *,
  num_classes: int,
  capacity: int,
  seed: int,
  recipe: Recipe,
  predicts_losses: bool = False,
) -> learner.Learner:
  """Makes a learner of heads.

  Args:
    variables: Of the backbone that the features come from.
    parts: "train", "test" and, if there is one, "val".
    num_classes: Number of classes.
    capacity: Labels of the last round: all rounds are computed with arrays of
      this length, and so by one program.
    seed: Seed of the run.
    recipe: How to train.
    predicts_losses: Whether a module learns to predict losses beside the head,
      of the feature that the head sees; the head is the same with it.

  Returns:
    The learner, which ignores the mask of its `embed`.
  """

  def fit(state: rounds.RoundState) -> learner.Fit:
    dim = parts["train"].features.shape[1]
    head = init_head(
      keys.seed_key(seed, "params"), dim=dim, num_classes=num_classes
    )
    trained, train = (head,), fit_head
    if predicts_losses:
      module_key = keys.seed_key(seed, loss_module.PURPOSE)
      module = loss_module.init(module_key, stage_dims=(dim,))
      trained, train = (head, module), loss_module.fit_with_head
    key = keys.round_key(seed, "order", int(state.round))
    rows = _labeled_rows(parts["train"], state, capacity)
    found, losses = train(key, *trained, *rows, recipe=recipe)
    head, module = found if predicts_losses else (found, None)
    losses = np.asarray(losses)
    learner.check_losses(losses, int(state.round))
    return learner.Fit(variables, head, losses, module)

  return learner.Learner(
    fit=fit,
    embed=lambda model, wanted: learner.with_predictions(
      parts, model.loss_module
    ),
  )


def _labeled_rows(
  train: learner.PlacedSplit, state: rounds.RoundState, capacity: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Returns features and labels, what is labeled first, and how many it is."""
  positions = np.flatnonzero(state.labeled)
  where = np.zeros(capacity, np.int32)
  where[: len(positions)] = positions
  rows, labels = (
    sharding.take_replicated(array, where)
    for array in (train.features, train.labels)
  )
  return rows, labels, jnp.asarray(len(positions))
