"""Learning on frozen features: a fresh linear head in every round.

The features of every image are computed once, and a head is trained on them in
a second.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np

from decern_jax import learner, rounds, sharding, training


def make_learner(
  variables: Any,
  parts: dict[str, learner.Part],
  *,
  num_classes: int,
  capacity: int,
  seed: int,
  recipe: training.Recipe,
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

  Returns:
    The learner, which ignores the mask of its `embed`.
  """

  def fit(state: rounds.RoundState) -> learner.Fit:
    head, losses = _fit_head(
      parts["train"], state, num_classes, capacity, seed, recipe
    )
    return learner.Fit(variables, head, losses)

  return learner.Learner(fit=fit, embed=lambda model, wanted: parts)


def _fit_head(
  train: learner.Part,
  state: rounds.RoundState,
  num_classes: int,
  capacity: int,
  seed: int,
  recipe: training.Recipe,
):
  """Trains a fresh head on what is labeled; returns it and its losses."""
  positions = np.flatnonzero(state.labeled)
  where = np.zeros(capacity, np.int32)
  where[: len(positions)] = positions
  head = training.init_head(
    rounds.seed_key(seed, "params"),
    dim=train.features.shape[1],
    num_classes=num_classes,
  )
  rows, labels = (
    sharding.take_replicated(array, where)
    for array in (train.features, train.labels)
  )
  head, losses = training.fit_head(
    rounds.round_key(seed, "order", int(state.round)),
    head,
    rows,
    labels,
    jnp.asarray(len(positions)),
    recipe=recipe,
  )
  losses = np.asarray(losses)
  learner.check_losses(losses, int(state.round))
  return head, losses
