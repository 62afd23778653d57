"""Tests of decern_jax/ops/graph.py."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from decern_jax.distributed.rows import InMemory
from decern_jax.distributed.sharding import make_mesh, place_on_host, place_pool
from decern_jax.ops import graph as graph_lib

# No multiple of 8 devices, or of a block.
ROWS, DIM, NEIGHBORS, BLOCK = 45, 4, 3, 16
INDICES = np.array([7, 0, 44, 0, 0], np.int32)


@functools.cache
def make_features() -> np.ndarray:
  features = np.random.default_rng(0).normal(size=(ROWS, DIM)) + 2.0
  return features.astype(np.float32)


def naive_matrix(features: np.ndarray) -> np.ndarray:
  """The matrix S, [rows, rows]."""
  rows = features.astype(np.float64) - features.mean(axis=0)
  rows /= np.linalg.norm(rows, axis=1, keepdims=True)
  cosines = rows @ rows.T
  np.fill_diagonal(cosines, -np.inf)
  nearest = np.argsort(-cosines, axis=1)[:, :NEIGHBORS]
  near = np.zeros((len(rows), len(rows)))
  for row, others in enumerate(nearest):
    near[row, others] = np.maximum(cosines[row, others], 0.0) ** 3
  weights = near + near.T
  scale = weights.sum(axis=1) ** -0.5
  return scale[:, None] * weights * scale[None]


def naive_smooth(matrix: np.ndarray, values: np.ndarray) -> np.ndarray:
  smoothed = values
  for _ in range(graph_lib.NUM_STEPS):
    smoothed = graph_lib.ALPHA * matrix @ smoothed
    smoothed = smoothed + (1 - graph_lib.ALPHA) * values
  return smoothed


def make_graph(features, valid) -> graph_lib.Graph:
  center, _ = graph_lib.center_and_scale(features, valid)
  return graph_lib.join_neighbors(
    features, valid, center, num_neighbors=NEIGHBORS, block_size=BLOCK
  )


def place(num_devices: int) -> tuple[jax.Array, jax.Array]:
  """The features and the mask; padding has garbage."""
  mesh = make_mesh(num_devices)
  valid = place_pool(np.ones(ROWS, bool), mesh)
  padded = np.full((len(valid), DIM), 1e3, np.float32)
  padded[:ROWS] = make_features()
  return place_pool(padded, mesh), valid


@functools.cache
def graph_on(num_devices: int) -> graph_lib.Graph:
  return make_graph(*place(num_devices))


def matrix_of(graph: graph_lib.Graph) -> np.ndarray:
  matrix = np.zeros((len(graph.weights), len(graph.weights)))
  for row, others in enumerate(np.asarray(graph.neighbors)):
    matrix[row, others] += np.asarray(graph.weights)[row]
  return matrix + matrix.T


class TestCenterAndScale:
  def test_are_means_over_the_valid_rows(self):
    expected = make_features().mean(axis=0)
    distance = np.linalg.norm(make_features() - expected, axis=1).mean()
    for num_devices in (1, 8):
      center, scale = graph_lib.center_and_scale(*place(num_devices))
      np.testing.assert_allclose(center, expected, rtol=1e-5)
      np.testing.assert_allclose(scale, distance, rtol=1e-5)

  def test_scale_of_equal_rows_is_one(self):
    features = jnp.ones((ROWS, DIM))
    _, scale = graph_lib.center_and_scale(features, jnp.ones(ROWS, bool))
    assert scale == 1.0


class TestMakeGraph:
  def test_is_the_naive_graph_on_any_number_of_devices(self):
    expected = naive_matrix(make_features())
    for num_devices in (1, 8):
      matrix = matrix_of(graph_on(num_devices))
      np.testing.assert_allclose(matrix[:ROWS, :ROWS], expected, atol=1e-5)
      assert not matrix[ROWS:].any()

  def test_reads_rows_on_the_host(self):
    mesh = make_mesh(8)
    rows = place_on_host(InMemory(make_features()), mesh)
    graph = make_graph(rows, place_pool(np.ones(ROWS, bool), mesh))
    expected = matrix_of(graph_on(8))
    np.testing.assert_allclose(matrix_of(graph), expected, atol=1e-6)

  def test_few_rows_have_fewer_neighbors(self):
    """Two rows are opposite after their mean is subtracted: no edge is left."""
    valid = jnp.arange(ROWS) < 2
    graph = make_graph(jnp.asarray(make_features()), valid)
    assert not np.asarray(graph.weights).any()
    values = jnp.asarray(make_features())
    share = (1.0 - graph_lib.ALPHA) * values
    smoothed = graph_lib.smooth(graph, values)
    np.testing.assert_allclose(smoothed, share, rtol=1e-6)


class TestSmooth:
  def test_is_the_naive_one_on_any_number_of_devices(self):
    matrix = naive_matrix(make_features())
    expected = naive_smooth(matrix, make_features())
    for num_devices in (1, 8):
      features, valid = place(num_devices)
      values = jnp.where(valid[:, None], features, 0.0)
      smoothed = graph_lib.smooth(graph_on(num_devices), values)
      np.testing.assert_allclose(smoothed[:ROWS], expected, atol=1e-4)


class TestSmoothRowsAt:
  def test_is_rows_of_smooth(self, monkeypatch):
    # Two blocks, of which the second is moved back.
    monkeypatch.setattr(graph_lib, "BLOCK_COLUMNS", 2)
    matrix = naive_matrix(make_features())
    center = make_features().mean(axis=0)
    expected = naive_smooth(matrix, make_features() - center)[INDICES[:3]]
    for num_devices in (1, 8):
      features, valid = place(num_devices)
      features = jnp.where(valid[:, None], features, 0.0)
      rows = graph_lib.smooth_rows_at(
        graph_on(num_devices),
        features,
        jnp.asarray(center),
        jnp.asarray(INDICES),
        jnp.int32(3),
      )
      np.testing.assert_allclose(rows[:3], expected, atol=1e-4)
      assert not np.asarray(rows[3:]).any()
