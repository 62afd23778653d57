"""Heads on frozen features by convex optimization, with or without the pool."""

from typing import Any, Literal, NamedTuple, overload

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int
import numpy as np

from decern_jax.distributed.rows import Rows
from decern_jax.distributed.sharding import take_replicated, to_host
from decern_jax.features.embedding import predict
from decern_jax.io.validation import check_integer
from decern_jax.ops import graph as graph_lib
from decern_jax.ops.graph import Graph
from decern_jax.ops.head import LinearHead
from decern_jax.strategies.api import (
  as_labels,
  as_numbers,
  check_labels,
  find_placement,
)
from decern_jax.training.logistic import Solution, fit_logistic

# C of the logistic regression, on features of mean length 1: without and with
# the pool. Chosen on 10-class subsets of Caltech101 and Grocery Store.
INVERSE_PENALTY = 300.0
INVERSE_PENALTY_WITH_POOL = 100.0

# Labels of a class at which smoothed and raw examples count the same.
HALF_COUNT = 3.0


class PoolGraph(NamedTuple):
  """What heads need of the features of a pool, the same in all rounds.

  Attributes:
    center: Mean of the features.
    scale: Mean distance of the features to it.
    graph: The graph of nearest neighbors, split over devices as the pool is.
      None where the pool takes no part.
  """

  center: Float[Array, " dim"]
  scale: Float[Array, ""]
  graph: Graph | None


def describe_pool(
  features: Rows,
  valid: jax.Array,
  *,
  has_graph: bool,
  num_neighbors: int = graph_lib.NUM_NEIGHBORS,
) -> PoolGraph:
  """Returns what heads need of the features of a pool.

  Args:
    features: [pool, dim], on the devices or on the host.
    valid: bool [pool], True at the rows that exist.
    has_graph: Whether to build the graph, which compares all pairs of rows.
    num_neighbors: Neighbors of each row.
  """
  center, scale = graph_lib.center_and_scale(features, valid)
  graph = None
  if has_graph:
    graph = graph_lib.join_neighbors(
      features, valid, center, num_neighbors=num_neighbors
    )
  return PoolGraph(center, scale, graph)


def fit_with_pool(
  pool: PoolGraph,
  features: Rows,
  indices: Int[jax.typing.ArrayLike, " labels"],
  num_labels: int,
  targets: Float[jax.typing.ArrayLike, "labels classes"],
  *,
  is_multi_label: bool = False,
) -> Solution:
  """Fits a head to labeled rows of a pool by logistic regression.

  With a graph, each labeled example is there twice: as it is, and smoothed over
  the graph. The smoothed one is close to a mean of the examples around it, so
  the head learns from all of the pool. As both are features of the same kind,
  the result is a linear head like any other, and no assumption about the sizes
  of the classes is made. The smoothed example has the weight

    1 / (1 + (n / 3)²),

  where n is the number of labels of its class, and the other one the rest of 1:
  a class with many labels needs the pool less, and smoothed examples, which are
  much alike, would make the head fit wrong labels. With several labels per
  example, n is that of its rarest label.

  Args:
    pool: What `describe_pool` returned.
    features: [pool, dim], on the devices or on the host.
    indices: The labeled rows, those that count first.
    num_labels: How many of them count, at least 1.
    targets: Probability of each class of the labeled rows; or of each label.
    is_multi_label: Whether an example may have several labels.

  Returns:
    The solution, with a head for the features as they are.
  """
  indices, targets = jnp.asarray(indices), jnp.asarray(targets, jnp.float32)
  rows = jnp.asarray(take_replicated(features, indices))
  center, scale = (
    jnp.asarray(to_host(array)) for array in (pool.center, pool.scale)
  )
  inputs = (rows - center[None]) / scale
  is_counted = jnp.arange(len(indices)) < num_labels
  weights = is_counted.astype(inputs.dtype)
  inverse_penalty = INVERSE_PENALTY
  if pool.graph is not None:
    smoothed = graph_lib.smooth_rows_at(
      pool.graph, features, pool.center, indices, jnp.asarray(num_labels)
    )
    smoothed = jnp.asarray(to_host(smoothed)) / scale
    share = _smoothed_share(targets, is_counted)
    inputs = jnp.concatenate([smoothed, inputs])
    targets = jnp.concatenate([targets, targets])
    weights = jnp.concatenate([share * weights, (1.0 - share) * weights])
    inverse_penalty = INVERSE_PENALTY_WITH_POOL
  solution = fit_logistic(
    inputs,
    targets,
    weights,
    inverse_penalty=inverse_penalty,
    is_multi_label=is_multi_label,
  )
  return solution._replace(head=_unscaled(solution.head, center, scale))


@jax.jit
def _smoothed_share(targets, is_counted) -> jax.Array:
  """Returns the weight of each smoothed example, [labels]."""
  counts = jnp.sum(jnp.where(is_counted[:, None], targets, 0.0), axis=0)
  counts = jnp.where(targets > 0.0, counts[None], jnp.inf)
  return 1.0 / (1.0 + (jnp.min(counts, axis=1) / HALF_COUNT) ** 2)


@jax.jit
def _unscaled(head: LinearHead, center, scale) -> LinearHead:
  """Returns a head for features before center and scale were taken out."""
  kernel = head.kernel / scale
  shift = jnp.matmul(center, kernel, precision=jax.lax.Precision.HIGHEST)
  return LinearHead(kernel, head.bias - shift)


def make_graph(
  features: Any,
  *,
  num_neighbors: int = graph_lib.NUM_NEIGHBORS,
  mesh: Mesh | None = None,
) -> PoolGraph:
  """Builds the graph of a pool, which `propagate` can use again and again.

  Each example is joined to its nearest neighbors by cosine, after the mean is
  subtracted. All pairs are compared, in blocks: the time grows with the square
  of the pool, the memory with the pool.

  Args:
    features: [pool, dim], from NumPy, JAX, PyTorch (on the CPU) or pandas; at
      least 2 examples.
    num_neighbors: Neighbors of each example, in [1, pool).
    mesh: A mesh with the axis `pool` to split the pool over. By default the
      work is done where the features are.

  Returns:
    The graph.

  Raises:
    ValueError: If the features are not finite, or an option is out of range.

  References:
    Zhou et al., "Learning with local and global consistency", NIPS 2003.
  """
  rows, valid = _place(features, mesh)
  size = int(jnp.sum(valid))
  num_neighbors = check_integer(
    "num_neighbors", num_neighbors, low=1, high=size - 1
  )
  return describe_pool(rows, valid, has_graph=True, num_neighbors=num_neighbors)


@overload
def propagate(
  features: Any,
  labels: Any,
  *,
  graph: PoolGraph | None = ...,
  num_classes: int | None = ...,
  mesh: Mesh | None = ...,
  return_head: Literal[False] = ...,
) -> np.ndarray: ...
@overload
def propagate(
  features: Any,
  labels: Any,
  *,
  graph: PoolGraph | None = ...,
  num_classes: int | None = ...,
  mesh: Mesh | None = ...,
  return_head: Literal[True],
) -> tuple[np.ndarray, LinearHead]: ...
def propagate(
  features: Any,
  labels: Any,
  *,
  graph: PoolGraph | None = None,
  num_classes: int | None = None,
  mesh: Mesh | None = None,
  return_head: bool = False,
) -> np.ndarray | tuple[np.ndarray, LinearHead]:
  """Predicts the classes of a pool from few labels and all of its features.

  Fits a linear classifier by logistic regression to the labeled examples, as
  they are and smoothed over the graph of the pool (see `fit_with_pool`).
  Nothing is drawn at random.

  Args:
    features: [pool, dim], from NumPy, JAX, PyTorch (on the CPU) or pandas.
    labels: int [pool], the class of each labeled example, -1 where there is no
      label; or [pool, classes] of 0 and 1 where an example may have several
      labels, with rows of -1.
    graph: What `make_graph` returned for these features. None builds it.
    num_classes: Number of classes; by default those up to the largest label.
    mesh: As in `make_graph`.
    return_head: Whether to return the classifier too, which predicts other
      features.

  Returns:
    float32 [pool, classes], the probability of each class, or of each label.
    With `return_head` also the `LinearHead`.

  Raises:
    ValueError: If no example has a label, shapes do not fit, or a value is not
      what it should be.

  References:
    Zhou et al., "Learning with local and global consistency", NIPS 2003, has
    the graph. Taking its smoothed features for a classifier is this project's
    choice.

  Example:
    >>> import numpy as np
    >>> features = np.repeat([[0.0, 1.0], [1.0, 0.0]], 10, axis=0)
    >>> labels = np.full(20, -1)
    >>> labels[[0, 10]] = 0, 1
    >>> probs = propagate(features, labels)
    >>> probs.argmax(axis=1).tolist() == [0] * 10 + [1] * 10
    True
  """
  rows, valid = _place(features, mesh)
  size = int(jnp.sum(valid))
  known = as_labels(labels)
  if known is None:
    raise ValueError("Expected `labels` of the pool, got none.")
  is_multi_label = known.ndim == 2
  classes = known.shape[1] if is_multi_label else int(known.max()) + 1
  if num_classes is not None:
    classes = check_integer("num_classes", num_classes, low=1)
  check_labels(
    known, {"pool": size, "classes": classes}, is_multi_label=is_multi_label
  )
  is_labeled = known >= 0
  if is_multi_label:
    partial = np.flatnonzero(is_labeled.any(axis=1) != is_labeled.all(axis=1))
    if partial.size:
      raise ValueError(
        "Expected rows of `labels` that are 0 and 1, or -1 throughout, got"
        f" {known[partial[0]].tolist()} in row {partial[0]}."
      )
    is_labeled = is_labeled.all(axis=1)
  indices = np.flatnonzero(is_labeled)
  if not indices.size:
    raise ValueError("Expected at least one label, got -1 throughout.")
  if graph is None:
    graph = make_graph(features, mesh=mesh)
  _check_graph(graph, rows)
  # Rounded to a power of two: one program serves several numbers of labels.
  padded = np.zeros(1 << (len(indices) - 1).bit_length(), np.int32)
  padded[: len(indices)] = indices
  targets = known[padded]
  solution = fit_with_pool(
    graph,
    rows,
    padded,
    len(indices),
    targets if is_multi_label else np.eye(classes)[targets],
    is_multi_label=is_multi_label,
  )
  placed = predict(solution.head, rows, is_multi_label=is_multi_label)
  probs = to_host(placed)[:size]
  return (probs, solution.head) if return_head else probs


def _place(features: Any, mesh: Mesh | None) -> tuple[jax.Array, jax.Array]:
  """Returns checked features on the devices, and the mask of their rows."""
  array = as_numbers("features", features, ("pool", "dim"))
  if len(array) < 2:
    raise ValueError(
      f"Expected `features` of 2 examples or more, got {len(array)}."
    )
  place = find_placement({"features": array}, mesh)
  return place(array), place(np.ones(len(array), bool))


def _check_graph(graph: PoolGraph, rows: jax.Array) -> None:
  """Refuses a graph of other features, as far as shapes show it."""
  if graph.graph is None:
    raise ValueError(
      "Expected `graph` from `make_graph`, got one without edges."
    )
  found = (len(graph.graph.weights), *graph.center.shape)
  if found != rows.shape:
    raise ValueError(
      f"Expected `graph` of {rows.shape[0]} x {rows.shape[1]} features, got one"
      f" of {found[0]} x {found[1]}."
    )
