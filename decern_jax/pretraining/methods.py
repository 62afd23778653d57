"""Self-supervised methods: from a batch of two views per image to a loss."""

from collections.abc import Callable
import dataclasses
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, UInt8

from decern_jax.pretraining import objectives

# Collections of the backbone and of the projector, under these names.
Tree = dict[str, Any]


class Projector(nn.Module):
  """Linear layers with ReLU between them; discarded after pre-training.

  Attributes:
    widths: Outputs of each layer; those of the last one go into the loss.
    use_norm: Whether batch normalization precedes each ReLU, and layers have no
      bias, as in SimCLR and Barlow Twins, but not in MoCo v2.
  """

  widths: tuple[int, ...]
  use_norm: bool

  @nn.compact
  def __call__(self, features: jax.Array) -> jax.Array:
    """Projects features, with the statistics of the batch.

    Args:
      features: float32 [batch, dim].

    Returns:
      float32 [batch, widths[-1]].
    """
    outputs = features
    for index, width in enumerate(self.widths):
      if index:
        if self.use_norm:
          # Running statistics would never be used: they are discarded.
          outputs = nn.BatchNorm(
            False, momentum=0.9, epsilon=1e-5, name=f"norm{index}"
          )(outputs)
        outputs = nn.relu(outputs)
      outputs = nn.Dense(
        width, use_bias=not self.use_norm, name=f"layer{index + 1}"
      )(outputs)
    return outputs


@dataclasses.dataclass(frozen=True)
class Network:
  """A backbone and its projector, without their variables.

  Attributes:
    train_apply: The backbone's function of that name.
    projector: The projector.
  """

  train_apply: Callable[..., Any]
  projector: Projector


@dataclasses.dataclass(frozen=True)
class Options:
  """The options of the losses.

  Attributes:
    objective: One of `METHODS`.
    temperature: Temperature of SimCLR and MoCo v2.
    off_diagonal_weight: Barlow Twins' lambda.
    queue_size: Keys of earlier batches that MoCo v2 compares with.
    momentum: Share of the momentum network of MoCo v2 that a step keeps.
    norm_groups: Groups of a batch in MoCo v2, each of which the backbone
      normalizes by its own statistics.
  """

  objective: str
  temperature: float
  off_diagonal_weight: float
  queue_size: int
  momentum: float
  norm_groups: int


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Outcome:
  """What a step changes apart from the trained parameters.

  Attributes:
    batch_stats: The new running statistics.
    momentum: The new state of the momentum network; {} without one.
  """

  batch_stats: Tree
  momentum: Tree


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Inputs:
  """The inputs of a loss apart from the parameters.

  Attributes:
    views: Two views of each image.
    batch_stats: The running statistics.
    momentum: State of the momentum network, or {}.
    step: The number of steps before this one.
    key: Random key of the step.
  """

  views: UInt8[Array, "batch 2 height width channels"]
  batch_stats: Tree
  momentum: Tree
  step: Int[Array, ""]
  key: Key[Array, ""]


def encode(
  network: Network,
  params: Tree,
  batch_stats: Tree,
  images: UInt8[Array, "batch height width channels"],
) -> tuple[Float[Array, "batch dim"], Tree]:
  """Maps images to the outputs of the projector, in training mode.

  Returns:
    The outputs, and the new running statistics.
  """
  variables = {"params": params["backbone"]}
  if batch_stats["backbone"]:
    variables["batch_stats"] = batch_stats["backbone"]
  features, backbone_stats = network.train_apply(variables, images)
  outputs, _ = network.projector.apply(
    {"params": params["projector"]}, features, mutable=["batch_stats"]
  )
  return outputs, {"backbone": backbone_stats}


def simclr(
  params: Tree, inputs: Inputs, network: Network, options: Options
) -> tuple[Float[Array, ""], Outcome]:
  """Computes the loss of SimCLR; the network gets both views as one batch."""
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
) -> tuple[Float[Array, ""], Outcome]:
  """Computes the loss of Barlow Twins; each view is a batch of its own."""
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
) -> tuple[Float[Array, ""], Outcome]:
  """Computes the loss of MoCo v2, and updates its momentum network and queue.

  The queries are outputs for the first view. The keys are outputs of the
  momentum network, which is updated first, for the second view. With batch
  normalization, shared statistics would reveal which key belongs to a query.
  The batch is therefore shuffled for the keys, and split into groups with
  statistics of their own. The groups do not depend on the number of devices.
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
  # Where the oldest keys are; `step * batch` might overflow.
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
  """Encodes each group by its own statistics, and averages the running ones."""
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


# Each maps the parameters of backbone and projector, the other inputs, the
# network and the options to the loss and the other results of the step.
METHODS: dict[str, Callable[..., tuple[jax.Array, Outcome]]] = {
  "barlow_twins": barlow_twins,
  "moco_v2": moco_v2,
  "simclr": simclr,
}

# The published projectors: widths, and whether they have normalization.
PROJECTORS: dict[str, tuple[tuple[int, ...], bool]] = {
  "barlow_twins": ((2048, 2048, 2048), True),
  "moco_v2": ((2048, 128), False),
  "simclr": ((2048, 128), True),
}
