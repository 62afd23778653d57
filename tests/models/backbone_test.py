"""Tests of what a model computes: features, stages, training."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from decern_jax.models import backbone, loading, registry
from tests.models import tiny_models

IMAGES = tiny_models.IMAGES


@pytest.fixture(scope="module")
def resnet():
  """A narrow ResNet, of random weights and statistics."""
  with tiny_models.in_table():
    return backbone.assemble(
      "tiny_resnet",
      tiny_models.MODULES["resnet_basic"],
      tiny_models.variables("resnet_basic"),
      num_bands=3,
      head=None,
      fingerprint="",
    )


@pytest.fixture(scope="module")
def small_cnn():
  """A model without statistics."""
  return loading.create("small_cnn", image_size=32)


def normalized(name):
  spec = registry.MODELS[name]
  mean, std = (np.array(v, np.float32) for v in (spec.mean, spec.std))
  return (IMAGES - mean) / std


class TestApply:
  def test_is_that_of_the_module_on_normalized_images(self, resnet):
    images = normalized("resnet18")
    found = jax.jit(resnet.apply)(resnet.variables, IMAGES)
    expected, _ = tiny_models.run("resnet_basic", images)
    assert tiny_models.relative_error(found, expected) < 1e-5

  def test_training_is_that_of_the_module(self, resnet):
    images = normalized("resnet18")
    found, batch_stats = jax.jit(resnet.train_apply)(resnet.variables, IMAGES)
    expected, kept = tiny_models.run("resnet_basic", images, train=True)
    assert found.dtype == jnp.float32
    assert tiny_models.relative_error(found, expected) < 1e-4
    jax.tree.map(
      lambda one, other: np.testing.assert_allclose(one, other, atol=1e-5),
      batch_stats,
      kept["batch_stats"],
    )

  def test_model_without_statistics_trains_as_in_inference(self, small_cnn):
    arguments = small_cnn.variables, IMAGES
    features, batch_stats = small_cnn.train_apply(*arguments)
    assert batch_stats == {}
    np.testing.assert_array_equal(features, small_cnn.apply(*arguments))
    (features, stages), batch_stats = small_cnn.stage_train_apply(*arguments)
    assert batch_stats == {}
    assert len(stages) == 3
    np.testing.assert_array_equal(features, small_cnn.apply(*arguments))

  def test_has_a_gradient_in_bfloat16(self):
    model = loading.create("small_cnn", image_size=32, dtype="bfloat16")

    def loss(params):
      features, _ = model.train_apply({"params": params}, jnp.asarray(IMAGES))
      return jnp.square(features).mean()

    slopes = jax.jit(jax.grad(loss))(model.variables["params"])
    for leaf in jax.tree.leaves(slopes):
      assert leaf.dtype == jnp.float32
      assert np.isfinite(leaf).all()
      assert np.any(leaf != 0)


class TestStageApply:
  def test_changes_no_bit_of_the_features(self, resnet):
    features, stages = jax.jit(resnet.stage_apply)(resnet.variables, IMAGES)
    expected = jax.jit(resnet.apply)(resnet.variables, IMAGES)
    np.testing.assert_array_equal(features, expected)
    assert [s.shape for s in stages] == [(3, d) for d in resnet.stage_dims]
    np.testing.assert_array_equal(stages[-1], features)
    assert np.asarray(stages[0]).any()

  def test_changes_no_bit_in_training(self, resnet):
    arguments = resnet.variables, IMAGES
    (features, stages), stats = jax.jit(resnet.stage_train_apply)(*arguments)
    expected = jax.jit(resnet.train_apply)(*arguments)
    jax.tree.map(np.testing.assert_array_equal, (features, stats), expected)
    np.testing.assert_array_equal(stages[-1], features)

  def test_stages_of_a_small_cnn_are_before_the_projection(self, small_cnn):
    features, stages = small_cnn.stage_apply(small_cnn.variables, IMAGES)
    project = jax.tree.map(np.asarray, small_cnn.variables["params"]["project"])
    joined = np.concatenate(stages[-2:], axis=-1) @ project["kernel"]
    np.testing.assert_allclose(
      features, joined + project["bias"], rtol=1e-4, atol=1e-4
    )

  def test_only_stage_is_the_feature(self, small_cnn):
    single = backbone.with_one_stage(small_cnn)
    features, (stage,) = single.stage_apply(
      single.variables, jnp.asarray(IMAGES)
    )
    np.testing.assert_array_equal(stage, features)
    assert single.stage_dims == (small_cnn.dim,) == features.shape[1:]
