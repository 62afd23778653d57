"""Tests of decern_jax/training/logistic.py."""

import functools

import jax
import numpy as np
from sklearn.linear_model import LogisticRegression

from decern_jax.training.logistic import TOLERANCE, Solution, fit_logistic
from tests.table import each

ROWS, DIM, CLASSES = 40, 5, 3
INVERSE_PENALTY = 7.0


@functools.cache
def make_data() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Features, labels and weights; the last rows do not count."""
  rng = np.random.default_rng(0)
  labels = np.arange(ROWS) % CLASSES
  features = rng.normal(size=(ROWS, DIM)) + np.eye(CLASSES, DIM)[labels]
  weights = rng.uniform(0.5, 2.0, ROWS)
  weights[-8:] = 0.0
  return features.astype(np.float32), labels, weights.astype(np.float32)


def fit(features, targets, weights, **options) -> Solution:
  return fit_logistic(
    features,
    np.asarray(targets, np.float32),
    weights,
    inverse_penalty=INVERSE_PENALTY,
    **options,
  )


def probabilities(solution: Solution, features, activation) -> np.ndarray:
  head = jax.tree.map(np.asarray, solution.head)
  return np.asarray(activation(features @ head.kernel + head.bias))


def reference(features, labels, weights) -> LogisticRegression:
  """Scikit-learn's optimum: the bias is the kernel of a constant."""
  model = LogisticRegression(
    C=INVERSE_PENALTY, fit_intercept=False, tol=1e-8, max_iter=10_000
  )
  return model.fit(with_constant(features), labels, weights)


def with_constant(features) -> np.ndarray:
  return np.concatenate([features, np.ones((len(features), 1))], axis=1)


class TestFitLogistic:
  def test_is_that_of_scikit_learn(self):
    features, labels, weights = make_data()
    solution = fit(features, np.eye(CLASSES)[labels], weights)
    model = reference(features, labels, weights)
    np.testing.assert_allclose(
      probabilities(solution, features, jax.nn.softmax),
      model.predict_proba(with_constant(features)),
      atol=1e-3,
    )
    assert solution.gradient <= TOLERANCE
    assert solution.num_steps > 3
    chosen = model.predict_proba(with_constant(features))
    losses = -np.log(chosen[np.arange(ROWS), labels])
    expected = np.average(losses, weights=weights)
    np.testing.assert_allclose(solution.loss, expected, rtol=1e-2)

  def test_several_labels_are_one_classifier_each(self):
    features, _, weights = make_data()
    rng = np.random.default_rng(1)
    targets = rng.random((ROWS, CLASSES)) < 0.3 + 0.3 * (features[:, :3] > 0)
    solution = fit(features, targets, weights, is_multi_label=True)
    probs = probabilities(solution, features, jax.nn.sigmoid)
    for label in range(CLASSES):
      model = reference(features, targets[:, label], weights)
      expected = model.predict_proba(with_constant(features))[:, 1]
      np.testing.assert_allclose(probs[:, label], expected, atol=1e-3)

  def test_soft_target_is_several_weighted_rows(self):
    features, _, weights = make_data()
    targets = np.random.default_rng(2).dirichlet(np.ones(CLASSES), ROWS)
    solution = fit(features, targets, weights)
    model = reference(
      np.repeat(features, CLASSES, axis=0),
      np.tile(np.arange(CLASSES), ROWS),
      (weights[:, None] * targets).ravel(),
    )
    np.testing.assert_allclose(
      probabilities(solution, features, jax.nn.softmax),
      model.predict_proba(with_constant(features)),
      atol=1e-3,
    )

  @each("is_multi_label", [False, True])
  def test_rows_without_weight_may_hold_anything(self, is_multi_label):
    features, labels, weights = make_data()
    targets = np.eye(CLASSES)[labels]
    expected = fit(features, targets, weights, is_multi_label=is_multi_label)
    garbage, wrong = features.copy(), targets.copy()
    garbage[weights == 0.0] = np.nan
    wrong[weights == 0.0] = np.inf
    found = fit(garbage, wrong, weights, is_multi_label=is_multi_label)
    for ours, theirs in zip(found.head, expected.head, strict=True):
      np.testing.assert_array_equal(ours, theirs)

  def test_a_class_without_examples_is_unlikely_but_possible(self):
    features, labels, weights = make_data()
    targets = np.eye(CLASSES)[np.minimum(labels, CLASSES - 2)]
    solution = fit(features, targets, weights)
    probs = probabilities(solution, features, jax.nn.softmax)[:, -1]
    assert 1e-4 < probs.mean() < 0.1
