"""Tests of decern_jax/strategies/uncertainty.py."""

import itertools

import jax
import numpy as np
import scipy

from decern_jax.strategies import uncertainty
from tests.strategies import pools
from tests.strategies.pools import CANDIDATES, FEATURES, LABEL_PROBS, PROBS
from tests.table import each


def binary_entropies(probs) -> np.ndarray:
  pairs = np.stack([np.float64(probs), 1.0 - np.float64(probs)])
  return scipy.stats.entropy(pairs, axis=0).sum(axis=1)


def closeness(probs) -> np.ndarray:
  ordered = np.sort(np.float64(probs), axis=1)
  return 1.0 - (ordered[:, -1] - ordered[:, -2])


def gradient_lengths(features, probs, labels) -> np.ndarray:
  """Lengths of the gradients by the kernel, outer product by outer product."""
  features = np.asarray(features, np.float64)
  residuals = np.asarray(probs, np.float64) - labels
  return np.array(
    [
      np.linalg.norm(np.outer(h, r))
      for h, r in zip(features, residuals, strict=True)
    ]
  )


NAIVE = {
  ("entropy", False): scipy.stats.entropy(np.float64(PROBS), axis=1),
  ("entropy", True): binary_entropies(LABEL_PROBS),
  ("least_confidence", False): 1.0 - np.float64(PROBS).max(axis=1),
  ("least_confidence", True): np.minimum(
    np.float64(LABEL_PROBS), 1.0 - LABEL_PROBS
  ).mean(axis=1),
  ("margin", False): closeness(PROBS),
  ("margin", True): 1.0 - np.abs(2.0 * np.float64(LABEL_PROBS) - 1.0).min(1),
  ("gradient_magnitude", False): gradient_lengths(
    FEATURES, PROBS, np.eye(pools.CLASSES)[PROBS.argmax(axis=1)]
  ),
  ("gradient_magnitude", True): gradient_lengths(
    FEATURES, LABEL_PROBS, LABEL_PROBS >= 0.5
  ),
  ("temporal_discrepancy", False): np.linalg.norm(
    np.float64(PROBS) - pools.PREVIOUS_PROBS, axis=1
  ),
  ("temporal_discrepancy", True): np.linalg.norm(
    np.float64(LABEL_PROBS) - pools.PREVIOUS_PROBS, axis=1
  ),
}


class TestScores:
  @each("form, expected", NAIVE.items())
  def test_match_the_formula_and_the_highest_are_selected(self, form, expected):
    name, is_multi_label = form
    pool = pools.make_pool(is_multi_label=is_multi_label)
    found = pools.select(name, pool, is_multi_label=is_multi_label)
    np.testing.assert_allclose(
      np.asarray(found.scores)[CANDIDATES],
      expected[CANDIDATES],
      rtol=1e-4,
      atol=1e-6,
    )
    np.testing.assert_array_equal(
      found.indices, pools.highest(expected, pools.BUDGET)
    )

  @each("name", ["gradient_magnitude", "temporal_discrepancy"])
  def test_are_zero_at_other_examples(self, name):
    found = pools.select(name, pools.make_pool())
    assert not np.asarray(found.scores)[~CANDIDATES].any()

  @each("name", ["gradient_magnitude", "temporal_discrepancy"])
  def test_ignore_which_answer_of_a_label_is_yes(self, name):
    pool = pools.make_pool(is_multi_label=True)
    assert pool.previous_probs is not None
    flipped = pools.change(
      pool, probs=1.0 - pool.probs, previous_probs=1.0 - pool.previous_probs
    )
    found, expected = (
      np.asarray(pools.select(name, one, is_multi_label=True).scores)
      for one in (flipped, pool)
    )
    np.testing.assert_allclose(found, expected, rtol=1e-4)


class TestGradientMagnitude:
  def test_is_the_least_length_for_any_labels(self):
    lengths = [
      gradient_lengths(FEATURES, LABEL_PROBS, np.array(labels))
      for labels in itertools.product([0, 1], repeat=pools.CLASSES)
    ]
    np.testing.assert_allclose(
      NAIVE["gradient_magnitude", True], np.min(lengths, axis=0)
    )

  def test_a_certain_prediction_scores_zero(self):
    pool = pools.make_pool(is_multi_label=True, probs=LABEL_PROBS.round())
    assert not np.asarray(uncertainty.label_gradient_magnitude(pool)).any()


class TestTemporalDiscrepancy:
  def test_first_round_is_random(self, key):
    pool = pools.change(pools.make_pool(), previous_probs=None)
    found = uncertainty.temporal_discrepancy(key, pool, budget=pools.BUDGET)
    expected = uncertainty.select_random(key, pool, budget=pools.BUDGET)
    np.testing.assert_array_equal(found.indices, expected.indices)
    assert found.scores is None

  def test_an_unchanged_model_scores_zero(self, key):
    pool = pools.make_pool(previous_probs=PROBS)
    found = uncertainty.temporal_discrepancy(key, pool, budget=pools.BUDGET)
    assert not np.asarray(found.scores).any()


class TestSelectRandom:
  def test_is_uniform_over_the_candidates(self):
    pool, counts = pools.make_pool(), np.zeros(pools.ROWS, int)
    for seed in range(200):
      selection = uncertainty.select_random(
        jax.random.key(seed), pool, budget=pools.BUDGET
      )
      counts[np.asarray(selection.indices)] += 1
    assert not counts[~CANDIDATES].any()
    assert scipy.stats.chisquare(counts[CANDIDATES]).pvalue > 0.01
    assert selection.scores is None
