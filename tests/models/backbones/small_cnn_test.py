"""Tests of the small residual network, and of the weights that ship."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from decern_jax import models
from decern_jax.data.sources import rendered
from decern_jax.models import pretrained
from decern_jax.models.backbones.small_cnn import SmallCNN, fold_batch_norm
from tests.models import numpy_networks, tiny_models

WEIGHTS = pathlib.Path(models.__file__).parent / "weights"
TRAINED = SmallCNN(use_batch_norm=True)


def draw_trained():
  images = jnp.zeros((1, 32, 32, 3))
  return tiny_models.draw(
    jax.eval_shape(lambda: TRAINED.init(jax.random.key(0), images))
  )


def train(variables, dtype="float32"):
  module = TRAINED.clone(dtype=models.DTYPES[dtype])
  features, updated = jax.jit(
    lambda *arguments: module.apply(*arguments, mutable=["batch_stats"])
  )(variables, tiny_models.normalized())
  return features, updated["batch_stats"]


class TestSmallCNN:
  def test_is_a_stem_three_stages_and_a_projection(self):
    features, kept = tiny_models.run("small_cnn")
    expected, stages = numpy_networks.small_cnn(
      tiny_models.variables("small_cnn")["params"], tiny_models.normalized()
    )
    assert tiny_models.relative_error(features, expected) < 1e-5
    for found, stage in zip(tiny_models.pooled(kept), stages, strict=True):
      assert tiny_models.relative_error(found, stage) < 1e-5

  def test_image_features_do_not_depend_on_the_batch(self):
    tiny_models.check_images_are_independent("small_cnn")

  def test_bfloat16_is_close_to_float32(self):
    tiny_models.check_bfloat16("small_cnn")


class TestFoldBatchNorm:
  def test_gives_the_features_of_training(self):
    variables = draw_trained()
    expected, updated = train(variables)
    brain, _ = train(variables, "bfloat16")
    assert brain.dtype == jnp.float32
    assert 1e-4 < tiny_models.relative_error(brain, expected) < 2e-2
    # Running statistics equal to those of this batch.
    now = jax.tree.map(
      lambda old, new: (new - 0.95 * old) / 0.05,
      variables["batch_stats"],
      updated,
    )
    folded = fold_batch_norm(
      {"params": variables["params"], "batch_stats": now}
    )
    found, _ = tiny_models.run("small_cnn", variables_=folded)
    assert tiny_models.relative_error(found, expected) < 1e-3


class TestWeights:
  def test_file_holds_exactly_the_parameters(self):
    file = WEIGHTS / "small_cnn.safetensors"
    assert file.stat().st_size < 2e6
    variables = pretrained.to_variables(
      pretrained.read_safetensors(file),
      tiny_models.shapes("small_cnn"),
      source="the file",
    )
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(variables))

  def test_features_tell_the_quickstart_classes_apart(self):
    data = rendered.load_rendered(
      num_classes=8, train_per_class=10, test_per_class=5
    )
    backbone = models.create("small_cnn", image_size=96)
    apply = jax.jit(backbone.apply)

    def embed(split):
      images = [split.read(index) for index in range(len(split.ids))]
      batches = np.stack(images).reshape(-1, 20, 96, 96, 3)
      return np.concatenate(
        [apply(backbone.variables, batch) for batch in batches]
      )

    train, test = embed(data.train), embed(data.test)
    means = np.stack(
      [train[data.train.labels == label].mean(axis=0) for label in range(8)]
    )
    nearest = ((test[:, None] - means) ** 2).sum(axis=2).argmin(axis=1)
    # Chance is 12.5 %; a raised one would leave nothing to learn.
    assert data.test is not None
    assert 0.5 < (nearest == data.test.labels).mean() < 0.98
