"""Tests of `models.small_cnn`."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from decern_jax.models import pretrained, small_cnn
from decern_jax.models.small_cnn import SmallCNN

WEIGHTS = pathlib.Path(small_cnn.__file__).parent / "weights"


@pytest.fixture(scope="module")
def images():
  return jax.random.uniform(jax.random.key(1), (3, 32, 32, 3), minval=-1.0)


class TestSmallCNN:
  def test_gives_features_of_the_stated_width(self, images, key):
    features, _ = SmallCNN().init_with_output(key, images)
    assert features.shape == (3, small_cnn.FEATURE_DIM)

  def test_image_is_independent_of_its_batch(self, images, key):
    variables = SmallCNN().init(key, images)
    whole = SmallCNN().apply(variables, images)
    alone = SmallCNN().apply(variables, images[1:2])
    np.testing.assert_allclose(whole[1:2], alone, rtol=1e-5, atol=1e-6)


class TestFoldBatchNorm:
  def test_gives_the_normalised_networks_features(self, images, key):
    trained = SmallCNN(use_batch_norm=True)
    variables = trained.init(key, images)
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
