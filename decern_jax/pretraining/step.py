"""One step of pre-training: an optimizer step on a batch of views."""

import functools
from typing import Any

from flax import struct
import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from decern_jax import models
from decern_jax.pretraining.methods import (
  METHODS,
  Inputs,
  Network,
  Options,
  Outcome,
)
from decern_jax.pretraining.objectives import normalize
from decern_jax.training.recipe import (
  Recipe,
  apply_gradient,
  learning_rates,
  make_optimizer,
)


class PretrainState(struct.PyTreeNode):
  """Everything that changes during pre-training.

  Attributes:
    params: Parameters of "backbone" and "projector".
    batch_stats: Running statistics of "backbone"; {} without normalization.
    opt_state: State of the optimizer.
    momentum: {}, or with MoCo v2 "params" and "batch_stats" of the momentum
      network, and "queue", float32 [queue, dim].
    losses: float32 [epochs], the mean loss of each epoch. That of the current
      epoch is still incomplete.
    step: int32 [], completed steps.
  """

  params: Any
  batch_stats: Any
  opt_state: Any
  momentum: Any
  losses: jax.Array
  step: jax.Array


def create(
  key: jax.Array,
  backbone: models.Backbone,
  network: Network,
  *,
  options: Options,
  recipe: Recipe,
) -> PretrainState:
  """Returns the state before the first step, on arrays of its own.

  Returns:
    The state; it can be donated without touching the backbone.
  """
  projector_key, queue_key = jax.random.split(key)
  variables = jax.tree.map(jnp.copy, dict(backbone.variables))
  projector = jax.jit(network.projector.init)(
    projector_key, jnp.zeros((2, backbone.dim), jnp.float32)
  )
  params = {"backbone": variables["params"], "projector": projector["params"]}
  batch_stats = {"backbone": variables.get("batch_stats", {})}
  momentum = {}
  if options.objective == "moco_v2":
    shape = (options.queue_size, network.projector.widths[-1])
    momentum = {
      "params": jax.tree.map(jnp.copy, params),
      "batch_stats": jax.tree.map(jnp.copy, batch_stats),
      "queue": normalize(jax.random.normal(queue_key, shape)),
    }
  return PretrainState(
    params=params,
    batch_stats=batch_stats,
    opt_state=make_optimizer(recipe).init(params),
    momentum=momentum,
    losses=jnp.zeros(recipe.num_epochs, jnp.float32),
    step=jnp.zeros((), jnp.int32),
  )


def loss_and_gradient(
  key: jax.Array,
  state: PretrainState,
  views: jax.Array,
  *,
  network: Network,
  options: Options,
) -> tuple[tuple[jax.Array, Outcome], Any]:
  """Computes the loss of a batch, and its gradient.

  On views that are split over a mesh, the loss, the statistics, the negatives
  and the gradient are those of the whole batch. Do not call it in `shard_map`.

  Args:
    key: Random key of the run, from which each step derives its own.
    state: The state.
    views: uint8 [batch, 2, height, width, channels].
    network: The network.
    options: The options of the loss.

  Returns:
    The loss with the other results of the step, and the gradient.
  """
  inputs = Inputs(
    views=views,
    batch_stats=state.batch_stats,
    momentum=state.momentum,
    step=state.step,
    key=jax.random.fold_in(key, state.step),
  )
  method = METHODS[options.objective]
  return jax.value_and_grad(method, has_aux=True)(
    state.params, inputs, network, options
  )


@functools.partial(
  jax.jit,
  static_argnames=("network", "options", "recipe", "mesh"),
  donate_argnames="state",
)
def pretrain_step(
  key: jax.Array,
  state: PretrainState,
  views: jax.Array,
  *,
  network: Network,
  options: Options,
  recipe: Recipe,
  mesh: Mesh,
) -> tuple[PretrainState, jax.Array]:
  """Makes one step on one batch.

  Args:
    key: As in `loss_and_gradient`.
    state: The state, on every device; donated.
    views: As in `loss_and_gradient`.
    network: The network.
    options: The options of the loss.
    recipe: How to train.
    mesh: The mesh over which the views are split.

  Returns:
    The next state, on every device, and the loss of the batch.
  """
  (loss, outcome), gradient = loss_and_gradient(
    key, state, views, network=network, options=options
  )
  params, opt_state = apply_gradient(
    recipe,
    state.params,
    state.opt_state,
    gradient,
    learning_rates(recipe, state.step, by_step=True),
  )
  epoch = state.step // recipe.epoch_steps
  following = state.replace(
    params=params,
    batch_stats=outcome.batch_stats,
    opt_state=opt_state,
    momentum=outcome.momentum,
    losses=state.losses.at[epoch].add(loss / recipe.epoch_steps),
    step=state.step + 1,
  )
  everywhere = NamedSharding(mesh, PartitionSpec())
  return jax.lax.with_sharding_constraint(following, everywhere), loss
