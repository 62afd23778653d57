"""Tests of `models.small_cnn`."""

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from decern_jax.data import rendered
from decern_jax.models import loading, pretrained, small_cnn
from decern_jax.models.small_cnn import SmallCNN
from tests.models import precision, torch_models
from tests.table import each

WEIGHTS = pathlib.Path(small_cnn.__file__).parent / "weights"


@pytest.fixture(scope="module")
def images():
  return jax.random.uniform(jax.random.key(1), (3, 32, 32, 3), minval=-1.0)


def perturb(tree):
  """Moves every parameter off its initial value, which may be 0 or 1."""
  rng = np.random.default_rng(0)
  return jax.tree.map(
    lambda x: x + 0.1 * rng.normal(size=x.shape).astype(np.float32), tree
  )


def embed(backbone, part):
  images = np.stack([part.read(i) for i in range(len(part.ids))])
  return np.asarray(jax.jit(backbone.apply)(backbone.variables, images))


class TestSmallCNN:
  def test_gives_features_of_the_stated_width(self, images, key):
    features, _ = SmallCNN().init_with_output(key, images)
    assert features.shape == (3, small_cnn.FEATURE_DIM)

  @each("shape", [(1, 33, 32, 3), (2, 40, 96, 3)])
  def test_takes_images_of_other_sizes(self, shape, key):
    features, _ = SmallCNN().init_with_output(key, jnp.zeros(shape))
    assert features.shape == (shape[0], small_cnn.FEATURE_DIM)

  def test_image_is_independent_of_its_batch(self, images, key):
    variables = SmallCNN().init(key, images)
    whole = SmallCNN().apply(variables, images)
    alone = SmallCNN().apply(variables, images[1:2])
    np.testing.assert_allclose(whole[1:2], alone, rtol=1e-5, atol=1e-6)

  def test_bfloat16_is_close_to_float32(self):
    precision.check_bfloat16(SmallCNN())

  def test_bfloat16_is_close_to_float32_in_training(self):
    module = SmallCNN(use_batch_norm=True)
    variables = precision.draw(module, 32)
    images = torch_models.make_images(8, 32, 32)
    features, expected = (
      jax.jit(functools.partial(each.apply, mutable=["batch_stats"]))(
        variables, images
      )[0]
      for each in (module.clone(dtype=jnp.bfloat16), module)
    )
    assert features.dtype == jnp.float32
    assert 1e-4 < torch_models.relative_error(features, expected) < 2e-2


class TestFoldBatchNorm:
  def test_gives_the_normalised_networks_features(self, images, key):
    trained = SmallCNN(use_batch_norm=True)
    variables = trained.init(key, images)
    variables["params"] = perturb(variables["params"])
    expected, updates = trained.apply(
      variables, images, mutable=["batch_stats"]
    )
    # Running statistics equal to those of this batch.
    start = variables["batch_stats"]
    now = jax.tree.map(
      lambda old, new: (new - 0.95 * old) / 0.05, start, updates["batch_stats"]
    )
    folded = small_cnn.fold_batch_norm(
      {"params": variables["params"], "batch_stats": now}
    )
    found = SmallCNN().apply(folded, images)
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-4)


class TestWeights:
  def test_file_is_smaller_than_two_megabytes(self):
    assert (WEIGHTS / "small_cnn.safetensors").stat().st_size < 2e6

  def test_file_holds_exactly_the_networks_parameters(self):
    tensors = pretrained.read_safetensors(WEIGHTS / "small_cnn.safetensors")
    template = jax.eval_shape(
      lambda: SmallCNN().init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    )
    variables = pretrained.to_variables(tensors, template, source="the file")
    shapes = jax.tree.map(jnp.shape, variables)
    assert shapes == jax.tree.map(jnp.shape, template)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(variables))

  def test_features_tell_the_quickstart_classes_apart(self):
    data = rendered.load_rendered(
      num_classes=12, train_per_class=10, test_per_class=5
    )
    backbone = loading.create("small_cnn", image_size=96)
    train, test = (embed(backbone, part) for part in (data.train, data.test))
    means = np.stack(
      [train[data.train.labels == label].mean(axis=0) for label in range(12)]
    )
    nearest = ((test[:, None] - means) ** 2).sum(axis=2).argmin(axis=1)
    # Chance is 8 %; a raised one would leave nothing to learn.
    assert 0.5 < (nearest == data.test.labels).mean() < 0.98
