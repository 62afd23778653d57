"""Tests of decern_jax/ops/multilabel_metrics.py."""

import itertools
import json
from typing import Any

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from decern_jax.ops import multilabel_metrics
from decern_jax.ops.multilabel_metrics import summarize
from tests import oracle
from tests.table import each

# Its annotations leave out that `average` may be None.
metrics: Any = sklearn_metrics

ROWS, CLASSES = 61, 7
COUNTS = np.arange(CLASSES) + 5


def make_split(seed: int, *, num_levels: int | None = None):
  """Probabilities, of `num_levels` values if given, and labels that follow."""
  rng = np.random.default_rng(seed)
  probs = rng.random((ROWS, CLASSES), np.float32)
  labels = (probs + rng.normal(0.0, 0.4, probs.shape) > 0.6).astype(np.int32)
  if num_levels is not None:
    probs = oracle.float32(np.round(probs * num_levels) / num_levels)
  return probs, labels


SPLITS = {
  "distinct": make_split(0),
  "ties": make_split(1, num_levels=8),
  "zeros and ones": make_split(2, num_levels=1),
  "many at the threshold": make_split(3, num_levels=2),
}


def naive_average_precision(scores, relevant):
  """Goes through the thresholds from the highest down."""
  total, recall = 0.0, 0.0
  for threshold in sorted(set(scores), reverse=True):
    chosen = scores >= threshold
    hits = np.sum(chosen & (relevant == 1))
    total += hits / chosen.sum() * (hits / relevant.sum() - recall)
    recall = hits / relevant.sum()
  return total


def naive_ranking_loss(scores, labels):
  losses = []
  for row, truth in zip(scores, labels, strict=True):
    pairs = itertools.product(row[truth == 1], row[truth == 0])
    wrong = [right <= other for right, other in pairs]
    losses.append(np.mean(wrong) if wrong else 0.0)
  return np.mean(losses)


class TestSummarize:
  @each("name", SPLITS)
  def test_matches_sklearn(self, name):
    probs, labels = SPLITS[name]
    found = summarize(probs, labels, train_counts=COUNTS)
    guess = (probs >= 0.5).astype(np.int32)
    expected = {
      "macro_f1": metrics.f1_score(labels, guess, average="macro"),
      "micro_f1": metrics.f1_score(labels, guess, average="micro"),
      "macro_ap": metrics.average_precision_score(labels, probs),
      "micro_ap": metrics.average_precision_score(
        labels, probs, average="micro"
      ),
      "hamming_loss": metrics.hamming_loss(labels, guess),
      "ranking_loss": metrics.label_ranking_loss(labels, probs),
      "rarest_f1": metrics.f1_score(
        labels, guess, labels=[0, 1, 2], average="macro"
      ),
      "class_f1": metrics.f1_score(labels, guess, average=None).tolist(),
      "class_ap": metrics.average_precision_score(
        labels, probs, average=None
      ).tolist(),
    }
    assert found.keys() == expected.keys()
    for name, value in expected.items():
      assert found[name] == pytest.approx(value, rel=1e-12), name

  @each("name", SPLITS)
  def test_matches_naive_thresholds_and_pairs(self, name):
    probs, labels = SPLITS[name]
    found = summarize(probs, labels, train_counts=COUNTS)
    columns = zip(probs.T, labels.T, strict=True)
    expected = [naive_average_precision(*column) for column in columns]
    assert found["class_ap"] == pytest.approx(expected)
    expected = naive_ranking_loss(probs, labels)
    assert found["ranking_loss"] == pytest.approx(expected)

  @each("garbage", [np.nan, -7.0, 0.7])
  def test_is_exact_whatever_the_padding(self, garbage):
    probs, labels = make_split(0)
    expected = summarize(probs, labels, train_counts=COUNTS)
    padded = np.full((2 * ROWS, CLASSES), garbage, np.float32)
    padded_labels = np.full(padded.shape, -1, np.int32)
    valid = np.arange(2 * ROWS) % 2 == 1
    padded[valid], padded_labels[valid] = probs, labels
    found = summarize(padded, padded_labels, valid=valid, train_counts=COUNTS)
    assert found == expected

  def test_label_without_positive_is_left_out_of_the_means(self):
    probs, labels = make_split(0)
    labels[:, 2] = 0
    assert (probs[:, 2] >= 0.5).any()
    found = summarize(probs, labels, train_counts=COUNTS)
    assert found["class_f1"][2] is found["class_ap"][2] is None
    guess, present = probs >= 0.5, [0, 1, 3, 4, 5, 6]
    assert found["macro_f1"] == pytest.approx(
      metrics.f1_score(labels, guess, labels=present, average="macro")
    )
    assert found["macro_ap"] == pytest.approx(
      metrics.average_precision_score(labels[:, present], probs[:, present])
    )
    # Its false positives are still in what counts pairs.
    assert found["micro_f1"] == pytest.approx(
      metrics.f1_score(labels, guess, average="micro")
    )
    assert found["micro_ap"] == pytest.approx(
      metrics.average_precision_score(labels, probs, average="micro")
    )

  def test_without_any_positive_nothing_but_losses_is_defined(self):
    found = summarize(
      make_split(0)[0], np.zeros((ROWS, CLASSES), int), train_counts=COUNTS
    )
    assert found["ranking_loss"] == 0.0
    assert found["hamming_loss"] > 0.0
    undefined = {name for name, value in found.items() if value is None}
    assert undefined == {
      "macro_f1",
      "micro_f1",
      "macro_ap",
      "micro_ap",
      "rarest_f1",
    }

  def test_all_positive_is_precise_at_every_threshold(self):
    probs = make_split(0)[0]
    found = summarize(probs, np.ones((ROWS, CLASSES), int), train_counts=COUNTS)
    assert found["macro_ap"] == found["micro_ap"] == 1.0
    assert found["ranking_loss"] == 0.0
    recall = np.mean(probs >= 0.5)
    assert found["micro_f1"] == pytest.approx(2 * recall / (1 + recall))

  def test_constant_scores_have_the_frequency_for_precision(self):
    labels = make_split(0)[1]
    probs = np.full((ROWS, CLASSES), 0.25, np.float32)
    found = summarize(probs, labels, train_counts=COUNTS)
    assert found["class_ap"] == pytest.approx(labels.mean(axis=0).tolist())
    assert found["micro_ap"] == pytest.approx(labels.mean())
    assert found["macro_f1"] == 0.0
    has_pair = (labels.any(axis=1)) & ~(labels.all(axis=1))
    assert found["ranking_loss"] == pytest.approx(has_pair.mean())

  def test_one_row_is_enough(self):
    probs, labels = oracle.float32([[0.9, 0.2, 0.5]]), np.array([[1, 1, 0]])
    found = summarize(probs, labels, train_counts=np.array([3, 2, 1]))
    assert found["class_f1"] == [1.0, 0.0, None]
    assert found["class_ap"] == [1.0, 1.0, None]
    assert found["micro_f1"] == 2 / 4
    assert found["ranking_loss"] == 1 / 2
    assert found["hamming_loss"] == pytest.approx(2 / 3)
    assert found["rarest_f1"] is None

  def test_perfect_predictions_are_perfect(self):
    labels = make_split(0)[1]
    found = summarize(oracle.float32(labels), labels, train_counts=COUNTS)
    assert found["macro_f1"] == found["micro_ap"] == found["rarest_f1"] == 1.0
    assert found["hamming_loss"] == found["ranking_loss"] == 0.0

  def test_permuting_labels_permutes_their_scores_alone(self):
    probs, labels = make_split(1, num_levels=8)
    order = np.random.default_rng(0).permutation(CLASSES)
    found = summarize(
      probs[:, order], labels[:, order], train_counts=COUNTS[order]
    )
    expected = summarize(probs, labels, train_counts=COUNTS)
    for name, value in expected.items():
      if isinstance(value, list):
        value = [value[label] for label in order]
      assert found[name] == pytest.approx(value)

  def test_is_written_as_json(self):
    probs, labels = make_split(0)
    found = summarize(probs, labels, train_counts=COUNTS)
    assert json.loads(json.dumps(found)) == found

  @each(
    "change, match",
    [
      ({"labels": np.zeros((ROWS, 3))}, r"\(61, 7\) and \(61, 3\)"),
      ({"probs": np.zeros(ROWS), "labels": np.zeros(ROWS)}, r"\(61,\)"),
      ({"train_counts": np.zeros(3)}, r"\(7,\), got \(3,\)"),
      ({"valid": np.zeros(ROWS, bool)}, r"bool \[61\] with 0"),
      ({"valid": np.ones(5, bool)}, r"bool \[61\] .* bool \[5\]"),
      ({"valid": np.ones(ROWS, int)}, "got int64"),
      ({"probs": np.full((ROWS, CLASSES), 1.5)}, "got 1.5"),
      ({"probs": np.full((ROWS, CLASSES), np.nan)}, "got nan"),
      ({"labels": np.full((ROWS, CLASSES), -1)}, "0 or 1, got -1"),
    ],
  )
  def test_rejects_what_does_not_fit(self, change, match):
    probs, labels = make_split(0)
    arguments = {"probs": probs, "labels": labels, "train_counts": COUNTS}
    with pytest.raises(ValueError, match=match):
      summarize(**(arguments | change))


class TestClassF1Scores:
  def test_counts_hits_by_label(self):
    predicted = np.array([[1, 0], [1, 1], [0, 1]], bool)
    labels = np.array([[1, 0], [1, 0], [1, 1]], bool)
    found = multilabel_metrics.class_f1_scores(predicted, labels)
    assert found == [4 / 5, 2 / 3]


class TestMicroF1Score:
  def test_counts_all_labels_together(self):
    predicted = np.array([[1, 0], [1, 1], [0, 1]], bool)
    labels = np.array([[1, 0], [1, 0], [1, 1]], bool)
    found = multilabel_metrics.micro_f1_score(predicted, labels)
    assert found == 6 / 8


class TestAveragePrecision:
  def test_equal_scores_have_no_order(self):
    scores = oracle.float32([0.4, 0.4, 0.4, 0.9])
    relevant = np.array([0, 0, 1, 0], bool)
    found = {
      multilabel_metrics.average_precision(
        scores[list(order)], relevant[list(order)]
      )
      for order in itertools.permutations(range(4))
    }
    assert found == {1 / 4}


class TestRankingLoss:
  def test_ties_are_wrong(self):
    scores = oracle.float32([[0.5, 0.5, 0.1]])
    found = multilabel_metrics.ranking_loss(
      scores, np.array([[True, False, False]])
    )
    assert found == 1 / 2


class TestRarestLabels:
  @each(
    "counts, expected",
    [
      ([5], [0]),
      ([5, 4], [1]),
      ([9, 2, 2, 1, 7], [3, 1]),
      ([3, 3, 3, 3, 3, 3], [0, 1]),
      ([6, 5, 4, 3, 2, 1, 0], [6, 5, 4]),
    ],
  )
  def test_are_a_third_rounded_up(self, counts, expected):
    found = multilabel_metrics.rarest_labels(np.array(counts))
    assert found.tolist() == expected
