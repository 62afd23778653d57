"""Tests of decern_jax/pretraining/probe.py."""

import numpy as np
from sklearn.metrics import f1_score
from sklearn.neighbors import KNeighborsClassifier

from decern_jax.pretraining import probe
from tests.table import each

NUM_CLASSES = 4


def draw(count, *, seed=0, spread=1.0):
  """Draws classes around directions, features float32 [count, 8]."""
  rng = np.random.default_rng(seed)
  centers = np.random.default_rng(99).standard_normal((NUM_CLASSES, 8))
  labels = rng.integers(NUM_CLASSES, size=count).astype(np.int32)
  noise = spread * rng.standard_normal((count, 8))
  return (centers[labels] + noise).astype(np.float32), labels


def several(features):
  """Labels [examples, 3] that follow from the features."""
  return (features[:, :3] > 0.5).astype(np.int32)


OPTIONS = {"num_neighbors": 7, "temperature": 0.07}


class TestNearestVotes:
  def test_matches_naive_loop(self):
    features, labels = draw(30)
    queries, _ = draw(5, seed=1)
    labels = several(features).astype(np.float32)
    found = probe.nearest_votes(features, labels, queries=queries, **OPTIONS)
    for query, votes in zip(queries, found, strict=True):
      cosines = np.array(
        [
          query @ row / np.linalg.norm(query) / np.linalg.norm(row)
          for row in features
        ]
      )
      nearest = np.argsort(-cosines)[:7]
      weights = np.exp(cosines[nearest] / 0.07)
      expected = weights @ labels[nearest] / weights.sum()
      np.testing.assert_allclose(votes, expected, rtol=1e-3, atol=1e-6)

  def test_no_example_votes_for_itself(self):
    features = np.eye(4, dtype=np.float32) + 0.01
    labels = np.eye(4, dtype=np.float32)
    found = probe.nearest_votes(
      features, labels, num_neighbors=4, temperature=1.0
    )
    np.testing.assert_allclose(np.diagonal(found), 0)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-6)

  def test_is_independent_of_the_blocks(self, monkeypatch):
    features, _ = draw(50)
    labels = several(features).astype(np.float32)
    whole = probe.nearest_votes(features, labels, **OPTIONS)
    monkeypatch.setattr(probe, "_BLOCK_SIZE", 7)
    found = probe.nearest_votes(features, labels, **OPTIONS)
    np.testing.assert_allclose(found, whole, rtol=1e-4, atol=1e-6)

  @each("count", [2, 3])
  def test_takes_as_many_votes_as_there_are(self, count):
    features, _ = draw(count)
    labels = several(features).astype(np.float32)
    found = probe.nearest_votes(features, labels, **OPTIONS)
    np.testing.assert_allclose(found[0], found[0].clip(0, 1))

  def test_zero_features_give_finite_votes(self):
    labels = np.ones((3, 2), np.float32)
    found = probe.nearest_votes(np.zeros((3, 4)), labels, **OPTIONS)
    np.testing.assert_allclose(found, 1, rtol=1e-6)


class TestScore:
  def test_single_labels_match_sklearn(self):
    features, labels = draw(200)
    queries, truth = draw(90, seed=1)
    judge = KNeighborsClassifier(
      7,
      metric="cosine",
      # Its type is guessed from the default.
      weights=lambda distance: np.exp(-distance / 0.07),  # pyright: ignore[reportArgumentType]
    )
    expected = judge.fit(features, labels).score(queries, truth)
    found = probe.score(
      features, labels, queries=queries, query_labels=truth, **OPTIONS
    )
    assert set(found) == {"knn_accuracy"}
    np.testing.assert_allclose(found["knn_accuracy"], expected)
    assert 0.5 < expected < 1.0

  def test_several_labels_match_sklearn(self):
    features, _ = draw(200)
    queries, _ = draw(90, seed=1)
    votes = probe.nearest_votes(
      features, several(features).astype(np.float32), queries=queries, **OPTIONS
    )
    found = probe.score(
      features,
      several(features),
      queries=queries,
      query_labels=several(queries),
      **OPTIONS,
    )
    expected = f1_score(several(queries), votes >= 0.5, average="macro")
    assert set(found) == {"knn_macro_f1"}
    np.testing.assert_allclose(found["knn_macro_f1"], expected)
    assert 0.5 < expected < 1.0

  def test_judges_each_example_by_the_others(self):
    """Labels at random: by itself, each would be right."""
    features, _ = draw(300)
    labels = np.random.default_rng(5).integers(2, size=300).astype(np.int32)
    options = {"num_neighbors": 1, "temperature": 0.07}
    assert probe.score(features, labels, **options)["knn_accuracy"] < 0.65
    found = probe.score(
      features, labels, queries=features, query_labels=labels, **options
    )
    assert found["knn_accuracy"] == 1.0

  def test_better_features_score_higher(self):
    found = [
      probe.score(*draw(200, spread=spread), **OPTIONS)["knn_accuracy"]
      for spread in (0.2, 1.0, 5.0)
    ]
    assert found[0] > found[1] > found[2]


class TestMacroF1:
  def test_leaves_out_a_label_without_a_positive(self):
    labels = np.array([[1, 0], [0, 0]])
    predicted = np.array([[True, True], [False, True]])
    assert probe.macro_f1(predicted, labels) == 1.0

  def test_without_any_label_is_zero(self):
    assert probe.macro_f1(np.ones((2, 3), bool), np.zeros((2, 3))) == 0.0

  def test_counts_a_label_that_is_never_predicted(self):
    labels = np.ones((4, 2), int)
    predicted = np.array([[True, False]] * 4)
    assert probe.macro_f1(predicted, labels) == 0.5
