"""Tests of decern_jax/training/train_step.py with a loss module."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
import numpy as np
import optax
import pytest

from decern_jax.distributed.sharding import POOL_AXIS, make_mesh
from decern_jax.strategies import learning_loss
from decern_jax.training import finetune
from decern_jax.training.recipe import learning_rates
from tests import networks
from tests.networks import HEAD, NUM_CLASSES, RECIPE
from tests.table import each

# Of the first convolution's channels, and of the features.
STAGE_DIMS = (4, networks.DIM)
MODULE = learning_loss.init(jax.random.key(5), stage_dims=STAGE_DIMS)
BATCHES = networks.draw_batches(8)
# Of 4 epochs with 2 steps each, the last is past 60 %.
NUM_PASSING = 6
LAYERS = ("first", "last")


def stage_apply(variables, images):
  """Computes what a `Backbone` has as `stage_apply`."""
  features, kept = networks.Network(False).apply(
    variables,
    networks.scale(images),
    capture_intermediates=lambda layer, _: layer.name == "first",
    mutable=["intermediates"],
  )
  (first,) = kept["intermediates"]["first"]["__call__"]
  return features, (first.mean(axis=(1, 2)), features)


def make_case() -> networks.Case:
  return networks.Case(LAYERS, use_norm=False)


def create(case, module=MODULE) -> finetune.TrainState:
  return finetune.create(
    case.trained, HEAD, {}, recipe=case.recipe, auxiliary=module
  )


def run(batches, *, in_chunks=False):
  case = make_case()
  state, losses = create(case), []
  for index, batch in enumerate(batches):
    state, loss = case.step(
      state,
      batch,
      apply=stage_apply,
      in_chunks=in_chunks,
      auxiliary=learning_loss.LOSS_MODULE,
    )
    losses.append(float(loss))
    state = state.replace(epoch=state.epoch + index % 2)
  return state, losses


def dense(layer, rows):
  outputs = rows @ layer.kernel
  return outputs + jnp.broadcast_to(layer.bias, outputs.shape)


@functools.partial(jax.value_and_grad, has_aux=True)
def joint_loss(trained, images, labels, passes):
  """The definition, pair by pair."""
  params, head, module = trained
  features, stages = stage_apply({"params": params}, images)
  log_probs = jax.nn.log_softmax(dense(head, features))
  losses = [-log_probs[i, labels[i]] for i in range(len(labels))]
  if not passes:
    stages = jax.lax.stop_gradient(stages)
  hidden = [
    jnp.maximum(dense(layer, stage), 0.0)
    for layer, stage in zip(module.hidden, stages, strict=True)
  ]
  predicted = dense(module.output, jnp.concatenate(hidden, axis=1))[:, 0]
  costs = []
  for i in range(len(labels) // 2):
    j = len(labels) - 1 - i
    sign = jnp.where(losses[i] > losses[j], 1.0, -1.0)
    gap = sign * (predicted[i] - predicted[j])
    costs.append(jnp.maximum(1.0 - gap, 0.0))
  loss = sum(losses) / len(losses)
  return loss + sum(costs) / len(costs), loss


def oracle(batches):
  trained = (make_case().params, HEAD, MODULE)
  opt_state = optax.scale_by_adam().init(trained)
  rates, losses = learning_rates(RECIPE, jnp.arange(RECIPE.num_epochs)), []
  compute = jax.jit(joint_loss, static_argnums=3)
  for index, batch in enumerate(batches):
    (_, loss), gradient = compute(trained, *batch, index < NUM_PASSING)
    losses.append(float(loss))
    with jax.numpy_dtype_promotion("standard"):
      update, opt_state = optax.scale_by_adam().update(gradient, opt_state)
    rate = float(rates[index // 2])
    trained = jax.tree.map(
      lambda value, change, rate=rate: value - rate * change, trained, update
    )
  return trained, losses


def assert_close(actual, expected, tolerance=2e-5) -> None:
  jax.tree.map(
    lambda ours, theirs: np.testing.assert_allclose(
      ours, theirs, rtol=tolerance, atol=tolerance
    ),
    actual,
    expected,
  )


def kernels(module):
  """The weights: the gradients of biases cancel in a pair, up to rounding."""
  return [layer.kernel for layer in (*module.hidden, module.output)]


@pytest.fixture(scope="module")
def trained():
  return run(BATCHES)


class TestTrainStep:
  def test_matches_the_joint_loss_pair_by_pair(self, trained):
    state, losses = trained
    (params, head, module), expected = oracle(BATCHES)
    np.testing.assert_allclose(losses, expected, rtol=1e-4)
    assert_close(state.backbone, dict(params))
    assert_close(state.head, head)
    assert_close(kernels(state.auxiliary), kernels(module), 1e-3)

  def test_tells_the_loss_of_the_examples_alone(self, trained):
    case = make_case()
    _, expected = case.step(case.create(), BATCHES[0])
    np.testing.assert_allclose(trained[1][0], expected, rtol=1e-5)

  @each("epoch", range(RECIPE.num_epochs))
  def test_module_moves_the_backbone_in_60_percent_of_the_epochs(self, epoch):
    """Two modules that disagree; the head's own gradient is the same."""
    case, found = make_case(), []
    for module in (MODULE, jax.tree.map(jnp.negative, MODULE)):
      state = create(case, module).replace(epoch=jnp.int32(epoch))
      state, _ = case.step(
        state,
        BATCHES[0],
        apply=stage_apply,
        auxiliary=learning_loss.LOSS_MODULE,
      )
      # Its first moment is a tenth of the gradient.
      adam, *_ = state.opt_state
      found.append(adam.mu[0]["first"]["kernel"])
      moved = jax.tree.leaves(state.auxiliary)[0]
      assert (np.asarray(moved) != jax.tree.leaves(module)[0]).any()
    is_equal = np.array_equal(*found)
    assert is_equal == (2 * epoch >= NUM_PASSING)

  def test_is_independent_of_shard_count(self, trained):
    rows = NamedSharding(make_mesh(8), PartitionSpec(POOL_AXIS))
    split = [jax.device_put(batch, rows) for batch in BATCHES]
    state, losses = run(split)
    np.testing.assert_allclose(losses, trained[1], rtol=1e-4)
    assert_close(state.backbone, trained[0].backbone)
    modules = state.auxiliary, trained[0].auxiliary
    assert_close(*map(kernels, modules), 1e-3)

  def test_in_chunks_equals_the_whole_batch(self, trained):
    state, losses = run(BATCHES, in_chunks=True)
    np.testing.assert_allclose(losses, trained[1], rtol=1e-4)
    assert_close(state.backbone, trained[0].backbone)

  def test_several_labels_are_ranked_by_their_mean_loss(self):
    """As when each label's class is one of two."""
    case, labels = make_case(), np.zeros((16, NUM_CLASSES), np.int32)
    labels[np.arange(16), BATCHES[0][1]] = 1
    state, loss = case.step(
      create(case),
      (BATCHES[0][0], labels),
      apply=stage_apply,
      auxiliary=learning_loss.LOSS_MODULE,
    )
    features, _ = stage_apply({"params": case.params}, BATCHES[0][0])
    probs = jax.nn.sigmoid(dense(HEAD, features))
    expected = -np.log(np.where(labels, probs, 1.0 - probs)).mean()
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    assert np.isfinite(state.auxiliary.output.kernel).all()


class TestCreate:
  def test_has_nothing_of_a_module_without_one(self):
    state = make_case().create()
    names = {field.name for field in dataclasses.fields(state)}
    assert "auxiliary" not in names
    assert state.auxiliary is None
    assert len(state.trained) == 2
    adam, *_ = state.opt_state
    assert len(adam.mu) == 2

  def test_shares_no_memory_with_the_module(self):
    for leaf in jax.tree.leaves(create(make_case()).auxiliary):
      leaf.delete()
    for leaf in jax.tree.leaves(MODULE):
      assert np.isfinite(leaf).all()
