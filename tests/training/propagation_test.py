"""Tests of decern_jax/training/propagation.py."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import decern_jax
from decern_jax.distributed.rows import InMemory
from decern_jax.distributed.sharding import make_mesh, place_on_host, place_pool
from decern_jax.training import propagation
from tests import tiny
from tests.table import each

SIZE, DIM, CLASSES = 90, 20, 2
LABELED = (4, 49)


@functools.cache
def make_blobs() -> tuple[np.ndarray, np.ndarray]:
  """Features [SIZE, DIM] around a center per class, and the class of each."""
  labels = np.arange(SIZE) // (SIZE // CLASSES)
  noise = np.random.default_rng(0).normal(size=(SIZE, DIM))
  return (np.eye(CLASSES, DIM)[labels] + 0.3 * noise).astype(np.float32), labels


def some_labels(indices=LABELED) -> np.ndarray:
  labels = np.full(SIZE, -1)
  labels[list(indices)] = make_blobs()[1][list(indices)]
  return labels


def accuracy(probs: np.ndarray) -> float:
  return float(np.mean(probs.argmax(axis=1) == make_blobs()[1]))


@functools.cache
def make_graph() -> propagation.PoolGraph:
  return decern_jax.make_graph(make_blobs()[0], num_neighbors=5)


class TestPropagate:
  def test_is_better_than_the_labels_without_the_pool(self):
    features = make_blobs()[0]
    probs = decern_jax.propagate(features, some_labels(), graph=make_graph())
    assert probs.shape == (SIZE, CLASSES)
    assert probs.dtype == np.float32
    np.testing.assert_allclose(probs.sum(axis=1), 1.0, rtol=1e-5)
    alone = make_graph()._replace(graph=None)
    solution = propagation.fit_with_pool(
      alone, jnp.asarray(features), np.array(LABELED), 2, np.eye(2)
    )
    kernel, bias = (np.asarray(array) for array in solution.head)
    assert accuracy(probs) > accuracy(features @ kernel + bias) + 0.05

  def test_is_the_same_on_eight_devices_and_with_a_new_graph(self):
    features = make_blobs()[0]
    expected = decern_jax.propagate(
      features, some_labels(), graph=decern_jax.make_graph(features)
    )
    found = decern_jax.propagate(features, some_labels(), mesh=make_mesh(8))
    np.testing.assert_allclose(found, expected, atol=2e-3)

  def test_head_gives_the_probabilities(self):
    features = make_blobs()[0]
    probs, head = decern_jax.propagate(
      features, some_labels(), graph=make_graph(), return_head=True
    )
    logits = features @ np.asarray(head.kernel) + np.asarray(head.bias)
    expected = jax.nn.softmax(logits)
    np.testing.assert_allclose(probs, expected, atol=1e-5)

  def test_several_labels(self):
    features, labels = make_blobs()
    both = np.stack([labels == 1, labels == 0, labels >= 0], axis=1).astype(int)
    known = np.full_like(both, -1)
    known[list(LABELED)] = both[list(LABELED)]
    probs = decern_jax.propagate(features, known, graph=make_graph())
    single = decern_jax.propagate(features, some_labels(), graph=make_graph())
    assert accuracy(probs[:, 1::-1]) > accuracy(single) - 0.03
    assert probs[:, 2].min() > 0.9

  def test_knows_classes_without_labels(self):
    features = make_blobs()[0]
    probs = decern_jax.propagate(
      features, some_labels(), graph=make_graph(), num_classes=4
    )
    assert probs.shape == (SIZE, 4)
    assert 0.0 < probs[:, 2:].max() < 0.2

  @each(
    "changes, message",
    [
      ({"labels": np.full(SIZE, -1)}, "at least one label, got -1"),
      ({"labels": None}, "`labels` of the pool, got none"),
      ({"labels": some_labels() - 1}, "-1 <= `labels` < 1, got -2"),
      ({"labels": some_labels()[1:]}, r"`labels` .*\[89\]|89"),
      ({"num_classes": 1}, "-1 <= `labels` < 1, got 1"),
      ({"labels": [[0, -1]] * SIZE}, r"or -1 throughout, got \[0, -1\] in row"),
      (
        {"features": np.full((SIZE, DIM), np.nan)},
        "finite numbers in `features`",
      ),
      ({"features": np.ones((1, DIM))}, "2 examples or more, got 1"),
      ({"features": np.ones((SIZE, 5))}, "`graph` of 90 x 5 .* of 90 x 20"),
    ],
  )
  def test_refuses(self, changes, message):
    arguments = {
      "features": make_blobs()[0],
      "labels": some_labels(),
      "graph": make_graph(),
      **changes,
    }
    with pytest.raises(ValueError, match=message):
      decern_jax.propagate(**arguments)


class TestMakeGraph:
  @each("num_neighbors", [0, SIZE, 1.5])
  def test_refuses_a_number_of_neighbors(self, num_neighbors):
    with pytest.raises(ValueError, match="`num_neighbors`"):
      decern_jax.make_graph(make_blobs()[0], num_neighbors=num_neighbors)


class TestFitHead:
  def test_reads_rows_on_the_host(self):
    features = make_blobs()[0]
    indices, targets = np.array([*LABELED, 0, 0]), np.eye(2)[[0, 1, 0, 0]]
    heads = []
    mesh = make_mesh(8)
    valid = place_pool(np.ones(SIZE, bool), mesh)
    for rows in (
      place_pool(features, mesh),
      place_on_host(InMemory(features), mesh),
    ):
      pool = propagation.describe_pool(rows, valid, has_graph=True)
      heads.append(
        propagation.fit_with_pool(pool, rows, indices, 2, targets).head
      )
    for ours, theirs in zip(*heads, strict=True):
      np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_code_of_the_page_works():
  (code,) = tiny.code_blocks("docs/labels.md")
  exec(code, {})
