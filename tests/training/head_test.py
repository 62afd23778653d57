"""Tests of decern_jax/training/head.py."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from decern_jax.ops.head import LinearHead
from decern_jax.training.head import cross_entropy, fit_head, init_head
from decern_jax.training.recipe import Recipe, learning_rates
from tests import oracle
from tests.table import each

PUBLISHED = Recipe(
  num_epochs=200,
  batch_size=128,
  learning_rate=1e-3,
  warmup_epochs=5,
  warmup_learning_rate=1e-6,
  final_learning_rate=1e-5,
)
SHORT = dataclasses.replace(PUBLISHED, num_epochs=12, learning_rate=0.05)


class TestInitHead:
  def test_is_uniform_within_one_over_root_dim(self, key):
    head = init_head(key, dim=400, num_classes=30)
    assert head.kernel.shape == (400, 30)
    assert head.bias.shape == (30,)
    for array in head:
      assert np.abs(array).max() <= 0.05
    np.testing.assert_allclose(
      np.std(head.kernel), 0.1 / math.sqrt(12), rtol=0.02
    )
    assert abs(np.mean(head.kernel)) < 1e-3

  def test_changes_with_the_key(self, key):
    heads = [
      init_head(key, dim=3, num_classes=2) for key in jax.random.split(key)
    ]
    assert not np.any(heads[0].kernel == heads[1].kernel)


class TestCrossEntropy:
  def test_is_the_mean_over_the_rows_that_count(self):
    problem = oracle.make_problem()
    labels = np.arange(40) % 5
    counted = np.arange(40) % 3 > 0
    expected = -np.log(problem.probs[np.arange(40), labels])[counted].mean()
    arrays = (problem.head, problem.features, labels, counted)
    actual = jax.jit(cross_entropy)(*arrays)
    np.testing.assert_allclose(actual, expected, rtol=1e-5)

  def test_is_zero_where_no_row_counts(self):
    problem = oracle.make_problem()
    none = np.zeros(40, bool)
    arrays = (problem.head, problem.features, np.zeros(40, int), none)
    assert jax.jit(cross_entropy)(*arrays) == 0.0


def naive_fit(head, features, labels, recipe) -> tuple[LinearHead, list[float]]:
  """Adam in NumPy, all rows in one batch."""
  parameters = [oracle.float64(array) for array in head]
  moments = [[np.zeros_like(p), np.zeros_like(p)] for p in parameters]
  losses, onehot = [], np.eye(len(head.bias))[labels]
  rates = learning_rates(recipe, jnp.arange(recipe.num_epochs))
  for step, rate in enumerate(np.asarray(rates, np.float64), start=1):
    probs = oracle.predict(features, *parameters)
    losses.append(-np.log(probs[np.arange(len(labels)), labels]).mean())
    residual = (probs - onehot) / len(labels)
    gradients = np.float64(features).T @ residual, residual.sum(axis=0)
    for p, moment, gradient in zip(parameters, moments, gradients, strict=True):
      moment[0] += 0.1 * (gradient - moment[0])
      moment[1] += 0.001 * (gradient**2 - moment[1])
      first = moment[0] / (1.0 - 0.9**step)
      second = moment[1] / (1.0 - 0.999**step)
      p -= rate * first / (np.sqrt(second) + 1e-8)
  return LinearHead(*parameters), losses


def fit(problem, labels, *, num_rows=None, recipe=SHORT, seed=0, start=None):
  start = problem.head if start is None else start
  head, losses = fit_head(
    jax.random.key(seed),
    start,
    problem.features,
    jnp.asarray(labels),
    jnp.asarray(len(labels) if num_rows is None else num_rows),
    recipe=recipe,
  )
  return jax.tree.map(np.asarray, head), np.asarray(losses)


def visits(num_rows: int, *, batch_size: int, num_epochs=6, seed=0, steps=None):
  """Which rows each epoch visits, from losses that are powers of two.

  A rate of next to nothing leaves the head as it is.
  """
  recipe = Recipe(
    num_epochs=num_epochs,
    batch_size=batch_size,
    learning_rate=1e-30,
    final_learning_rate=1e-30,
    steps_per_epoch=steps,
  )
  capacity = 12
  problem = oracle.make_problem()._replace(
    features=64.0 * 2.0 ** np.arange(capacity, dtype=np.float32)[:, None],
    kernel=np.array([[0.0, 1.0]], np.float32),
    bias=np.zeros(2, np.float32),
  )
  _, losses = fit(
    problem,
    np.zeros(capacity, np.int32),
    num_rows=num_rows,
    recipe=recipe,
    seed=seed,
  )
  num_batches = steps or max(1, num_rows // batch_size)
  sums = losses * num_batches * min(batch_size, num_rows) / 64.0
  bits = np.rint(sums).astype(int)
  np.testing.assert_allclose(sums, bits, rtol=1e-5)
  return [
    {row for row in range(capacity) if bit >> row & 1} for bit in bits.tolist()
  ]


class TestFitHead:
  labels = np.arange(40, dtype=np.int32) % 5

  def test_matches_naive_adam_in_one_batch(self):
    problem = oracle.make_problem()
    head, losses = fit(problem, self.labels)
    expected, expected_losses = naive_fit(
      problem.head, problem.features, self.labels, SHORT
    )
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-4)
    for actual, wanted in zip(head, expected, strict=True):
      np.testing.assert_allclose(actual, wanted, atol=2e-4)

  @each("garbage", [0.0, -1e3, 1e30, np.nan])
  def test_padding_rows_never_matter(self, garbage):
    problem = oracle.make_problem()
    recipe = dataclasses.replace(SHORT, batch_size=8)
    for num_rows in (7, 20):
      expected = fit(problem, self.labels, num_rows=num_rows, recipe=recipe)
      features, labels = problem.features.copy(), self.labels.copy()
      features[num_rows:], labels[num_rows:] = garbage, 4
      padded = problem._replace(features=features)
      found = fit(padded, labels, num_rows=num_rows, recipe=recipe)
      jax.tree.map(np.testing.assert_array_equal, found, expected)

  def test_length_of_the_padding_never_matters(self):
    problem = oracle.make_problem()
    recipe = dataclasses.replace(SHORT, batch_size=8)
    shorter = problem._replace(features=problem.features[:25])
    found = fit(shorter, self.labels[:25], num_rows=20, recipe=recipe)
    expected = fit(problem, self.labels, num_rows=20, recipe=recipe)
    jax.tree.map(np.testing.assert_array_equal, found, expected)

  @each("num_rows, num_visited", [(1, 1), (3, 3), (4, 4), (7, 4), (11, 8)])
  def test_last_batch_is_dropped_unless_it_is_the_only_one(
    self, num_rows, num_visited
  ):
    for rows in visits(num_rows, batch_size=4):
      assert len(rows) == num_visited
      assert rows <= set(range(num_rows))

  def test_a_pass_may_go_on_through_several_epochs(self):
    epochs = visits(11, batch_size=4, steps=1)
    for first, second in zip(epochs[::2], epochs[1::2], strict=True):
      assert len(first) == len(second) == 4
      assert not first & second
    assert len({frozenset(rows) for rows in epochs}) > 2

  def test_an_epoch_may_have_several_passes(self):
    """Of the one batch that 7 rows are, each of them five times."""
    problem = oracle.make_problem(pool=40)
    recipe = dataclasses.replace(SHORT, batch_size=8)
    once, often = (
      fit(
        problem,
        self.labels,
        num_rows=7,
        recipe=dataclasses.replace(recipe, steps_per_epoch=steps),
      )[1]
      for steps in (1, 5)
    )
    np.testing.assert_allclose(once[0], often[0], rtol=0.5)
    assert often[-1] < 0.8 * once[-1]

  @each("num_rows, steps", [(7, 1), (40, 5)])
  def test_as_many_steps_as_a_pass_has_are_a_pass(self, num_rows, steps):
    problem = oracle.make_problem(pool=40)
    recipe = dataclasses.replace(SHORT, batch_size=8)
    (found, losses), (expected, expected_losses) = (
      fit(problem, self.labels, num_rows=num_rows, recipe=chosen)
      for chosen in (dataclasses.replace(recipe, steps_per_epoch=steps), recipe)
    )
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-6)

  def test_every_epoch_and_key_has_its_own_order(self):
    epochs = visits(7, batch_size=4)
    assert len({frozenset(rows) for rows in epochs}) > 1
    assert epochs != visits(7, batch_size=4, seed=1)
    assert set.union(*epochs) == set(range(7))

  def test_batch_larger_than_the_array_is_one_batch(self):
    for rows in visits(11, batch_size=500):
      assert rows == set(range(11))

  def test_starts_anew_from_the_given_head(self, key):
    problem = oracle.make_problem()
    start = init_head(key, dim=37, num_classes=5)
    first = fit(problem, self.labels, start=start)
    second = fit(problem, self.labels, start=start)
    jax.tree.map(np.testing.assert_array_equal, first, second)

  def test_compiles_once_while_the_labeled_set_grows(self):
    problem = oracle.make_problem()
    recipe = dataclasses.replace(SHORT, batch_size=8)
    fit(problem, self.labels, num_rows=40, recipe=recipe)
    jitted: Any = fit_head
    before = jitted._cache_size()
    for round_num, num_rows in enumerate((5, 8, 16, 31)):
      fit(
        problem,
        self.labels,
        num_rows=num_rows,
        recipe=recipe,
        seed=round_num,
      )
    assert jitted._cache_size() == before
