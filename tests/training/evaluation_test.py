"""Tests of decern_jax/training/evaluation.py."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import metrics

from decern_jax.distributed.sharding import make_mesh, place_pool
from decern_jax.training import evaluation
from tests import oracle
from tests.table import each

POOL, NUM_CLASSES = 43, 5
PROBLEM = oracle.make_problem(pool=POOL)
LABELS = np.random.default_rng(0).integers(NUM_CLASSES, size=POOL, dtype="i4")
PREDICTED = PROBLEM.probs.argmax(axis=1)
# No example of class 3, as in a part of a long-tailed data set.
LACKING = np.where(LABELS == 3, 1, LABELS).astype(np.int32)


def evaluate(problem, labels, valid) -> evaluation.Totals:
  return evaluation.evaluate_head(problem.head, problem.features, labels, valid)


def assert_same_counts(actual, expected) -> None:
  np.testing.assert_array_equal(actual.examples, expected.examples)
  np.testing.assert_array_equal(actual.correct, expected.correct)


class TestEvaluateHead:
  def test_matches_naive_count(self):
    valid = np.arange(POOL) % 4 != 2
    totals = evaluate(PROBLEM, LABELS, valid)
    for label in range(NUM_CLASSES):
      of_class = valid & (label == LABELS)
      right = of_class & (label == PREDICTED)
      assert totals.examples[label] == of_class.sum()
      assert totals.correct[label] == right.sum()
    assert totals.examples.sum() == valid.sum()
    losses = -np.log(PROBLEM.probs[np.arange(POOL), LABELS])
    np.testing.assert_allclose(totals.loss, losses[valid].sum(), rtol=1e-5)

  @each("garbage", [0.0, 1e30, np.nan])
  @each("label", [0, 99, -1])
  def test_is_exact_whatever_the_padding(self, garbage, label):
    features = np.concatenate([PROBLEM.features, np.full((21, 37), garbage)])
    labels = np.concatenate([LABELS, np.full(21, label, np.int32)])
    padded = PROBLEM._replace(features=np.float32(features))
    totals = evaluate(padded, labels, np.arange(64) < POOL)
    expected = evaluate(PROBLEM, LABELS, np.ones(POOL, bool))
    assert_same_counts(totals, expected)
    np.testing.assert_allclose(totals.loss, expected.loss, rtol=1e-6)

  def test_is_independent_of_shard_count(self):
    arrays = PROBLEM.features, LABELS, np.ones(POOL, bool)
    placed = [place_pool(array, make_mesh(8)) for array in arrays]
    totals = evaluation.evaluate_head(PROBLEM.head, *placed)
    expected = evaluation.evaluate_head(PROBLEM.head, *arrays)
    assert_same_counts(totals, expected)
    np.testing.assert_allclose(totals.loss, expected.loss, rtol=1e-6)

  def test_totals_of_parts_add_up(self):
    masks = np.arange(POOL) < 20, np.arange(POOL) >= 20
    parts = [evaluate(PROBLEM, LABELS, mask) for mask in masks]
    whole = evaluate(PROBLEM, LABELS, np.ones(POOL, bool))
    leaves = map(jax.tree.leaves, (*parts, whole))
    for part, other, both in zip(*leaves, strict=True):
      np.testing.assert_allclose(part + other, both, rtol=1e-6)

  def test_no_valid_row_gives_zeros(self):
    totals = evaluate(PROBLEM, LABELS, np.zeros(POOL, bool))
    for leaf in jax.tree.leaves(totals):
      assert not np.asarray(leaf).any()

  def test_counts_are_integers_by_class(self):
    totals = evaluate(PROBLEM, LABELS, np.ones(POOL, bool))
    for counts in (totals.examples, totals.correct):
      assert counts.dtype == np.int32
      assert counts.shape == (NUM_CLASSES,)


class TestSummarize:
  def test_divides_by_the_number_of_examples(self):
    totals = evaluation.Totals(
      jnp.array([6, 0, 2]), jnp.array([5, 0, 1]), jnp.array(4.0)
    )
    summary = evaluation.summarize(totals)
    assert summary == {
      "accuracy": 0.75,
      "balanced_accuracy": (5 / 6 + 1 / 2) / 2,
      "class_accuracy": [5 / 6, None, 0.5],
      "loss": 0.5,
    }
    scalars = [summary.pop("class_accuracy")[0], *summary.values()]
    assert {type(value) for value in scalars} == {float}

  @each("labels", [LABELS, LACKING])
  def test_matches_sklearn(self, labels):
    valid = np.arange(POOL) % 4 != 2
    summary = evaluation.summarize(evaluate(PROBLEM, labels, valid))
    truth, guess = labels[valid], PREDICTED[valid]
    with warnings.catch_warnings():
      # A class that is guessed and has no example.
      warnings.filterwarnings("ignore", message="y_pred contains classes")
      balanced = metrics.balanced_accuracy_score(truth, guess)
    # Its types are guessed from the defaults.
    recalls = metrics.recall_score(
      truth,
      guess,
      labels=range(NUM_CLASSES),
      average=None,  # pyright: ignore[reportArgumentType]
      zero_division=np.nan,  # pyright: ignore[reportArgumentType]
    )
    expected = [None if np.isnan(r) else float(r) for r in np.asarray(recalls)]
    assert summary["class_accuracy"] == pytest.approx(expected)
    assert summary["balanced_accuracy"] == pytest.approx(balanced)
    assert summary["accuracy"] == metrics.accuracy_score(truth, guess)
    assert (None in expected) == (labels is LACKING)

  def test_balanced_and_plain_accuracy_agree_on_equal_classes(self):
    totals = evaluation.Totals(
      jnp.full(4, 8), jnp.array([8, 2, 5, 0]), jnp.array(1.0)
    )
    summary = evaluation.summarize(totals)
    assert summary["balanced_accuracy"] == summary["accuracy"]
