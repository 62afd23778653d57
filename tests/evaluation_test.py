"""Tests of decern_jax/evaluation.py."""

import jax
import numpy as np
import pytest

from decern_jax import evaluation
from decern_jax.sharding import make_mesh, place_pool
from tests import oracle

PROBLEM = oracle.make_problem(pool=43)
LABELS = np.random.default_rng(0).integers(5, size=43).astype(np.int32)


def evaluate(problem, labels, valid) -> evaluation.Totals:
  return evaluation.evaluate_head(problem.head, problem.features, labels, valid)


class TestEvaluateHead:
  def test_matches_naive_count(self):
    valid = np.arange(43) % 4 != 2
    totals = evaluate(PROBLEM, LABELS, valid)
    assert totals.num_examples == valid.sum()
    correct = PROBLEM.probs.argmax(axis=1) == LABELS
    assert totals.num_correct == (correct & valid).sum()
    losses = -np.log(PROBLEM.probs[np.arange(43), LABELS])
    np.testing.assert_allclose(totals.loss, losses[valid].sum(), rtol=1e-5)

  @pytest.mark.parametrize("garbage", [0.0, 1e30, np.nan])
  def test_is_exact_whatever_the_padding(self, garbage):
    features = np.concatenate([PROBLEM.features, np.full((21, 37), garbage)])
    labels = np.concatenate([LABELS, np.full(21, 99, np.int32)])
    padded = PROBLEM._replace(features=np.float32(features))
    totals = evaluate(padded, labels, np.arange(64) < 43)
    expected = evaluate(PROBLEM, LABELS, np.ones(43, bool))
    assert totals[:2] == expected[:2]
    np.testing.assert_allclose(totals.loss, expected.loss, rtol=1e-6)

  def test_is_independent_of_shard_count(self):
    arrays = PROBLEM.features, LABELS, np.ones(43, bool)
    placed = [place_pool(array, make_mesh(8)) for array in arrays]
    totals = evaluation.evaluate_head(PROBLEM.head, *placed)
    expected = evaluation.evaluate_head(PROBLEM.head, *arrays)
    assert totals[:2] == expected[:2]
    np.testing.assert_allclose(totals.loss, expected.loss, rtol=1e-6)

  def test_totals_of_parts_add_up(self):
    masks = np.arange(43) < 20, np.arange(43) >= 20
    parts = [evaluate(PROBLEM, LABELS, mask) for mask in masks]
    whole = evaluate(PROBLEM, LABELS, np.ones(43, bool))
    for part, other, both in zip(*parts, whole, strict=True):
      np.testing.assert_allclose(part + other, both, rtol=1e-6)

  def test_no_valid_row_gives_zeros(self):
    totals = evaluate(PROBLEM, LABELS, np.zeros(43, bool))
    assert jax.tree.map(float, tuple(totals)) == (0.0, 0.0, 0.0)


class TestSummarize:
  def test_divides_by_the_number_of_examples(self):
    totals = evaluation.Totals(np.int32(8), np.int32(6), np.float32(4.0))
    summary = evaluation.summarize(totals)
    assert summary == {"accuracy": 0.75, "loss": 0.5}
    assert {type(value) for value in summary.values()} == {float}
