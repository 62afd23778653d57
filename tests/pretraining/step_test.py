"""Tests of decern_jax/pretraining/step.py, on a tiny network."""

import functools

from flax import traverse_util
import jax
import numpy as np

from decern_jax.distributed.sharding import make_mesh, place_pool
from decern_jax.pretraining import step
from tests import tasks
from tests.pretraining import tiny_pretraining as tiny_run
from tests.pretraining.tiny_pretraining import (
  OBJECTIVES,
  RECIPE,
  STEPS_OF_EPOCH,
)
from tests.table import each


def put(views, num_devices):
  return place_pool(views, make_mesh(num_devices))


jitted = jax.jit(step.loss_and_gradient, static_argnames=("network", "options"))


@functools.cache
def differentiate(objective, num_devices=1):
  state = tiny_run.create(objective, num_devices=num_devices)
  return jitted(
    tiny_run.run_key(),
    state,
    put(tiny_run.draw_views(), num_devices),
    network=tiny_run.make_network(objective),
    options=tiny_run.make_options(objective),
  )


def make_step(state, views, objective, *, num_devices=1):
  return step.pretrain_step(
    tiny_run.run_key(),
    state,
    put(views, num_devices),
    network=tiny_run.make_network(objective),
    options=tiny_run.make_options(objective),
    recipe=RECIPE,
    mesh=make_mesh(num_devices),
  )


def norm(tree) -> float:
  squares = [
    np.sum(np.asarray(leaf, float) ** 2) for leaf in jax.tree.leaves(tree)
  ]
  return float(np.sqrt(sum(squares)))


def distance(first, second) -> float:
  """Length of the difference, relative to that of the first."""
  difference = jax.tree.map(
    lambda a, b: np.asarray(a, float) - np.asarray(b, float), first, second
  )
  return norm(difference) / norm(first)


class TestLossAndGradient:
  @each("objective", OBJECTIVES)
  def test_is_independent_of_shard_count(self, objective):
    (loss, outcome), gradient = differentiate(objective)
    (other_loss, other_outcome), other = differentiate(objective, 8)
    np.testing.assert_allclose(other_loss, loss, rtol=1e-5)
    assert distance(gradient, other) < 1e-4
    assert distance(outcome, other_outcome) < 1e-5

  @each("objective", OBJECTIVES)
  def test_every_parameter_has_a_gradient(self, objective):
    _, gradient = differentiate(objective)
    flat = traverse_util.flatten_dict(gradient, sep=".")
    still = [
      path
      for path, leaf in flat.items()
      if not np.abs(np.asarray(leaf)).max() > 0
    ]
    assert still == []

  @each("objective", OBJECTIVES)
  def test_matches_finite_differences(self, objective):
    """Along the gradient of the last layer of the projector."""
    state = tiny_run.create(objective)
    (loss, _), gradient = differentiate(objective)
    slope = gradient["projector"]["layer2"]["kernel"]
    move = np.asarray(0.02 * slope / norm(slope))

    def loss_at(sign):
      params = jax.tree.map(np.asarray, state.params)
      kernel = params["projector"]["layer2"]["kernel"]
      params["projector"]["layer2"]["kernel"] = kernel + sign * move
      momentum = state.momentum
      if momentum:
        # So far along that the keys stay: they follow by a tenth.
        slow = jax.tree.map(np.asarray, momentum["params"])
        kernel = slow["projector"]["layer2"]["kernel"]
        slow["projector"]["layer2"]["kernel"] = kernel - sign * move / 9.0
        momentum = {**momentum, "params": slow}
      moved = state.replace(params=params, momentum=momentum)
      (found, _), _ = jitted(
        tiny_run.run_key(),
        moved,
        put(tiny_run.draw_views(), 1),
        network=tiny_run.make_network(objective),
        options=tiny_run.make_options(objective),
      )
      return float(found)

    found = (loss_at(1.0) - loss_at(-1.0)) / 0.04
    np.testing.assert_allclose(found, norm(slope), rtol=0.02)
    assert np.isfinite(loss)


class TestPretrainStep:
  @each("objective", ["barlow_twins", "simclr"])
  def test_lowers_the_loss_of_a_batch(self, objective):
    state, losses = tiny_run.create(objective), []
    for _ in range(20):
      # At the peak of the learning rate.
      state = state.replace(step=np.int32(STEPS_OF_EPOCH))
      state, loss = make_step(state, tiny_run.draw_views(), objective)
      losses.append(float(loss))
    assert np.mean(losses[-3:]) < 0.9 * losses[0]

  def test_notes_the_mean_loss_of_each_epoch(self):
    state, losses = tiny_run.create("moco_v2"), []
    for number in range(3):
      state, loss = make_step(state, tiny_run.draw_views(number), "moco_v2")
      losses.append(float(loss))
    expected = [sum(losses[:2]) / 2, losses[2] / 2]
    np.testing.assert_allclose(state.losses, expected, rtol=1e-5)
    assert int(state.step) == 3

  def test_moves_by_the_rate_of_the_step(self):
    """Adam's first step is as long as its rate in each coordinate."""
    for number, rate in ((0, 1.5e-3), (1, 3e-3), (2, 3e-3), (3, 1.5e-3)):
      before = tiny_run.create("moco_v2").replace(step=np.int32(number))
      bias = np.asarray(before.params["projector"]["layer2"]["bias"])
      after, _ = make_step(before, tiny_run.draw_views(), "moco_v2")
      moved = np.abs(after.params["projector"]["layer2"]["bias"] - bias)
      np.testing.assert_allclose(moved.max(), rate, rtol=1e-3)

  def test_compiles_once_and_leaves_the_state_on_every_device(self):
    state = tiny_run.create("moco_v2", num_devices=8)
    views = tiny_run.draw_views()
    state, _ = make_step(state, views, "moco_v2", num_devices=8)
    with tasks.compilations() as compiled:
      for _ in range(2):
        state, _ = make_step(state, views, "moco_v2", num_devices=8)
    assert compiled == []
    assert all(leaf.is_fully_replicated for leaf in jax.tree.leaves(state))


class TestCreate:
  def test_shares_no_array_with_the_backbone(self):
    backbone = tiny_run.make_backbone()
    make_step(tiny_run.create("moco_v2"), tiny_run.draw_views(), "moco_v2")
    for leaf in jax.tree.leaves(backbone.variables):
      assert np.isfinite(np.asarray(leaf)).all()

  def test_queue_has_keys_of_length_one(self):
    queue = tiny_run.create("moco_v2").momentum["queue"]
    np.testing.assert_allclose(np.linalg.norm(queue, axis=1), 1, rtol=1e-5)

  @each("objective", ["simclr", "barlow_twins"])
  def test_only_moco_has_a_second_network(self, objective):
    assert tiny_run.create(objective).momentum == {}
