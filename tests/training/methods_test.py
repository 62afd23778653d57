"""Runs whose heads are fitted by `train.method` logistic and propagation."""

from dataclasses import replace
import functools

import jax
import numpy as np
import pytest

from decern_jax.distributed.sharding import make_mesh
from decern_jax.runs.round import draw_first_state
from decern_jax.strategies import learning_loss
from decern_jax.training import learner, rounds
from tests import tasks
from tests.table import each

METHODS = ("logistic", "propagation")


@functools.cache
def run(method: str, num_devices: int = 8):
  """The states before each round and after the last, and the records."""
  task = tasks.make_task(num_rounds=3)
  return tasks.run(task, tasks.make_parts(num_devices), "margin", method=method)


class TestRun:
  @each("method", METHODS)
  def test_learns(self, method):
    records = run(method)[1]
    accuracy = [record["test"]["accuracy"] for record in records]
    assert accuracy[-1] > 0.9
    assert accuracy[-1] >= accuracy[0] > 1 / tasks.NUM_CLASSES
    assert [len(record["train"]["epoch_losses"]) for record in records] == [
      1
    ] * 3

  def test_methods_differ(self):
    losses = {run(method)[1][0]["test"]["loss"] for method in METHODS}
    losses.add(
      tasks.run(tasks.make_task(num_rounds=1), tasks.make_parts())[1][0][
        "test"
      ]["loss"]
    )
    assert len(losses) == 3

  @each("method", METHODS)
  def test_goes_on_from_a_restored_state_to_the_bit(self, method):
    states, records = run(method)
    restored = rounds.make_state(1, np.array(states[1].labeled_at))
    advance = tasks.make_advance(
      tasks.make_task(num_rounds=3), tasks.make_parts(), "margin", method=method
    )
    for number in (1, 2):
      restored, record = advance(restored)
      expected = tasks.without_seconds([records[number]])
      assert tasks.without_seconds([record]) == expected

  @each("method", METHODS)
  def test_selects_the_same_on_one_device(self, method):
    for ours, theirs in zip(run(method, 1)[1], run(method)[1], strict=True):
      assert ours["selected"] == theirs["selected"]
      assert ours["test"]["accuracy"] == theirs["test"]["accuracy"]
      assert ours["test"]["loss"] == pytest.approx(
        theirs["test"]["loss"], rel=1e-3
      )


class TestFit:
  @each("method", METHODS)
  def test_several_labels(self, method):
    parts = tasks.make_parts()
    labels = np.asarray(parts["train"].labels)[: tasks.POOL]
    several = np.eye(tasks.NUM_CLASSES, dtype=np.int32)[labels]
    train = learner.place(
      np.asarray(parts["train"].features)[: tasks.POOL],
      tasks.make_split("train", several),
      make_mesh(8),
    )
    task = tasks.make_task(initial_budget=20)
    made = tasks.make_learner(task, {**parts, "train": train}, method=method)
    head = made.fit(draw_first_state(task, seed=1)).head
    kernel, bias = (np.asarray(array) for array in head)
    features, expected = tasks.draw(tasks.NUM_TEST, 7)
    probs = np.asarray(jax.nn.sigmoid(features @ kernel + bias[None]))
    assert np.mean(probs.argmax(axis=1) == expected) > 0.8
    assert np.mean((probs > 0.5) == np.eye(tasks.NUM_CLASSES)[expected]) > 0.8

  def test_head_is_the_same_with_an_auxiliary_module(self):
    task, parts = tasks.make_task(), tasks.make_parts()
    state = draw_first_state(task, seed=1)
    expected = tasks.make_learner(task, parts, method="logistic").fit(state)
    module = learning_loss.LOSS_MODULE
    found = tasks.make_learner(
      task, parts, method="logistic", auxiliary=module
    ).fit(state)
    assert found.auxiliary is not None
    for ours, theirs in zip(found.head, expected.head, strict=True):
      np.testing.assert_array_equal(ours, theirs)

  def test_labels_of_the_unlabeled_are_not_read(self):
    task, parts = tasks.make_task(), tasks.make_parts()
    state = draw_first_state(task, seed=1)
    labels = np.array(parts["train"].labels)
    labels[: tasks.POOL][~state.labeled] = 0
    changed = replace(
      parts["train"],
      labels=jax.device_put(labels, parts["train"].labels.sharding),
    )
    heads = [
      tasks.make_learner(task, {**parts, "train": train}, method="propagation")
      .fit(state)
      .head
      for train in (parts["train"], changed)
    ]
    for ours, theirs in zip(*heads, strict=True):
      np.testing.assert_array_equal(ours, theirs)
