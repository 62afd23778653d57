"""CoreGCN: k-center on the hidden features of a graph network."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from decern_jax.ops.distances import greedy_k_center, normalize
from decern_jax.strategies.base import Pool, Selection, Strategy, register

HIDDEN = 128
DROPOUT_RATE = 0.3
NUM_EPOCHS = 200
LEARNING_RATE = 1e-3
WEIGHT_DECAY = 5e-4
# Weight of the unlabeled examples in the loss.
UNLABELED_WEIGHT = 1.2


class Graph(NamedTuple):
  """A graph of examples, without its adjacency matrix.

  Attributes:
    nodes: Features x of length 1; zero at rows that are not nodes.
    scale: 1 / degree of each node; zero at rows that are not nodes.
  """

  nodes: Float[Array, "pool dim"]
  scale: Float[Array, " pool"]

  def spread(
    self, values: Float[Array, "pool columns"]
  ) -> Float[Array, "pool columns"]:
    """Multiplies by the adjacency matrix, in linear memory.

    The matrix is A = (X Xᵀ - I) D⁻¹ + I, with the degrees on D's diagonal.
    """
    highest = jax.lax.Precision.HIGHEST
    scaled = self.scale[:, None] * values
    sums = jnp.matmul(self.nodes.T, scaled, precision=highest)
    return values - scaled + jnp.matmul(self.nodes, sums, precision=highest)


class Network(NamedTuple):
  """The parameters of the two graph convolutions.

  Attributes:
    kernel: Kernel of the first one.
    bias: Its bias.
    out_kernel: Kernel of the second one.
    out_bias: Its bias.
  """

  kernel: Float[Array, "dim hidden"]
  bias: Float[Array, " hidden"]
  out_kernel: Float[Array, "hidden 1"]
  out_bias: Float[Array, " 1"]


def select(key: Key[Array, ""], pool: Pool, *, budget: int) -> Selection:
  """Selects by k-center on the hidden features of a graph network.

  The nodes of the graph are the labeled examples and the candidates, joined by
  the cosines of their features. A network of two graph convolutions, σ(A
  relu(A X W + b) w + c) of width 128, learns to tell labeled (1) from unlabeled
  (0) by 200 full-batch steps of Adam on

    -mean over labeled of log p - 1.2 mean over unlabeled of log(1 - p).

  Then the candidate whose hidden features are farthest from those of all
  labeled and selected examples is selected, again and again. The same holds for
  several labels per example.

  The adjacency matrix is never formed (`Graph`). Most of the time goes into 400
  products of the features with W: about pool · dim · 10⁵ operations. The
  authors choose from 10000 random unlabeled examples per round.

  Returns:
    The selection, without scores.

  References:
    Caramalau, Bhattarai and Kim, "Sequential Graph Convolutional Network for
    Active Learning", CVPR 2021, https://arxiv.org/abs/2006.10219.
  """
  indices = _select(
    key, pool.features, pool.covered, pool.candidates, budget=budget
  )
  return Selection(indices, None)


@functools.partial(jax.jit, static_argnames="budget")
def _select(key, features, labeled, candidates, *, budget):
  graph = make_graph(features, labeled | candidates)
  inputs = graph.spread(graph.nodes)
  network = train(key, graph, inputs, labeled, candidates)
  hidden = hidden_features(network, inputs)
  return greedy_k_center(hidden, labeled, candidates, budget=budget)


def make_graph(
  features: Float[Array, "pool dim"], valid: Bool[Array, " pool"]
) -> Graph:
  """Builds the graph of the features.

  The degree of a node is the sum of its cosines with the others. Negative
  cosines could make it zero, so it is bounded below by the root of the sum of
  their squares; without negative cosines the bound has no effect.
  """
  highest = jax.lax.Precision.HIGHEST
  nodes = normalize(jnp.where(valid[:, None], features, 0.0))
  degrees = jnp.matmul(nodes, jnp.sum(nodes, axis=0), precision=highest) - 1.0
  moments = jnp.matmul(nodes.T, nodes, precision=highest)
  squares = jnp.matmul(nodes, moments, precision=highest)
  squares = jnp.sum(squares * nodes, axis=-1) - 1.0
  degrees = jnp.maximum(degrees, jnp.sqrt(jnp.maximum(squares, 1e-6)))
  return Graph(nodes, jnp.where(valid, 1.0 / degrees, 0.0))


def train(
  key: Key[Array, ""],
  graph: Graph,
  inputs: Float[Array, "pool dim"],
  labeled: Bool[Array, " pool"],
  unlabeled: Bool[Array, " pool"],
) -> Network:
  """Trains a network to tell labeled from unlabeled nodes."""
  import optax

  optimizer = optax.chain(
    optax.add_decayed_weights(WEIGHT_DECAY), optax.adam(LEARNING_RATE)
  )
  start_key, dropout_key = jax.random.split(key)

  def step(epoch, state):
    network, opt_state = state
    # One draw per hidden unit and epoch: a draw per node would take as long as
    # the products.
    keep = jax.random.bernoulli(
      jax.random.fold_in(dropout_key, epoch), 1.0 - DROPOUT_RATE, (HIDDEN,)
    )
    keep = keep.astype(inputs.dtype) / (1.0 - DROPOUT_RATE)
    gradient = jax.grad(loss)(network, keep, graph, inputs, labeled, unlabeled)
    update, opt_state = optimizer.update(gradient, opt_state, network)
    return optax.apply_updates(network, update), opt_state

  network = initial_network(start_key, inputs.shape[-1])
  # The step count becomes a float, because optax computes float ** count, which
  # strict type promotion refuses for an integer.
  opt_state = optax.tree.cast(optimizer.init(network), inputs.dtype)
  state = (network, opt_state)
  return jax.lax.fori_loop(0, NUM_EPOCHS, step, state)[0]


def hidden_features(
  network: Network, inputs: Float[Array, "pool dim"]
) -> Float[Array, "pool hidden"]:
  """Returns the output of the first convolution."""
  product = jnp.matmul(
    inputs, network.kernel, precision=jax.lax.Precision.HIGHEST
  )
  return jax.nn.relu(product + network.bias[None])


def loss(
  network: Network,
  keep: Float[Array, " hidden"],
  graph: Graph,
  inputs: Float[Array, "pool dim"],
  labeled: Bool[Array, " pool"],
  unlabeled: Bool[Array, " pool"],
) -> Float[Array, ""]:
  """Returns the weighted sum of the mean losses on both kinds of nodes."""
  hidden = hidden_features(network, inputs) * keep[None]
  logits = graph.spread(
    jnp.matmul(hidden, network.out_kernel, precision=jax.lax.Precision.HIGHEST)
  )
  logits = logits[:, 0] + network.out_bias

  def mean_at(losses, where):
    total = jnp.sum(jnp.where(where, losses, 0.0))
    return total / jnp.maximum(jnp.sum(where, dtype=losses.dtype), 1.0)

  is_labeled = mean_at(jax.nn.softplus(-logits), labeled)
  is_unlabeled = mean_at(jax.nn.softplus(logits), unlabeled)
  return is_labeled + UNLABELED_WEIGHT * is_unlabeled


def initial_network(key: Key[Array, ""], dim: int) -> Network:
  """Draws the parameters as the authors do, uniform in ± 1 / sqrt(outputs)."""
  keys = jax.random.split(key, 4)

  def draw(key, *shape: int):
    bound = shape[-1] ** -0.5
    return jax.random.uniform(key, shape, minval=-bound, maxval=bound)

  return Network(
    kernel=draw(keys[0], dim, HIDDEN),
    bias=draw(keys[1], HIDDEN),
    out_kernel=draw(keys[2], HIDDEN, 1),
    out_bias=draw(keys[3], 1),
  )


register(Strategy("core_gcn", select, select, needs=("features", "labels")))
