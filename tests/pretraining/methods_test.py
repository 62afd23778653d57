"""Tests of decern_jax/pretraining/methods.py, on a tiny network."""

from dataclasses import replace
import functools

import jax
import jax.numpy as jnp
import numpy as np

from decern_jax.pretraining import methods
from decern_jax.pretraining.methods import Projector
from tests.pretraining import naive
from tests.pretraining import tiny_pretraining as tiny_run
from tests.pretraining.tiny_pretraining import BATCH, OBJECTIVES
from tests.table import each

SAME = 1e-5


def make_inputs(objective, *, step=0, views=None, use_norm=True):
  state = tiny_run.create(objective, use_norm)
  return state.params, methods.Inputs(
    views=jnp.asarray(tiny_run.draw_views() if views is None else views),
    batch_stats=state.batch_stats,
    momentum=state.momentum,
    step=jnp.asarray(step, jnp.int32),
    key=jax.random.key(0),
  )


@functools.cache
def jitted(function, *static):
  return jax.jit(function, static_argnames=static)


def compute(objective, params, inputs, *, use_norm=True, **changes):
  return jitted(methods.METHODS[objective], "network", "options")(
    params,
    inputs,
    network=tiny_run.make_network(objective, use_norm),
    options=tiny_run.make_options(objective, **changes),
  )


def encode(objective, params, inputs, images, *, use_norm=True):
  network = tiny_run.make_network(objective, use_norm)
  batch_stats = inputs.batch_stats
  return jitted(methods.encode, "network")(
    params=params, batch_stats=batch_stats, images=images, network=network
  )


ROWS = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)


def project(projector, params):
  apply = jax.jit(functools.partial(projector.apply, mutable=["batch_stats"]))
  return np.asarray(apply({"params": params}, ROWS)[0])


def init_projector(projector, key):
  return jax.jit(projector.init)(key, ROWS)["params"]


class TestProjector:
  def test_matches_numpy_with_normalization(self, key):
    projector = Projector((5, 3), use_norm=True)
    params = jax.tree.map(np.asarray, init_projector(projector, key))
    hidden = ROWS @ params["layer1"]["kernel"]
    hidden = (hidden - hidden.mean(0)) / np.sqrt(hidden.var(0) + 1e-5)
    expected = np.maximum(hidden, 0) @ params["layer2"]["kernel"]
    np.testing.assert_allclose(
      project(projector, params), expected, rtol=1e-4, atol=1e-5
    )

  def test_matches_numpy_without(self, key):
    projector = Projector((5, 3), use_norm=False)
    params = init_projector(projector, key)
    params = jax.tree.map(lambda leaf: np.asarray(leaf) + 0.1, params)
    first, second = params["layer1"], params["layer2"]
    hidden = np.maximum(ROWS @ first["kernel"] + first["bias"], 0)
    expected = hidden @ np.asarray(second["kernel"]) + second["bias"]
    np.testing.assert_allclose(project(projector, params), expected, rtol=1e-4)

  @each(
    "widths, use_norm, names",
    [
      ((7,), True, {"layer1"}),
      ((7, 7, 7), True, {"layer1", "layer2", "layer3", "norm1", "norm2"}),
      ((7, 7), False, {"layer1", "layer2"}),
    ],
  )
  def test_has_a_normalization_before_every_relu(
    self, key, widths, use_norm, names
  ):
    params = init_projector(Projector(widths, use_norm), key)
    assert set(params) == names
    layers = [params[name] for name in sorted(names) if "layer" in name]
    assert all(("bias" in layer) != use_norm for layer in layers)

  def test_is_hashable_by_its_widths(self):
    assert hash(Projector((2, 3), True)) == hash(Projector((2, 3), True))
    assert Projector((2, 3), True) != Projector((2, 4), True)


class TestEncode:
  def test_goes_by_the_statistics_of_the_batch(self):
    params, inputs = make_inputs("simclr")
    images = inputs.views[:, 0]
    whole, stats = encode("simclr", params, inputs, images)
    half, _ = encode("simclr", params, inputs, images[:4])
    assert np.abs(whole[:4] - half).max() > 1e-3
    before = jax.tree.leaves(inputs.batch_stats)
    after = jax.tree.leaves(stats)
    moved = [(a != b).any() for a, b in zip(before, after, strict=True)]
    assert all(moved)


class TestSimclr:
  def test_is_the_loss_of_both_views_as_one_batch(self):
    params, inputs = make_inputs("simclr")
    loss, _ = compute("simclr", params, inputs)
    images = np.concatenate([inputs.views[:, 0], inputs.views[:, 1]])
    outputs, _ = encode("simclr", params, inputs, images)
    outputs = np.asarray(outputs)
    expected = naive.nt_xent(outputs[:BATCH], outputs[BATCH:], 0.2)
    np.testing.assert_allclose(loss, expected, rtol=SAME)


class TestBarlowTwins:
  def test_is_the_loss_of_each_view_as_a_batch(self):
    params, inputs = make_inputs("barlow_twins")
    loss, _ = compute("barlow_twins", params, inputs)
    first, second = (
      np.asarray(encode("barlow_twins", params, inputs, inputs.views[:, i])[0])
      for i in (0, 1)
    )
    expected = naive.barlow_twins(first, second, 0.0051)
    np.testing.assert_allclose(loss, expected, rtol=1e-4)

  def test_running_statistics_follow_both_views(self):
    params, inputs = make_inputs("barlow_twins")
    _, outcome = compute("barlow_twins", params, inputs)
    stats = inputs.batch_stats
    for index in (0, 1):
      following = replace(inputs, batch_stats=stats)
      _, stats = encode(
        "barlow_twins", params, following, inputs.views[:, index]
      )
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=SAME, atol=1e-6),
      outcome.batch_stats,
      stats,
    )


class TestMocoV2:
  def compute(self, params, inputs, **changes):
    return compute("moco_v2", params, inputs, **changes)

  def test_momentum_network_moves_before_the_keys(self):
    params, inputs = make_inputs("moco_v2")
    moved = jax.tree.map(lambda leaf: np.asarray(leaf) + 1.0, params)
    _, outcome = self.compute(moved, inputs, momentum=0.75)
    jax.tree.map(
      lambda found, before: np.testing.assert_allclose(
        found, before + 0.25, rtol=SAME, atol=1e-6
      ),
      outcome.momentum["params"],
      inputs.momentum["params"],
    )

  def test_is_the_loss_of_query_and_key(self):
    """With one group, of keys from a network that is the first one."""
    params, inputs = make_inputs("moco_v2")
    loss, outcome = self.compute(params, inputs, norm_groups=1)
    queries, keys = (
      np.asarray(encode("moco_v2", params, inputs, inputs.views[:, i])[0])
      for i in (0, 1)
    )
    queue = np.asarray(inputs.momentum["queue"])
    expected = naive.moco(queries, keys, queue, 0.2)
    np.testing.assert_allclose(loss, expected, rtol=1e-4)
    np.testing.assert_allclose(
      outcome.momentum["queue"][:BATCH],
      naive.normalize(np.asarray(keys)),
      rtol=1e-3,
      atol=1e-4,
    )

  @each("step", [0, 1, 2, 5])
  def test_keys_replace_the_oldest(self, step):
    params, inputs = make_inputs("moco_v2", step=step)
    _, outcome = self.compute(params, inputs)
    changed = (outcome.momentum["queue"] != inputs.momentum["queue"]).any(1)
    begin = step % 2 * BATCH
    assert np.flatnonzero(changed).tolist() == [*range(begin, begin + BATCH)]

  def test_groups_have_statistics_of_their_own(self):
    """Of equal images in each group, outputs are those of a group alone."""
    views = np.tile(tiny_run.draw_views(size=BATCH // 2), (2, 1, 1, 1, 1, 1))
    views = views.reshape(BATCH, *views.shape[2:])
    params, inputs = make_inputs("moco_v2", views=views)
    grouped, _ = jitted(methods._encode_in_groups, "network", "num_groups")(
      params=params,
      batch_stats=inputs.batch_stats,
      images=views[:, 0],
      network=tiny_run.make_network("moco_v2"),
      num_groups=2,
    )
    alone, _ = encode("moco_v2", params, inputs, views[: BATCH // 2, 0])
    np.testing.assert_allclose(grouped[: BATCH // 2], alone, atol=1e-5)
    np.testing.assert_allclose(grouped[BATCH // 2 :], alone, atol=1e-5)

  def test_keys_are_shuffled_over_the_groups(self):
    params, inputs = make_inputs("moco_v2")
    queues = [
      self.compute(params, replace(inputs, key=jax.random.key(seed)))[
        1
      ].momentum["queue"]
      for seed in (0, 1)
    ]
    assert np.abs(queues[0] - queues[1]).max() > 1e-3

  def test_a_key_stays_with_its_image(self):
    """Without normalization the order of the keys is all that is left."""
    params, inputs = make_inputs("moco_v2", use_norm=False)
    _, outcome = self.compute(params, inputs, use_norm=False)
    images = inputs.views[:, 1]
    keys, _ = encode("moco_v2", params, inputs, images, use_norm=False)
    np.testing.assert_allclose(
      outcome.momentum["queue"][:BATCH],
      naive.normalize(np.asarray(keys)),
      atol=1e-5,
    )


class TestTables:
  def test_every_method_has_a_projector(self):
    assert sorted(methods.PROJECTORS) == OBJECTIVES

  def test_projectors_are_the_published_ones(self):
    assert methods.PROJECTORS == {
      "barlow_twins": ((2048, 2048, 2048), True),
      "moco_v2": ((2048, 128), False),
      "simclr": ((2048, 128), True),
    }
