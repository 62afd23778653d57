"""What each self-supervised method does with a batch of two views."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from decern_jax.pretraining import objectives
from decern_jax.pretraining.projector import Projector

# Collections of the backbone and of the projector, under these names.
Tree = dict[str, Any]


class Network(NamedTuple):
  """A backbone and its projector, without their variables.

  Attributes:
    train_apply: The backbone's.
    projector: The projector.
  """

  train_apply: Callable[..., Any]
  projector: Projector


class Options(NamedTuple):
  """What the losses depend on.

  Attributes:
    objective: One of `METHODS`.
    temperature: Of SimCLR and MoCo v2.
    off_diagonal_weight: Barlow Twins' lambda.
    queue_size: Keys of earlier batches that MoCo v2 compares with.
    momentum: By which MoCo v2's second network follows the first.
    norm_groups: Groups of a batch in MoCo v2, each of which the backbone
      normalises by its own statistics.
  """

  objective: str
  temperature: float
  off_diagonal_weight: float
  queue_size: int
  momentum: float
  norm_groups: int


class Outcome(NamedTuple):
  """What comes of a batch beside its loss.

  Attributes:
    batch_stats: The new running statistics.
    momentum: The new state of the momentum network; {} without one.
  """

  batch_stats: Tree
  momentum: Tree


class Inputs(NamedTuple):
  """What a loss is computed from, beside the parameters.

  Attributes:
    views: uint8 [batch, 2, height, width, channels].
    batch_stats: The running statistics.
    momentum: State of the momentum network, or {}.
    step: int32 [], the steps before this one.
    key: Random key of the step.
  """

  views: jax.Array
  batch_stats: Tree
  momentum: Tree
  step: jax.Array
  key: jax.Array


def encode(
  network: Network, params: Tree, batch_stats: Tree, images: jax.Array
) -> tuple[jax.Array, Tree]:
  """Maps images to the outputs of the projector, as in training.

  Args:
    network: The network.
    params: Its parameters.
    batch_stats: Its running statistics.
    images: [batch, height, width, channels].

  Returns:
    float32 [batch, dim], and the new running statistics.
  """
  variables = {"params": params["backbone"]}
  if batch_stats["backbone"]:
    variables["batch_stats"] = batch_stats["backbone"]
  features, backbone_stats = network.train_apply(variables, images)
  # The projector has no use for running statistics.
  outputs, _ = network.projector.apply(
    {"params": params["projector"]}, features, mutable=["batch_stats"]
  )
  return outputs, {"backbone": backbone_stats}


def simclr(
  params: Tree, inputs: Inputs, network: Network, options: Options
) -> tuple[jax.Array, Outcome]:
  """Computes the loss of SimCLR; both views are one batch to the network.

  Args:
    params: Parameters of backbone and projector.
    inputs: The batch, and what goes with it.
    network: The network.
    options: What the loss depends on.

  Returns:
    The loss, and what else comes of the batch.
  """
  batch = len(inputs.views)
  images = inputs.views.reshape(2 * batch, *inputs.views.shape[2:])
  outputs, stats = encode(network, params, inputs.batch_stats, images)
  outputs = outputs.reshape(batch, 2, -1)
  loss = objectives.nt_xent(
    outputs[:, 0], outputs[:, 1], temperature=options.temperature
  )
  return loss, Outcome(stats, {})


def barlow_twins(
  params: Tree, inputs: Inputs, network: Network, options: Options
) -> tuple[jax.Array, Outcome]:
  """Computes the loss of Barlow Twins; each view is a batch of its own.

  Args:
    params: Parameters of backbone and projector.
    inputs: The batch, and what goes with it.
    network: The network.
    options: What the loss depends on.

  Returns:
    The loss, and what else comes of the batch.
  """
  stats, outputs = inputs.batch_stats, []
  for index in range(2):
    output, stats = encode(network, params, stats, inputs.views[:, index])
    outputs.append(output)
  loss = objectives.barlow_twins(
    *outputs, off_diagonal_weight=options.off_diagonal_weight
  )
  return loss, Outcome(stats, {})


def moco_v2(
  params: Tree, inputs: Inputs, network: Network, options: Options
) -> tuple[jax.Array, Outcome]:
  """Computes the loss of MoCo v2, and moves what follows the network.

  Queries come from one view, keys from the other one through the momentum
  network, which moves first. Where the backbone has batch normalisation, a
  query and its key must not share statistics, which would give the key away:
  the batch is split into groups, and the keys are shuffled before. The groups
  are those of the whole batch, whatever the number of devices.

  Args:
    params: Parameters of backbone and projector.
    inputs: The batch, and what goes with it.
    network: The network.
    options: What the loss depends on.

  Returns:
    The loss, and what else comes of the batch.
  """
  momentum, batch = inputs.momentum, len(inputs.views)
  key_params = jax.tree.map(
    lambda slow, fast: (
      options.momentum * slow
      + (1.0 - options.momentum) * jax.lax.stop_gradient(fast)
    ),
    momentum["params"],
    params,
  )
  order = jax.random.permutation(inputs.key, batch)
  groups = options.norm_groups
  queries, stats = _encode_in_groups(
    network, params, inputs.batch_stats, inputs.views[:, 0], groups
  )
  keys, key_stats = _encode_in_groups(
    network, key_params, momentum["batch_stats"], inputs.views[order, 1], groups
  )
  keys = objectives.normalize(keys[jnp.argsort(order)])
  keys = jax.lax.stop_gradient(keys)
  queue = momentum["queue"]
  loss = objectives.moco(queries, keys, queue, temperature=options.temperature)
  # The places of the oldest keys, without a product that would overflow.
  begin = inputs.step % (len(queue) // batch) * batch
  following = {
    "params": key_params,
    "batch_stats": jax.lax.stop_gradient(key_stats),
    "queue": jax.lax.dynamic_update_slice_in_dim(queue, keys, begin, 0),
  }
  return loss, Outcome(stats, following)


def _encode_in_groups(
  network: Network,
  params: Tree,
  batch_stats: Tree,
  images: jax.Array,
  num_groups: int,
) -> tuple[jax.Array, Tree]:
  """Encodes each group by its own statistics; the running ones move by all."""
  if num_groups == 1 or not batch_stats["backbone"]:
    return encode(network, params, batch_stats, images)
  groups = images.reshape(num_groups, -1, *images.shape[1:])
  outputs, stats = jax.vmap(
    lambda group: encode(network, params, batch_stats, group)
  )(groups)
  return (
    outputs.reshape(len(images), -1),
    jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), stats),
  )


METHODS: dict[str, Callable[..., tuple[jax.Array, Outcome]]] = {
  "barlow_twins": barlow_twins,
  "moco_v2": moco_v2,
  "simclr": simclr,
}

# The projectors of the papers: widths, and whether they have normalisation.
PROJECTORS: dict[str, tuple[tuple[int, ...], bool]] = {
  "barlow_twins": ((2048, 2048, 2048), True),
  "moco_v2": ((2048, 128), False),
  "simclr": ((2048, 128), True),
}
