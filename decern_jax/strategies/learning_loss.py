"""Learning loss: the examples for which a module predicts the highest loss."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from decern_jax.ops.head import LinearHead, logits
from decern_jax.ops.ranking_loss import mirrored_ranking_loss
from decern_jax.strategies.base import Auxiliary, Pool, Strategy, register
from decern_jax.strategies.pick import CLUSTER_OPTIONS, clustered, ranked

HIDDEN_DIM = 128

# In the last two fifths of the epochs the module no longer trains the backbone.
GRADIENT_SHARE = (3, 5)


class LossModule(NamedTuple):
  """Linear layers from the outputs of a backbone's stages to a loss.

  Attributes:
    hidden: A layer for each stage, with `HIDDEN_DIM` outputs.
    output: The layer from all of these outputs to one number.
  """

  hidden: tuple[LinearHead, ...]
  output: LinearHead


def init(key: Key[Array, ""], *, stage_dims: tuple[int, ...]) -> LossModule:
  """Returns a fresh module."""
  *hidden_keys, output_key = jax.random.split(key, len(stage_dims) + 1)
  hidden = tuple(
    _init_layer(stage_key, dim, HIDDEN_DIM)
    for stage_key, dim in zip(hidden_keys, stage_dims, strict=True)
  )
  return LossModule(
    hidden, _init_layer(output_key, HIDDEN_DIM * len(stage_dims), 1)
  )


def _init_layer(key, num_inputs: int, num_outputs: int) -> LinearHead:
  """Returns a layer, uniform in ±1/sqrt(inputs) as PyTorch's Linear."""
  bound = num_inputs**-0.5

  def draw(key, shape):
    return jax.random.uniform(key, shape, jnp.float32, -bound, bound)

  kernel_key, bias_key = jax.random.split(key)
  return LinearHead(
    draw(kernel_key, (num_inputs, num_outputs)), draw(bias_key, (num_outputs,))
  )


def predict_losses(
  module: LossModule, stages: tuple[Float[Array, "rows ..."], ...]
) -> Float[Array, " rows"]:
  """Predicts the loss of examples; only the order of the values has a meaning.

  Each stage's output, averaged over the image, goes through its own layer and a
  ReLU; the last layer maps them all to one number.

  Args:
    module: The module.
    stages: float32 [rows, dim] of each stage.

  Returns:
    The predictions.
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
  epoch: int | Int[Array, ""],
  num_epochs: int,
  num_rows: Int[Array, ""] | None = None,
) -> Float[Array, ""]:
  """Returns the loss of the module on a batch, added with weight 1.

  In the first 60 % of the epochs its gradient reaches the backbone too.

  Args:
    module: The module.
    stages: As in `predict_losses`.
    losses: The loss of each example; it receives no gradient.
    epoch: The epoch, from 0.
    num_epochs: Epochs of the whole training.
    num_rows: Only the first `num_rows` rows are examples. None means all.

  Returns:
    `ops.ranking_loss.mirrored_ranking_loss`, with margin 1.

  References:
    Yoo and Kweon, "Learning Loss for Active Learning", CVPR 2019,
    https://arxiv.org/abs/1905.03677.
  """
  share, whole = GRADIENT_SHARE
  reaches_backbone = epoch < math.ceil(share * num_epochs / whole)
  stages = tuple(
    jnp.where(reaches_backbone, stage, jax.lax.stop_gradient(stage))
    for stage in stages
  )
  return mirrored_ranking_loss(
    predict_losses(module, stages), losses, num_rows=num_rows
  )


LOSS_MODULE = Auxiliary(
  "loss_module", init=init, loss=ranking_loss, predict=predict_losses
)


def predicted_losses(pool: Pool) -> Float[Array, " pool"]:
  """Scores by the predicted loss, positive or negative.

  References:
    Yoo and Kweon, "Learning Loss for Active Learning", CVPR 2019,
    https://arxiv.org/abs/1905.03677.
  """
  return pool.auxiliary


select = ranked(predicted_losses)

register(
  Strategy(
    "learning_loss",
    select,
    select,
    needs=("auxiliary",),
    auxiliary=LOSS_MODULE,
  )
)
register(
  Strategy(
    "learning_loss_clustered",
    clustered(select),
    clustered(select),
    needs=("features", "auxiliary"),
    options=CLUSTER_OPTIONS,
    auxiliary=LOSS_MODULE,
  )
)
