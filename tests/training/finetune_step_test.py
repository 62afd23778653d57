"""Tests of decern_jax/training/finetune.py: the step."""

import functools

from flax import traverse_util
import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
import numpy as np

from decern_jax.distributed.sharding import POOL_AXIS, make_mesh
from decern_jax.training import finetune
from decern_jax.training.recipe import learning_rates
from tests import networks
from tests.networks import HEAD, NUM_CLASSES, RECIPE, Case, assert_close
from tests.table import each

BATCHES = networks.draw_batches(6)

MASKS = {
  "none": (),
  "last": ("last",),
  "normalisation": ("norm",),
  "all": ("first", "norm", "last"),
}


def oracle(case: Case, batches, *, use_batch_statistics: bool):
  """Full gradients, Adam on all, and then the fixed ones put back."""
  adam = networks.NaiveAdam(
    jax.tree.map(np.asarray, (dict(case.params), tuple(HEAD)))
  )
  stats = case.variables.get("batch_stats", {})
  rates = learning_rates(case.recipe, jnp.arange(case.recipe.num_epochs))
  losses = []
  compute_gradient = full_gradient(case.use_norm, use_batch_statistics)
  for index, (images, labels) in enumerate(batches):
    (loss, stats), gradient = compute_gradient(
      adam.params, stats, images, labels
    )
    adam.step(gradient, float(rates[index // 2]))
    moved, head = adam.params
    params = jax.tree.map(
      lambda trains, new, old: new if trains else np.asarray(old),
      case.mask,
      moved,
      dict(case.params),
    )
    adam.params = params, head
    losses.append(float(loss))
  return *adam.params, stats, losses


@functools.cache
def full_gradient(use_norm: bool, use_batch_statistics: bool):
  """Returns one program for all masks."""

  @jax.jit
  @functools.partial(jax.value_and_grad, has_aux=True)
  def compute(everything, stats, images, labels):
    params, (kernel, bias) = everything
    features, updated = networks.Network(use_norm).apply(
      {"params": params, "batch_stats": stats},
      networks.scale(images),
      train=use_batch_statistics,
      mutable=["batch_stats"] if use_batch_statistics else [],
    )
    logits = features @ kernel + jnp.broadcast_to(
      bias, (len(labels), NUM_CLASSES)
    )
    picked = jax.nn.log_softmax(logits)[np.arange(len(labels)), labels]
    return -picked.mean(), updated.get("batch_stats", stats)

  return compute


def paths(tree) -> set[tuple[str, ...]]:
  return set(traverse_util.flatten_dict(tree))


class TestPartition:
  @each("name", MASKS)
  def test_splits_by_the_mask(self, name):
    case = Case(MASKS[name])
    assert {path[0] for path in paths(case.trained)} == set(MASKS[name])
    assert not paths(case.trained) & paths(case.fixed)
    assert paths(case.trained) | paths(case.fixed) == paths(case.params)

  def test_splits_a_layer_by_its_parameters(self):
    params = {"a": {"b": {"kernel": 1, "bias": 2}, "c": {"kernel": 3}}}
    mask = {"a": {"b": {"kernel": False, "bias": True}, "c": {"kernel": False}}}
    inside, outside = finetune.partition(params, mask)
    assert inside == {"a": {"b": {"bias": 2}}}
    assert outside == {"a": {"b": {"kernel": 1}, "c": {"kernel": 3}}}


class TestMerge:
  @each("name", MASKS)
  def test_is_the_inverse_of_partition(self, name):
    case = Case(MASKS[name])
    for parts in (case.trained, case.fixed), (case.fixed, case.trained):
      merged = finetune.merge(*parts)
      assert paths(merged) == paths(case.params)
      jax.tree.map(np.testing.assert_array_equal, merged, dict(case.params))


class TestCreate:
  @each("name", MASKS)
  def test_moments_have_the_structure_of_what_trains(self, name):
    case = Case(MASKS[name])
    adam, *_ = case.create().opt_state
    shapes = jax.tree.map(np.shape, (case.trained, HEAD, {}))
    assert jax.tree.map(np.shape, adam.mu) == shapes
    assert jax.tree.map(np.shape, adam.nu) == shapes

  def test_nothing_else_of_the_optimiser_is_an_array_of_size(self):
    opt_state = Case().create().opt_state
    num_moments = 2 * len(jax.tree.leaves((Case().trained, HEAD)))
    leaves = jax.tree.leaves(opt_state)
    assert sum(np.ndim(leaf) > 0 for leaf in leaves) == num_moments

  def test_starts_before_the_first_epoch(self):
    state = Case().create()
    assert int(state.epoch) == 0
    assert state.losses.dtype == np.float32
    np.testing.assert_array_equal(state.losses, np.zeros(RECIPE.num_epochs))

  def test_shares_no_memory_with_its_arguments(self):
    case = Case(MASKS["all"])
    state = case.create()
    for leaf in jax.tree.leaves(state):
      leaf.delete()
    for leaf in jax.tree.leaves((case.variables, HEAD)):
      assert np.isfinite(leaf).all()


class TestTrainStep:
  @each(
    "name, use_batch_statistics",
    [
      ("none", True),
      ("last", False),
      ("normalisation", True),
      ("all", True),
      ("all", False),
    ],
  )
  def test_matches_adam_on_all_parameters_with_fixed_ones_put_back(
    self, name, use_batch_statistics
  ):
    case = Case(MASKS[name])
    state, losses = case.run(BATCHES, use_batch_statistics=use_batch_statistics)
    params, head, stats, expected = oracle(
      case, BATCHES, use_batch_statistics=use_batch_statistics
    )
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    assert_close(finetune.merge(state.backbone, case.fixed), dict(params))
    assert_close(tuple(state.head), head)
    assert_close(state.batch_stats, stats)

  def test_matches_adam_without_normalisation(self):
    case = Case(use_norm=False)
    state, losses = case.run(BATCHES)
    params, head, _, expected = oracle(
      case, BATCHES, use_batch_statistics=False
    )
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    assert_close(finetune.merge(state.backbone, case.fixed), dict(params))
    assert_close(tuple(state.head), head)
    assert state.batch_stats == {}

  def test_all_that_trains_moves(self):
    case = Case(MASKS["normalisation"])
    state, _ = case.run(BATCHES[:1])
    before = (case.trained, HEAD, case.variables["batch_stats"])
    after = (state.backbone, state.head, state.batch_stats)
    for ours, theirs in zip(
      jax.tree.leaves(after), jax.tree.leaves(before), strict=True
    ):
      assert (np.asarray(ours) != np.asarray(theirs)).any()

  def test_first_update_is_the_rate_of_its_epoch(self):
    """Adam's first step has the length of its rate in every coordinate."""
    rates = np.asarray(learning_rates(RECIPE, jnp.arange(RECIPE.num_epochs)))
    assert len(set(rates.tolist())) == RECIPE.num_epochs
    for epoch, rate in enumerate(rates):
      state = Case().create().replace(epoch=jnp.asarray(epoch, jnp.int32))
      state, _ = Case().step(state, BATCHES[0])
      moved = np.abs(np.asarray(state.head.bias) - np.asarray(HEAD.bias))
      np.testing.assert_allclose(moved, rate, rtol=1e-3)

  def test_losses_are_the_means_of_epochs(self):
    state, losses = Case().run(BATCHES)
    expected = [*np.reshape(losses, (3, 2)).mean(axis=1), 0.0]
    np.testing.assert_allclose(state.losses, expected, rtol=1e-6)

  def test_running_statistics_stay_with_apply(self):
    case = Case()
    state, _ = case.run(BATCHES, use_batch_statistics=False)
    jax.tree.map(
      np.testing.assert_array_equal,
      state.batch_stats,
      dict(case.variables["batch_stats"]),
    )

  def test_donates_the_state_and_nothing_else(self):
    case = Case()
    state = case.create()
    case.step(state, BATCHES[0])
    assert state.head.kernel.is_deleted()
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state.backbone))
    for leaf in jax.tree.leaves((case.variables, case.fixed, HEAD)):
      assert np.isfinite(leaf).all()

  def test_is_independent_of_shard_count(self):
    """The shards differ in brightness: their own statistics would show."""
    case = Case(MASKS["all"])
    expected, losses = case.run(BATCHES)
    rows = NamedSharding(make_mesh(8), PartitionSpec(POOL_AXIS))
    split = [jax.device_put(batch, rows) for batch in BATCHES]
    actual, split_losses = case.run(split)
    np.testing.assert_allclose(split_losses, losses, rtol=1e-5)
    for name in ("backbone", "head", "batch_stats", "losses"):
      assert_close(getattr(actual, name), getattr(expected, name))

  def test_shards_have_statistics_of_their_own(self):
    """What the test before would otherwise not notice."""
    case = Case()
    apply = jax.jit(networks.make_train_apply(use_norm=True))
    images = BATCHES[0][0]
    whole = apply(case.variables, images)[1]["norm"]["var"]
    shards = [
      apply(case.variables, shard)[1]["norm"]["var"]
      for shard in np.split(images, 8)
    ]
    assert np.abs(np.mean(shards, axis=0) - np.asarray(whole)).max() > 1e-2

  def test_in_chunks_equals_the_whole_batch(self):
    """Also where the last chunk is not full."""
    case = Case(MASKS["all"])
    batches = networks.draw_batches(4, size=7)
    run = functools.partial(case.run, batches, use_batch_statistics=False)
    expected, losses = run(in_chunks=False)
    actual, chunk_losses = run(in_chunks=True)
    np.testing.assert_allclose(chunk_losses, losses, rtol=1e-5)
    assert_close(actual.backbone, expected.backbone)
    assert_close(actual.head, expected.head)

  def test_shows_the_network_an_image_at_a_time_in_chunks(self):
    """The images of a chunk are an axis that the network does not see."""
    seen = []

    def apply(variables, images):
      seen.append(len(images))
      return networks.make_apply(use_norm=False)(variables, images)

    case = Case(use_norm=False)
    case.step(case.create(), BATCHES[0], apply=apply, in_chunks=True)
    assert set(seen) == {1}

  @each("name", MASKS)
  def test_keeps_structure_shapes_and_types(self, name):
    """A saved state is restored into the one before the first epoch."""
    case = Case(MASKS[name])
    expected = jax.eval_shape(case.create)
    found, _ = case.step(case.create(), BATCHES[0])
    shapes = jax.eval_shape(lambda: found)
    assert jax.tree.structure(shapes) == jax.tree.structure(expected)
    assert jax.tree.leaves(shapes) == jax.tree.leaves(expected)

  def test_is_traced_once_for_all_epochs(self):
    traces = []

    def apply(variables, images):
      traces.append(len(images))
      return networks.make_apply(use_norm=False)(variables, images)

    Case(use_norm=False).run(BATCHES, apply=apply)
    assert traces == [16]
