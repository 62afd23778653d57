"""Training of a strategy's auxiliary module, and its predictions."""

from collections.abc import Callable
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from decern_jax.distributed.collective import AxisName
from decern_jax.distributed.rows import HostRows
from decern_jax.distributed.sharding import SPLIT, shard_rows
from decern_jax.features import embedding as features_lib
from decern_jax.ops import keys
from decern_jax.ops.head import LinearHead, logits
from decern_jax.strategies.base import Auxiliary
from decern_jax.training.head import cross_entropy, example_losses, fit_params
from decern_jax.training.recipe import Recipe


def init(
  auxiliary: Auxiliary | None, seed: int, *, stage_dims: tuple[int, ...]
) -> Any:
  """Returns the initial parameters of a run's auxiliary module.

  Returns:
    The parameters; None without a module.
  """
  if auxiliary is None:
    return None
  key = keys.seed_key(seed, auxiliary.name)
  return auxiliary.init(key, stage_dims=stage_dims)


@functools.partial(jax.jit, static_argnames=("auxiliary", "recipe"))
def fit_with_head(
  key: Key[Array, ""],
  head: LinearHead,
  params: Any,
  features: Float[Array, "rows dim"],
  labels: Int[Array, "rows ..."],
  num_rows: Int[Array, ""],
  *,
  auxiliary: Auxiliary,
  recipe: Recipe,
) -> tuple[tuple[LinearHead, Any], Float[Array, " epochs"]]:
  """Trains a head as `fit_head` does, and an auxiliary module with it.

  Without a backbone there are no earlier stages, so the module sees the same
  feature as the head: this project's choice. The features are fixed, so the
  head is the same as without the module.

  Args:
    key: Random key of the orders.
    head: The initial head.
    params: Initial parameters of the module, for one stage.
    features: Features; the first `num_rows` rows are labeled.
    labels: Class of each row, or 0 or 1 of each label.
    num_rows: Number of labeled rows, in [1, rows].
    auxiliary: The module.
    recipe: How to train.

  Returns:
    The trained head and module, and the mean loss of the head in each epoch.
  """

  def joint_loss(trained, features, labels, counted):
    head, params = trained
    loss = cross_entropy(head, features, labels, counted)
    # Computed separately, or the compiler may round the head's loss otherwise.
    head, features, labels = jax.lax.optimization_barrier(
      jax.lax.stop_gradient((head, features, labels))
    )
    own = auxiliary.loss(
      params,
      (features,),
      example_losses(logits(head, features), labels),
      epoch=0,
      num_epochs=recipe.num_epochs,
      num_rows=jnp.sum(counted),
    )
    return loss + own, loss

  return fit_params(
    key,
    (head, params),
    features,
    labels,
    num_rows,
    compute_loss=joint_loss,
    recipe=recipe,
  )


@shard_rows(rows=("features",), out=SPLIT, static_argnames=("auxiliary",))
def predict_pool(
  auxiliary: Auxiliary,
  params: Any,
  features: jax.Array | HostRows,
  *,
  axis_name: AxisName = None,
) -> Float[Array, " pool"]:
  """Predicts from features, with a module of one stage.

  Args:
    auxiliary: The module.
    params: Its parameters.
    features: float32 [pool, dim], read block by block.
    axis_name: Mesh axes that the pool is split over, inside `shard_map`.

  Returns:
    The predictions, sharded like the features.
  """
  return features_lib.map_blocks(
    lambda params, rows: auxiliary.predict(params, (rows,)),
    params,
    features,
    shape=(),
    axis_name=axis_name,
  )


def append_predictions(
  auxiliary: Auxiliary,
  stage_apply: Callable[..., tuple[jax.Array, tuple[jax.Array, ...]]],
  variables: tuple[Any, Any],
  images: jax.Array,
) -> Float[Array, "batch columns"]:
  """Computes features of images, with the predictions as the last column.

  Args:
    auxiliary: The module.
    stage_apply: `Backbone.stage_apply`.
    variables: The variables of the backbone, and the module's parameters.
    images: [batch, height, width, channels].

  Returns:
    [batch, dim + 1].
  """
  backbone, params = variables
  features, stages = stage_apply(backbone, images)
  predicted = auxiliary.predict(params, stages)
  return jnp.concatenate([features, predicted[:, None]], axis=-1)
