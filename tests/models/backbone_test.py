"""Tests of loaded models: their types, their training mode, saving them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from decern_jax.models import loading, pretrained, registry
from tests.models import torch_models


def init_variables(module, size=32):
  return jax.jit(module.init)(jax.random.key(0), jnp.zeros((1, size, size, 3)))


def make_images(batch=4, size=32):
  rng = np.random.default_rng(1)
  return rng.integers(0, 256, (batch, size, size, 3), np.uint8)


@pytest.fixture(scope="module")
def resnet18(tmp_path_factory):
  """A ResNet-18 of initial weights."""
  file = tmp_path_factory.mktemp("weights") / "resnet18.safetensors"
  module = registry.MODELS["resnet18"].module()
  pretrained.save_safetensors(file, init_variables(module))
  return loading.create("resnet18", weights=file, image_size=32)


class TestSaving:
  def test_own_format_round_trips_with_statistics_and_head(
    self, resnet18, tmp_path
  ):
    rng = np.random.default_rng(0)
    head = {
      "kernel": rng.normal(size=(512, 3)).astype(np.float32),
      "bias": rng.normal(size=3).astype(np.float32),
    }
    file = tmp_path / "tuned.safetensors"
    pretrained.save_safetensors(file, {**resnet18.variables, "head": head})
    loaded = loading.create("resnet18", weights=file, image_size=32)
    assert loaded.fingerprint == resnet18.fingerprint
    np.testing.assert_array_equal(loaded.head.kernel, head["kernel"])
    np.testing.assert_array_equal(loaded.head.bias, head["bias"])


class TestDtype:
  def test_bfloat16_keeps_variables_and_features_float32(self):
    float32 = loading.create("small_cnn", image_size=32)
    brain = loading.create("small_cnn", image_size=32, dtype="bfloat16")
    jax.tree.map(
      np.testing.assert_array_equal, brain.variables, float32.variables
    )
    features, expected = (
      jax.jit(each.apply)(each.variables, make_images())
      for each in (brain, float32)
    )
    assert features.dtype == jnp.float32
    assert 1e-4 < torch_models.relative_error(features, expected) < 2e-2

  def test_fingerprint_follows_the_type(self):
    fingerprints = {
      dtype: loading.create("small_cnn", image_size=32, dtype=dtype).fingerprint
      for dtype in loading.DTYPES
    }
    default = loading.create("small_cnn", image_size=32).fingerprint
    assert fingerprints["float32"] == default
    assert fingerprints["bfloat16"] != default


class TestTrainApply:
  def test_resnet_normalises_by_the_batch(self, resnet18):
    images = make_images()
    features, _ = jax.jit(resnet18.train_apply)(resnet18.variables, images)
    spec = registry.MODELS["resnet18"]
    mean, std = np.float32(spec.mean), np.float32(spec.std)
    expected, _ = jax.jit(
      functools.partial(
        spec.module().apply, train=True, mutable=["batch_stats"]
      )
    )(resnet18.variables, (images - mean) / std)
    assert features.shape == (4, 512)
    assert features.dtype == jnp.float32
    assert torch_models.relative_error(features, expected) < 1e-4
    inference = jax.jit(resnet18.apply)(resnet18.variables, images)
    assert torch_models.relative_error(features, inference) > 0.1

  def test_resnet_moves_every_statistic(self, resnet18):
    before = resnet18.variables["batch_stats"]
    _, after = jax.jit(resnet18.train_apply)(resnet18.variables, make_images())
    assert jax.tree.structure(after) == jax.tree.structure(before)
    moved = jax.tree.map(lambda a, b: not np.array_equal(a, b), before, after)
    assert all(jax.tree.leaves(moved))
    assert len(jax.tree.leaves(moved)) == 2 * 20

  def test_new_statistics_are_those_of_the_next_call(self, resnet18):
    _, batch_stats = jax.jit(resnet18.train_apply)(
      resnet18.variables, make_images()
    )
    variables = {**resnet18.variables, "batch_stats": batch_stats}
    apply = jax.jit(resnet18.apply)
    difference = torch_models.relative_error(
      apply(variables, make_images()),
      apply(resnet18.variables, make_images()),
    )
    assert difference > 1e-3

  def test_model_without_statistics_is_as_in_inference(self):
    backbone = loading.create("small_cnn", image_size=32)
    features, batch_stats = backbone.train_apply(
      backbone.variables, make_images()
    )
    assert batch_stats == {}
    np.testing.assert_array_equal(
      features, backbone.apply(backbone.variables, make_images())
    )

  def test_has_a_gradient(self):
    backbone = loading.create("small_cnn", image_size=32, dtype="bfloat16")

    def loss(params):
      features, _ = backbone.train_apply({"params": params}, make_images())
      return jnp.square(features).mean()

    slopes = jax.jit(jax.grad(loss))(backbone.variables["params"])
    for leaf in jax.tree.leaves(slopes):
      assert leaf.dtype == jnp.float32
      assert np.isfinite(leaf).all()
      assert np.any(leaf != 0)


class TestStageApply:
  def test_changes_no_bit_of_the_features(self, resnet18):
    for backbone in (resnet18, loading.create("small_cnn", image_size=32)):
      arguments = backbone.variables, make_images()
      features, stages = jax.jit(backbone.stage_apply)(*arguments)
      expected = jax.jit(backbone.apply)(*arguments)
      np.testing.assert_array_equal(features, expected)
      assert [s.shape for s in stages] == [(4, d) for d in backbone.stage_dims]

  def test_changes_no_bit_in_training(self, resnet18):
    arguments = resnet18.variables, make_images()
    (features, _), stats = jax.jit(resnet18.stage_train_apply)(*arguments)
    expected = jax.jit(resnet18.train_apply)(*arguments)
    jax.tree.map(np.testing.assert_array_equal, (features, stats), expected)

  def test_last_stage_of_a_resnet_is_the_feature(self, resnet18):
    features, stages = jax.jit(resnet18.stage_apply)(
      resnet18.variables, make_images()
    )
    np.testing.assert_array_equal(stages[-1], features)
    assert np.asarray(stages[0]).any()

  def test_stages_of_a_small_cnn_are_before_the_projection(self):
    backbone = loading.create("small_cnn", image_size=32)
    features, stages = backbone.stage_apply(backbone.variables, make_images())
    project = backbone.variables["params"]["project"]
    joined = np.concatenate(stages[-2:], axis=-1) @ project["kernel"]
    np.testing.assert_allclose(
      features, joined + project["bias"][None], rtol=1e-4, atol=1e-4
    )


class TestWithOneStage:
  def test_stage_is_the_feature(self):
    backbone = loading.create("small_cnn", image_size=32)
    single = loading.with_one_stage(backbone)
    features, (stage,) = single.stage_apply(single.variables, make_images())
    np.testing.assert_array_equal(stage, features)
    assert single.stage_dims == (backbone.dim,) == features.shape[1:]
