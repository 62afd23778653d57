"""Tests of MobileNetV2."""

from typing import Any

from flax import traverse_util
import jax
import numpy as np
import pytest

from decern_jax.models import create
from decern_jax.models.backbones import mobilenet
from decern_jax.ops import head
from tests.models import numpy_networks, published, tiny_models
from tests.table import each


class TestMobileNetV2:
  def test_matches_the_network_of_the_paper(self):
    features, kept = tiny_models.run("mobilenet")
    expected, stages = numpy_networks.mobilenet(
      tiny_models.variables("mobilenet")["params"],
      tiny_models.normalized(),
      strides=(1, 2, 1, 2, 1, 1),
      last_blocks=(3, 6),
    )
    assert tiny_models.relative_error(features, expected) < 1e-5
    for found, stage in zip(tiny_models.pooled(kept), stages, strict=True):
      assert tiny_models.relative_error(found, stage) < 1e-5

  def test_image_features_do_not_depend_on_the_batch(self):
    tiny_models.check_images_are_independent("mobilenet")

  def test_bfloat16_is_close_to_float32(self):
    tiny_models.check_bfloat16("mobilenet")

  def test_published_network_has_17_blocks(self):
    traced = published.trace("mobilenet_v2")
    leaves: dict[str, Any] = traverse_util.flatten_dict(
      traced.variables["params"], sep="."
    )
    assert leaves["block1.depthwise.kernel"].shape == (3, 3, 1, 32)
    assert leaves["block17.depthwise.kernel"].shape == (3, 3, 1, 960)
    assert "block18.depthwise.kernel" not in leaves
    # Down to a 32nd of the image, in the blocks of the paper's table.
    assert [stage.shape for stage in traced.stages] == [
      (2, 8, 8, 24),
      (2, 4, 4, 32),
      (2, 2, 2, 96),
      (2, 1, 1, 320),
    ]

  @pytest.mark.slow
  def test_reproduces_published_weights(self, shared_dir):
    folder = shared_dir / "weights"
    backbone = create(
      "mobilenet_v2",
      weights=folder / "mobilenet_v2_imagenet.safetensors",
      image_size=224,
    )
    with np.load(folder / "mobilenet_v2_expected.npz") as expected:
      features = jax.jit(backbone.apply)(backbone.variables, expected["images"])
      assert backbone.head is not None
      logits = head.logits(backbone.head, features)
      error = tiny_models.relative_error
      assert error(features, expected["embeddings"]) < 1e-5
      assert error(logits, expected["logits"]) < 1e-5


class TestTorchvisionName:
  @each(
    "path, name",
    [
      ("params.stem.kernel", "features.0.0.weight"),
      ("params.block1.depthwise.bias", "features.1.conv.0.0.bias"),
      ("params.block1.project.kernel", "features.1.conv.1.weight"),
      ("params.block17.expand.kernel", "features.17.conv.0.0.weight"),
      ("params.block17.depthwise.kernel", "features.17.conv.1.0.weight"),
      ("params.block17.project.bias", "features.17.conv.2.bias"),
      ("params.last.bias", "features.18.0.bias"),
      ("head.kernel", "classifier.weight"),
    ],
  )
  def test_follows_the_layer_order(self, path, name):
    assert mobilenet.torchvision_name(tuple(path.split("."))) == name

  def test_names_are_distinct(self):
    paths = traverse_util.flatten_dict(
      published.trace("mobilenet_v2").variables
    )
    names = {mobilenet.torchvision_name(path) for path in paths}
    assert len(names) == len(paths) == 104
