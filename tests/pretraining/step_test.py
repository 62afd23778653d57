"""Tests of decern_jax/pretraining/step.py, on a narrow ResNet."""

import functools

from flax import traverse_util
import jax
import numpy as np
import pytest

from decern_jax.distributed.sharding import make_mesh, place_pool
from decern_jax.pretraining import step
from tests import tasks
from tests.pretraining import tiny_pretraining as tiny_run
from tests.pretraining.tiny_pretraining import OBJECTIVES, RECIPE
from tests.table import each

each_objective = pytest.mark.parametrize("objective", OBJECTIVES)


def put(views, num_devices):
  return place_pool(views, make_mesh(num_devices))


@functools.cache
def jitted():
  return jax.jit(step.loss_and_gradient, static_argnames=("network", "options"))


def differentiate(objective, num_devices):
  state = tiny_run.create(objective, num_devices=num_devices)
  return jitted()(
    tiny_run.run_key(),
    state,
    put(tiny_run.draw_views(), num_devices),
    network=tiny_run.make_network(objective),
    options=tiny_run.make_options(objective),
  )


def make_step(state, views, objective, *, num_devices=1, recipe=RECIPE):
  return step.pretrain_step(
    tiny_run.run_key(),
    state,
    put(views, num_devices),
    network=tiny_run.make_network(objective),
    options=tiny_run.make_options(objective),
    recipe=recipe,
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
  @each_objective
  def test_is_independent_of_shard_count(self, objective):
    (loss, outcome), gradient = differentiate(objective, 1)
    (other_loss, other_outcome), other = differentiate(objective, 8)
    np.testing.assert_allclose(other_loss, loss, rtol=1e-5)
    assert distance(gradient, other) < 1e-5
    assert distance(outcome, other_outcome) < 1e-5

  @each_objective
  def test_every_parameter_but_a_shift_before_a_norm_has_a_gradient(
    self, objective
  ):
    _, gradient = differentiate(objective, 1)
    flat = traverse_util.flatten_dict(gradient, sep=".")
    still = [path for path, leaf in flat.items() if not np.abs(leaf).max() > 0]
    assert still == []

  @each_objective
  def test_matches_finite_differences(self, objective):
    """Along the gradient of the last layer of the projector."""
    state = tiny_run.create(objective)
    compute = functools.partial(
      jitted(),
      tiny_run.run_key(),
      views=put(tiny_run.draw_views(), 1),
      network=tiny_run.make_network(objective),
      # Of a network that does not follow.
      options=tiny_run.make_options(objective, momentum=1.0),
    )
    (loss, _), gradient = compute(state=state)
    slope = gradient["projector"]["layer2"]["kernel"]
    move = 0.02 * slope / norm(slope)

    def loss_at(sign):
      params = jax.tree.map(lambda leaf: leaf, state.params)
      params["projector"]["layer2"]["kernel"] += sign * move
      return float(compute(state=state.replace(params=params))[0][0])

    found = (loss_at(1.0) - loss_at(-1.0)) / 0.04
    np.testing.assert_allclose(found, norm(slope), rtol=0.02)
    assert np.isfinite(loss)


class TestPretrainStep:
  @each(
    "objective, optimizer",
    [("barlow_twins", "adamw"), ("simclr", "adamw"), ("simclr", "lars")],
  )
  def test_lowers_the_loss_of_a_batch(self, objective, optimizer):
    rate = 3e-3 if optimizer == "adamw" else 0.3
    recipe = RECIPE._replace(
      optimizer=optimizer, warmup_epochs=0, num_epochs=20, learning_rate=rate
    )
    state = step.create(
      jax.random.key(0),
      tiny_run.make_backbone(),
      tiny_run.make_network(objective),
      options=tiny_run.make_options(objective),
      recipe=recipe,
    )
    losses = []
    for _ in range(12):
      state, loss = make_step(
        state, tiny_run.draw_views(), objective, recipe=recipe
      )
      losses.append(float(loss))
    assert np.mean(losses[-3:]) < 0.9 * losses[0]

  @each_objective
  def test_notes_the_mean_loss_of_each_epoch(self, objective):
    state, losses = tiny_run.create(objective), []
    for number in range(5):
      state, loss = make_step(state, tiny_run.draw_views(number), objective)
      losses.append(float(loss))
    expected = [sum(losses[:3]) / 3, sum(losses[3:]) / 3, 0]
    np.testing.assert_allclose(state.losses, expected, rtol=1e-5)
    assert int(state.step) == 5

  def test_compiles_once_and_leaves_the_state_on_every_device(self):
    state = tiny_run.create("moco_v2", num_devices=8)
    views = tiny_run.draw_views()
    state, _ = make_step(state, views, "moco_v2", num_devices=8)
    with tasks.compilations() as compiled:
      for _ in range(2):
        state, _ = make_step(state, views, "moco_v2", num_devices=8)
    assert compiled == []
    assert all(leaf.is_fully_replicated for leaf in jax.tree.leaves(state))


class TestOptimizer:
  @each("optimizer", step.OPTIMIZERS)
  def test_decays_kernels_alone(self, optimizer):
    """With two rates of decay, all but kernels move alike."""
    params = tiny_run.create("simclr").params
    gradient = jax.tree.map(lambda leaf: 0.1 + leaf, params)
    moved = []
    for weight_decay in (0.0, 10.0):
      recipe = RECIPE._replace(optimizer=optimizer, weight_decay=weight_decay)
      made = step._optimizer(recipe)
      with jax.numpy_dtype_promotion("standard"):
        update, _ = made.update(gradient, made.init(params), params)
      moved.append(traverse_util.flatten_dict(update, sep="."))
    for path, leaf in moved[0].items():
      differs = not np.allclose(leaf, moved[1][path], rtol=1e-4, atol=0)
      assert differs == path.endswith("kernel"), path

  @each("optimizer", step.OPTIMIZERS)
  def test_moves_against_the_gradient_by_the_rate_of_the_step(self, optimizer):
    params = {"kernel": np.ones((2, 2), np.float32), "bias": np.ones(2)}
    params = jax.tree.map(lambda leaf: leaf.astype(np.float32), params)
    recipe = RECIPE._replace(optimizer=optimizer, weight_decay=0.0)
    made = step._optimizer(recipe)
    state, sizes = made.init(params), []
    for _ in range(2):
      with jax.numpy_dtype_promotion("standard"):
        update, state = made.update(params, state, params)
      assert all((leaf < 0).all() for leaf in jax.tree.leaves(update))
      sizes.append(float(-update["bias"][0]))
    rates = [float(step.learning_rate(recipe, n)) for n in (0, 1)]
    # LARS adds 0.9 of the move before.
    momentum = 0.9 * rates[0] if optimizer == "lars" else 0.0
    np.testing.assert_allclose(
      sizes, [rates[0], rates[1] + momentum], rtol=1e-4
    )


class TestCreate:
  def test_shares_no_array_with_the_backbone(self):
    backbone = tiny_run.make_backbone()
    state = tiny_run.create("moco_v2")
    make_step(state, tiny_run.draw_views(), "moco_v2")
    for leaf in jax.tree.leaves(backbone.variables):
      assert np.isfinite(np.asarray(leaf)).all()

  def test_queue_has_keys_of_length_one(self):
    queue = tiny_run.create("moco_v2").momentum["queue"]
    np.testing.assert_allclose(np.linalg.norm(queue, axis=1), 1, rtol=1e-5)

  @each("objective", ["simclr", "barlow_twins"])
  def test_only_moco_has_a_second_network(self, objective):
    assert tiny_run.create(objective).momentum == {}


class TestLearningRate:
  def rates(self, **changes):
    recipe = RECIPE._replace(
      **{"num_epochs": 10, "warmup_epochs": 2, "learning_rate": 2.0, **changes}
    )
    steps = np.arange(recipe.num_steps)
    return np.array([float(step.learning_rate(recipe, n)) for n in steps])

  def test_rises_to_the_peak_and_falls_to_zero(self):
    rates = self.rates()
    np.testing.assert_allclose(rates[:6], np.arange(1, 7) / 3, rtol=1e-6)
    assert (np.diff(rates[6:]) < 0).all()
    assert 0 < rates[-1] < 0.02

  def test_is_half_the_peak_in_the_middle_of_the_decay(self):
    np.testing.assert_allclose(self.rates()[6 + 12], 1.0, rtol=1e-6)

  def test_starts_at_the_peak_without_a_warm_up(self):
    np.testing.assert_allclose(self.rates(warmup_epochs=0)[0], 2.0)

  def test_may_be_all_warm_up(self):
    rates = self.rates(warmup_epochs=10)
    np.testing.assert_allclose(rates, np.arange(1, 31) / 15, rtol=1e-6)
