"""A module that learns, beside a classifier, what the loss of an example is."""

from collections.abc import Callable
import fractions
import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from decern_jax.distributed.collective import AxisName
from decern_jax.distributed.rows import HostRows
from decern_jax.distributed.sharding import SPLIT, shard_rows
from decern_jax.features import embedding as features_lib
from decern_jax.ops.head import LinearHead, logits
from decern_jax.ops.ranking_loss import mirrored_ranking_loss
from decern_jax.training.head import (
  Recipe,
  cross_entropy,
  example_losses,
  fit_params,
  init_head,
)

HIDDEN_DIM = 128

# Of the key that its initial parameters are drawn by.
PURPOSE = "loss_module"

# Of the epochs: afterwards the module no longer moves the backbone.
GRADIENT_SHARE = fractions.Fraction(3, 5)


class LossModule(NamedTuple):
  """Linear layers from the outputs of a backbone's stages to a loss.

  Attributes:
    hidden: A layer for each stage, with `HIDDEN_DIM` outputs.
    output: The layer from all of them to one number.
  """

  hidden: tuple[LinearHead, ...]
  output: LinearHead


def init(key: Key[Array, ""], *, stage_dims: tuple[int, ...]) -> LossModule:
  """Returns a fresh module, each layer as `init_head` draws it.

  Args:
    key: Random key.
    stage_dims: Length of each stage's output.

  Returns:
    The module.
  """
  *hidden_keys, output_key = jax.random.split(key, len(stage_dims) + 1)
  hidden = tuple(
    init_head(stage_key, dim=dim, num_classes=HIDDEN_DIM)
    for stage_key, dim in zip(hidden_keys, stage_dims, strict=True)
  )
  dim = HIDDEN_DIM * len(stage_dims)
  return LossModule(hidden, init_head(output_key, dim=dim, num_classes=1))


def predicted_losses(
  module: LossModule, stages: tuple[Float[Array, "rows ..."], ...]
) -> Float[Array, " rows"]:
  """Predicts the loss of examples, on a scale of no meaning.

  Every stage's output, averaged over the image, goes through a layer of its own
  and a ReLU; one more layer makes a number of them all.

  Args:
    module: The module.
    stages: float32 [rows, dim] of each stage.

  Returns:
    The predictions: who is larger is what was learned.
  """
  hidden = [
    jax.nn.relu(logits(layer, stage))
    for layer, stage in zip(module.hidden, stages, strict=True)
  ]
  return logits(module.output, jnp.concatenate(hidden, axis=-1))[:, 0]


def ranking_loss(
  module: LossModule,
  stages: tuple[Float[Array, "rows ..."], ...],
  losses: Float[Array, " rows"],
  *,
  num_rows: Int[Array, ""] | None = None,
) -> Float[Array, ""]:
  """Returns what the module adds to the loss of a batch, with weight 1.

  Args:
    module: The module.
    stages: As in `predicted_losses`.
    losses: The loss of each example, into which nothing flows back.
    num_rows: How many examples, from the first on, are the batch; None: all.

  Returns:
    `ops.ranking_loss.mirrored_ranking_loss`, with a margin of 1.

  References:
    Yoo and Kweon, "Learning Loss for Active Learning", CVPR 2019,
    https://arxiv.org/abs/1905.03677.
  """
  return mirrored_ranking_loss(
    predicted_losses(module, stages), losses, num_rows=num_rows
  )


def limit_gradient(
  stages: tuple[jax.Array, ...], epoch: Int[Array, ""], *, num_epochs: int
) -> tuple[jax.Array, ...]:
  """Lets gradients through to the backbone in the first 60 % of the epochs.

  Args:
    stages: Outputs of the backbone's stages.
    epoch: The epoch, from 0 on.
    num_epochs: Epochs of the whole training.

  Returns:
    The same outputs.
  """
  passes = epoch < math.ceil(GRADIENT_SHARE * num_epochs)
  return tuple(
    jnp.where(passes, stage, jax.lax.stop_gradient(stage)) for stage in stages
  )


@functools.partial(jax.jit, static_argnames="recipe")
def fit_with_head(
  key: Key[Array, ""],
  head: LinearHead,
  module: LossModule,
  features: Float[Array, "rows dim"],
  labels: Int[Array, "rows ..."],
  num_rows: Int[Array, ""],
  *,
  recipe: Recipe,
) -> tuple[tuple[LinearHead, LossModule], Float[Array, " epochs"]]:
  """Trains a head as `fit_head` does, and beside it a module.

  The module sees the one feature that the head sees, as there are no outputs of
  earlier stages without the backbone: this project's choice. Features are
  fixed, so that the head is the one that it would be without the module.

  Args:
    key: As in `fit_head`, and so are the others.
    head: The head to start from.
    module: The module to start from, of one stage.
    features: Features; the labeled ones come first.
    labels: Class of each row, or 0 or 1 of every label.
    num_rows: Rows that count, in [1, rows].
    recipe: How to train.

  Returns:
    The trained head and module, and the mean loss of the head in each epoch.
  """
  return fit_params(
    key,
    (head, module),
    features,
    labels,
    num_rows,
    compute_loss=_joint_loss,
    recipe=recipe,
  )


def _joint_loss(trained, features, labels, counted):
  head, module = trained
  loss = cross_entropy(head, features, labels, counted)
  # Computed apart, lest the compiler round what the head needs otherwise.
  head, features, labels = jax.lax.optimization_barrier(
    jax.lax.stop_gradient((head, features, labels))
  )
  losses = example_losses(logits(head, features), labels)
  ranking = ranking_loss(module, (features,), losses, num_rows=jnp.sum(counted))
  return loss + ranking, loss


@shard_rows(rows=("features",), out=SPLIT)
def predict_pool(
  module: LossModule,
  features: jax.Array | HostRows,
  *,
  axis_name: AxisName = None,
) -> Float[Array, " pool"]:
  """Predicts losses from features, for a module of one stage.

  Args:
    module: The module.
    features: float32 [pool, dim], read block by block.
    axis_name: Mesh axes that the pool is split over, inside `shard_map`.

  Returns:
    The predictions, split over the mesh as the features are.
  """
  return features_lib.map_blocks(
    lambda module, rows: predicted_losses(module, (rows,)),
    module,
    features,
    shape=(),
    axis_name=axis_name,
  )


def append_predictions(
  stage_apply: Callable[..., tuple[jax.Array, tuple[jax.Array, ...]]],
  variables: tuple[Any, LossModule],
  images: jax.Array,
) -> Float[Array, "batch columns"]:
  """Computes features of images and, as a last column, predicted losses.

  Args:
    stage_apply: `Backbone.stage_apply`.
    variables: Of the backbone, and the module.
    images: [batch, height, width, channels].

  Returns:
    [batch, dim + 1].
  """
  backbone, module = variables
  features, stages = stage_apply(backbone, images)
  predicted = predicted_losses(module, stages)
  return jnp.concatenate([features, predicted[:, None]], axis=-1)
