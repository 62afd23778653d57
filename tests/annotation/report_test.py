"""Tests of decern_jax/annotation/report.py; run_test.py tests whole reports."""

import jax
import numpy as np
import pytest

from decern_jax.annotation import report
from decern_jax.distributed.sharding import make_mesh, place_pool
from decern_jax.ops.head import LinearHead
from decern_jax.report.statistics import bootstrap_macro_f1
from decern_jax.training.learner import Fit, PlacedSplit
from decern_jax.training.rounds import make_state

POOL, TEST, DIM, CLASSES = 21, 10, 4, 6
NAMES = tuple(f"class {n}" for n in range(CLASSES))
IDS = tuple(f"{n}.png" for n in range(POOL))
SELECTED = np.array([2, 20, 7])
# The features of these were not computed.
UNSEEN = [4, 11]


def softmax(outputs):
  weights = np.exp(outputs - outputs.max(axis=-1, keepdims=True))
  return weights / weights.sum(axis=-1, keepdims=True)


def cosines(rows, others):
  def unit(x):
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)

  return unit(rows) @ unit(others).T


@pytest.fixture(scope="module")
def data():
  rng = np.random.default_rng(0)
  features = rng.normal(size=(POOL, DIM)).astype(np.float32)
  features[UNSEEN] = 0.0
  test = rng.normal(size=(TEST, DIM)).astype(np.float32)
  kernel = rng.normal(size=(DIM, CLASSES)).astype(np.float32)
  bias = rng.normal(size=CLASSES).astype(np.float32)
  labeled = np.arange(POOL) % 5 == 1
  return features, test, kernel, bias, labeled


def explain(data, *, selected=SELECTED, is_multi_label=False):
  features, test, kernel, bias, labeled = data
  mesh = make_mesh(1)

  def place(rows, labels):
    return PlacedSplit(
      place_pool(rows, mesh),
      place_pool(labels, mesh),
      place_pool(np.ones(len(rows), bool), mesh),
    )

  def labels_of(count):
    shape = (count, CLASSES) if is_multi_label else (count,)
    return (np.arange(np.prod(shape)).reshape(shape) % 3 == 0).astype(np.int32)

  head = LinearHead(jax.numpy.asarray(kernel), jax.numpy.asarray(bias))
  return report.explain(
    Fit(None, head, np.zeros(1)),
    {
      "train": place(features, labels_of(POOL)),
      "test": place(test, labels_of(TEST)),
    },
    make_state(0, np.where(labeled, 0, -1)),
    selected,
    ids=IDS,
    class_names=NAMES,
  )


class TestExplain:
  @pytest.mark.parametrize("is_multi_label", [False, True])
  def test_predictions_are_the_likeliest_classes(self, data, is_multi_label):
    features, _, kernel, bias, _ = data
    found = explain(data, is_multi_label=is_multi_label)["predictions"]
    outputs = features[SELECTED] @ kernel + bias
    probs = 1 / (1 + np.exp(-outputs)) if is_multi_label else softmax(outputs)
    for pairs, row in zip(found, probs, strict=True):
      best = np.argsort(-row)[: report.NUM_PREDICTIONS]
      assert [name for name, _ in pairs] == [NAMES[c] for c in best]
      np.testing.assert_allclose([p for _, p in pairs], row[best], atol=1e-4)

  def test_nearest_are_labeled_images_by_cosine(self, data):
    features, _, _, _, labeled = data
    found = explain(data)["nearest_labeled"]
    indices = np.flatnonzero(labeled)
    for pairs, row in zip(
      found, cosines(features[SELECTED], features[indices]), strict=True
    ):
      best = np.argsort(-row)[: report.NUM_NEAREST]
      assert [id_ for id_, _ in pairs] == [IDS[indices[i]] for i in best]
      np.testing.assert_allclose([c for _, c in pairs], row[best], atol=1e-4)

  @pytest.mark.parametrize("block_rows", [report.BLOCK_ROWS, 5])
  def test_clusters_are_of_the_unlabeled_images_that_were_seen(
    self, data, monkeypatch, block_rows
  ):
    monkeypatch.setattr(report, "BLOCK_ROWS", block_rows)
    features, _, _, _, labeled = data
    is_in = ~labeled
    is_in[UNSEEN] = False
    nearest = cosines(features[is_in], features[SELECTED]).argmax(axis=1)
    sizes = np.bincount(nearest, minlength=len(SELECTED))
    assert explain(data)["cluster_sizes"] == sizes.tolist()

  def test_several_labels_have_an_interval_of_macro_f1(self, data):
    _, test, kernel, bias, _ = data
    found = explain(data, selected=np.array([], int), is_multi_label=True)
    predicted = test @ kernel + bias >= 0
    labels = np.arange(TEST * CLASSES).reshape(TEST, CLASSES) % 3 == 0
    assert found == {
      "intervals": {"test": bootstrap_macro_f1(predicted, labels)}
    }

  def test_nothing_is_said_where_nothing_was_selected(self, data):
    assert explain(data, selected=np.array([], int)) == {}
