"""Tests of decern_jax/strategies/core_gcn.py."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import expit

from decern_jax.strategies import core_gcn
from tests import oracle
from tests.strategies import pools
from tests.strategies.pools import BUDGET
from tests.table import each


def naive_adjacency(features, valid) -> np.ndarray:
  """(S - I) D^-1 + I as a matrix over the nodes, S of cosines."""
  nodes = oracle.normalize(features[valid])
  similarity = nodes @ nodes.T
  np.fill_diagonal(similarity, 0.0)
  degrees = np.maximum(
    similarity.sum(axis=0), np.linalg.norm(similarity, axis=0)
  )
  return similarity / degrees + np.eye(len(nodes))


def naive_hidden(key, features, labeled, candidates) -> np.ndarray:
  """Trains the network with the dense matrix, back-propagating by hand."""
  valid = labeled | candidates
  adjacency = naive_adjacency(features, valid)
  inputs = adjacency @ oracle.normalize(features[valid])
  is_labeled, is_unlabeled = labeled[valid], candidates[valid]
  start_key, dropout_key = jax.random.split(key)
  network = core_gcn.initial_network(start_key, features.shape[1])
  kernel, bias, out, out_bias = (
    np.asarray(array, np.float64) for array in network
  )
  params = [kernel, bias, out[:, 0], out_bias[0]]
  means, squares = ([np.zeros_like(p) for p in params] for _ in range(2))
  for epoch in range(200):
    kernel, bias, out, out_bias = params
    keep = jax.random.bernoulli(
      jax.random.fold_in(dropout_key, epoch), 0.7, (128,)
    )
    keep = np.asarray(keep, np.float64) / 0.7
    linear = inputs @ kernel + bias
    hidden = np.maximum(linear, 0.0) * keep
    logits = adjacency @ (hidden @ out) + out_bias
    slope = 1.2 / is_unlabeled.sum() * expit(logits) * is_unlabeled
    if is_labeled.any():
      slope -= expit(-logits) * is_labeled / is_labeled.sum()
    back = adjacency.T @ slope
    inner = np.outer(back, out) * keep * (linear > 0.0)
    gradients = [
      inputs.T @ inner,
      inner.sum(axis=0),
      hidden.T @ back,
      slope.sum(),
    ]
    for i, gradient in enumerate(gradients):
      gradient = gradient + 5e-4 * params[i]
      means[i] = 0.9 * means[i] + 0.1 * gradient
      squares[i] = 0.999 * squares[i] + 0.001 * gradient**2
      size = np.sqrt(squares[i] / (1 - 0.999 ** (epoch + 1))) + 1e-8
      shift = means[i] / (1 - 0.9 ** (epoch + 1)) / size
      params[i] = params[i] - 1e-3 * shift
  full = np.zeros((len(features), 128))
  full[valid] = np.maximum(inputs @ params[0] + params[1], 0.0)
  return full


def naive_k_center(points, covered, candidates, budget) -> list[int]:
  there, taken = list(np.flatnonzero(covered)), []
  distance = np.min(
    [np.linalg.norm(points - points[row], axis=1) for row in there], axis=0
  )
  for _ in range(budget):
    distance[~candidates] = -1.0
    distance[taken] = -1.0
    taken.append(int(distance.argmax()))
    away = np.linalg.norm(points - points[taken[-1]], axis=1)
    distance = np.minimum(distance, away)
  return taken


class TestSelect:
  def test_matches_dense_graph(self, key):
    labeled, candidates = pools.LABELED, pools.CANDIDATES
    hidden = naive_hidden(key, pools.FEATURES, labeled, candidates)
    selection = core_gcn.select(key, pools.make_pool(), budget=BUDGET)
    np.testing.assert_array_equal(
      selection.indices, naive_k_center(hidden, labeled, candidates, BUDGET)
    )
    assert selection.scores is None

  def test_holds_no_adjacency_matrix(self):
    pool = pools.wide_pool(rows=20_000, dim=16, classes=2)
    floats = pools.temporary_floats(core_gcn.select, pool, budget=3)
    assert floats < 20_000 * 128 * 10


class TestMakeGraph:
  valid = pools.LABELED | pools.CANDIDATES

  @each("is_signed", [False, True])
  def test_spreads_as_the_dense_matrix(self, is_signed):
    features = pools.FEATURES
    features = features if is_signed else np.abs(features)
    graph = core_gcn.make_graph(jnp.asarray(features), jnp.asarray(self.valid))
    values = np.random.default_rng(0).normal(size=(pools.ROWS, 3))
    values *= self.valid[:, None]
    adjacency = naive_adjacency(features, self.valid)
    found = np.asarray(graph.spread(jnp.asarray(values, jnp.float32)))
    expected = adjacency @ values[self.valid]
    np.testing.assert_allclose(
      found[self.valid], expected, rtol=1e-3, atol=1e-4
    )
    assert not found[~self.valid].any()

  def test_degrees_are_sums_where_no_cosine_is_negative(self):
    features = np.abs(pools.FEATURES)
    graph = core_gcn.make_graph(jnp.asarray(features), jnp.asarray(self.valid))
    nodes = oracle.normalize(features[self.valid])
    degrees = (nodes @ nodes.T).sum(axis=0) - 1.0
    scale = np.asarray(graph.scale)
    np.testing.assert_allclose(scale[self.valid], 1.0 / degrees, rtol=1e-4)
    assert not scale[~self.valid].any()
