"""Tests of decern_jax/training/auxiliary.py, with the loss module."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from decern_jax.distributed.sharding import make_mesh
from decern_jax.strategies import learning_loss
from decern_jax.training import auxiliary, learner, rounds
from decern_jax.training.head import fit_head
from tests import oracle, tasks
from tests.table import each

RECIPE = dataclasses.replace(tasks.RECIPE, num_epochs=40)


predict = functools.partial(auxiliary.predict_pool, learning_loss.LOSS_MODULE)


class TestFitWithHead:
  labels = np.arange(40, dtype=np.int32) % 5

  def fit(self, num_rows: int, labels, *, garbage: float = 0.0):
    problem = oracle.make_problem()
    features = problem.features.copy()
    features[num_rows:] = garbage
    module = learning_loss.init(jax.random.key(3), stage_dims=(37,))
    arguments = (
      features,
      jnp.asarray(labels),
      jnp.asarray(num_rows),
    )
    key, recipe = jax.random.key(0), RECIPE
    alone = fit_head(key, problem.head, *arguments, recipe=recipe)
    both = auxiliary.fit_with_head(
      key,
      problem.head,
      module,
      *arguments,
      auxiliary=learning_loss.LOSS_MODULE,
      recipe=recipe,
    )
    return module, alone, both

  @each("num_rows", [7, 40])
  def test_head_and_losses_are_those_without_a_module(self, num_rows):
    _, (head, losses), ((with_module, _), told) = self.fit(
      num_rows, self.labels
    )
    jax.tree.map(np.testing.assert_array_equal, with_module, head)
    np.testing.assert_array_equal(told, losses)

  def test_head_of_several_labels_is_too(self):
    labels = np.random.default_rng(0).integers(0, 2, (40, 5), np.int32)
    _, (head, _), ((with_module, _), _) = self.fit(40, labels)
    jax.tree.map(np.testing.assert_array_equal, with_module, head)

  def test_padding_rows_never_matter(self):
    found = self.fit(7, self.labels, garbage=np.nan)
    expected = self.fit(7, self.labels)
    jax.tree.map(np.testing.assert_array_equal, found, expected)

  def test_every_layer_of_the_module_moves(self):
    start, _, ((_, module), _) = self.fit(40, self.labels)
    # A shift of all predictions changes no pair: the last bias stays.
    for ours, theirs in zip(
      jax.tree.leaves(module)[:-1], jax.tree.leaves(start)[:-1], strict=True
    ):
      assert (np.asarray(ours) != np.asarray(theirs)).any()

  def test_learns_which_losses_are_larger(self):
    """The classes are noise to the head, but for the first coordinate."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(40, 37)).astype(np.float32)
    features[:, 1:] *= 0.1
    hard = features[:, 0] > 0.0
    labels = np.where(hard, rng.integers(0, 5, 40), 0).astype(np.int32)
    (_, module), _ = auxiliary.fit_with_head(
      jax.random.key(2),
      oracle.make_problem().head,
      learning_loss.init(jax.random.key(1), stage_dims=(37,)),
      features,
      jnp.asarray(labels),
      jnp.asarray(40),
      auxiliary=learning_loss.LOSS_MODULE,
      recipe=RECIPE,
    )
    predicted = np.asarray(predict(module, features))
    assert predicted[hard].mean() > predicted[~hard].mean() + 0.5


class TestPredictPool:
  def test_reads_a_pool_on_the_host_in_blocks(self, key):
    rows, labels = tasks.draw(tasks.POOL, 1)
    split = tasks.make_split("train", labels)
    module = learning_loss.init(key, stage_dims=(tasks.DIM,))
    expected = oracle.predicted_losses(module, (rows,))
    for num_devices in (1, 8):
      for on_host in (False, True):
        part = learner.place(
          rows, split, make_mesh(num_devices), on_host=on_host
        )
        found = predict(module, part.features)
        assert len(found.sharding.device_set) == num_devices
        np.testing.assert_allclose(
          found[: tasks.POOL], expected, rtol=1e-4, atol=1e-5
        )


@functools.cache
def run(strategy: str, num_devices: int = 8) -> list[dict]:
  task, splits = tasks.make_task(num_rounds=2), tasks.make_parts(num_devices)
  return tasks.run(task, splits, strategy)[1]


class TestRun:
  """Whole runs on frozen features."""

  def test_models_are_those_of_other_strategies(self):
    """Of the first round, whose labels are the same."""
    expected, found = run("random"), run("learning_loss")
    for name in ("train", "test"):
      assert found[0][name] == expected[0][name]
    assert len(found[0]["scores"]) == tasks.BUDGET

  @each("strategy", ["learning_loss", "learning_loss_clustered"])
  def test_selects_the_same_on_one_device(self, strategy):
    for ours, theirs in zip(run(strategy, 1), run(strategy), strict=True):
      assert ours["selected"] == theirs["selected"]

  def test_module_starts_anew_from_the_seed(self, monkeypatch):
    started = []

    def fit(key, head, params, *arguments, **options):
      started.append(np.asarray(params.hidden[0].kernel))
      return (head, params), np.zeros(1)

    monkeypatch.setattr(auxiliary, "fit_with_head", fit)
    task, parts = tasks.make_task(), tasks.make_parts(1)
    labeled_at = np.where(np.arange(tasks.POOL) < 9, 0, rounds.NOT_LABELED)
    for seed, round_num in ((1, 0), (1, 3), (2, 0)):
      tasks.make_learner(
        task, parts, seed=seed, auxiliary=learning_loss.LOSS_MODULE
      ).fit(rounds.make_state(round_num, labeled_at))
    np.testing.assert_array_equal(started[1], started[0])
    assert (started[2] != started[0]).all()
