"""Tests of decern_jax/training/finetune.py: steps with a loss module."""

import functools

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
import numpy as np
import pytest

from decern_jax.distributed.sharding import POOL_AXIS, make_mesh
from decern_jax.strategies import learning_loss
from decern_jax.training import finetune
from decern_jax.training.recipe import learning_rates
from tests import networks
from tests.networks import HEAD, NUM_CLASSES, RECIPE, assert_close
from tests.table import each

MODULE = learning_loss.init(jax.random.key(5), stage_dims=networks.STAGE_DIMS)
BATCHES = networks.draw_batches(8)
# Of 4 epochs with 2 steps each, the last is past 60 %.
NUM_PASSING = 6
LAYERS = ("first", "last")


stage_apply = networks.make_backbone(use_norm=False).stage_apply


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
  """The definition: the first example is paired with the last, and so on."""
  params, head, module = trained
  features, stages = stage_apply({"params": params}, images)
  log_probs = jax.nn.log_softmax(dense(head, features))
  losses = -log_probs[np.arange(len(labels)), labels]
  if not passes:
    stages = jax.lax.stop_gradient(stages)
  hidden = [
    jnp.maximum(dense(layer, stage), 0.0)
    for layer, stage in zip(module.hidden, stages, strict=True)
  ]
  predicted = dense(module.output, jnp.concatenate(hidden, axis=1))[:, 0]
  first = np.arange(len(labels) // 2)
  last = len(labels) - 1 - first
  signs = jnp.where(losses[first] > losses[last], 1.0, -1.0)
  gaps = signs * (predicted[first] - predicted[last])
  loss = losses.mean()
  return loss + jnp.maximum(1.0 - gaps, 0.0).mean(), loss


def oracle(batches):
  trained = jax.tree.map(np.asarray, (make_case().params, HEAD, MODULE))
  adam = networks.NaiveAdam(trained)
  rates, losses = learning_rates(RECIPE, jnp.arange(RECIPE.num_epochs)), []
  compute = jax.jit(joint_loss, static_argnums=3)
  for index, batch in enumerate(batches):
    (_, loss), gradient = compute(adam.params, *batch, index < NUM_PASSING)
    losses.append(float(loss))
    adam.step(gradient, float(rates[index // 2]))
  return adam.params, losses


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
    assert_close(state.backbone, dict(params), 2e-5)
    assert_close(state.head, head, 2e-5)
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
    assert_close(state.backbone, trained[0].backbone, 2e-5)
    found, expected = map(kernels, (state.auxiliary, trained[0].auxiliary))
    assert_close(found, expected, 1e-3)

  def test_in_chunks_equals_the_whole_batch(self, trained):
    state, losses = run(BATCHES, in_chunks=True)
    np.testing.assert_allclose(losses, trained[1], rtol=1e-4)
    assert_close(state.backbone, trained[0].backbone, 2e-5)

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
    features, _ = jax.jit(stage_apply)({"params": case.params}, BATCHES[0][0])
    kernel, bias = np.asarray(HEAD.kernel), np.asarray(HEAD.bias)
    outputs = np.asarray(features) @ kernel + bias
    probs = 1.0 / (1.0 + np.exp(-outputs))
    expected = -np.log(np.where(labels, probs, 1.0 - probs)).mean()
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    assert np.isfinite(state.auxiliary.output.kernel).all()


class TestCreate:
  def test_has_nothing_of_a_module_without_one(self):
    state = make_case().create()
    assert state.auxiliary == {}
    adam, *_ = state.opt_state
    assert jax.tree.leaves((adam.mu[2], adam.nu[2])) == []

  def test_shares_no_memory_with_the_module(self):
    for leaf in jax.tree.leaves(create(make_case()).auxiliary):
      leaf.delete()
    for leaf in jax.tree.leaves(MODULE):
      assert np.isfinite(leaf).all()
