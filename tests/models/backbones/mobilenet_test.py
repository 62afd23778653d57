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


def unfolded(layers: dict[str, str]):
  """Random convolutions with their normalization, by their names in a file."""
  rng = np.random.default_rng(0)
  tensors = {}
  for conv, norm in layers.items():
    tensors[f"{conv}.weight"] = np.float32(rng.normal(size=(2, 1, 1, 1)))
    for leaf in ("weight", "bias", "running_mean"):
      tensors[f"{norm}.{leaf}"] = np.float32(rng.normal(size=2))
    tensors[f"{norm}.running_var"] = np.float32(rng.uniform(0.5, 1.5, 2))
    tensors[f"{norm}.num_batches_tracked"] = np.array(7)
  return tensors


# Names of a convolution and its normalization, and ours of the folded one.
TORCHVISION = {
  ("features.0.0", "features.0.1"): "features.0.0",
  ("features.1.conv.0.0", "features.1.conv.0.1"): "features.1.conv.0.0",
  ("features.1.conv.1", "features.1.conv.2"): "features.1.conv.1",
  ("features.2.conv.0.0", "features.2.conv.0.1"): "features.2.conv.0.0",
  ("features.2.conv.1.0", "features.2.conv.1.1"): "features.2.conv.1.0",
  ("features.17.conv.2", "features.17.conv.3"): "features.17.conv.2",
  ("features.18.0", "features.18.1"): "features.18.0",
}
TIMM = {
  ("conv_stem", "bn1"): "features.0.0",
  ("blocks.0.0.conv_dw", "blocks.0.0.bn1"): "features.1.conv.0.0",
  ("blocks.0.0.conv_pw", "blocks.0.0.bn2"): "features.1.conv.1",
  ("blocks.1.0.conv_pw", "blocks.1.0.bn1"): "features.2.conv.0.0",
  ("blocks.1.1.conv_dw", "blocks.1.1.bn2"): "features.3.conv.1.0",
  ("blocks.6.0.conv_pwl", "blocks.6.0.bn3"): "features.17.conv.2",
  ("conv_head", "bn2"): "features.18.0",
}
STEM = "conv_stem.first_conv"
HUGGING_FACE = {
  (f"{STEM}.convolution", f"{STEM}.normalization"): "features.0.0",
  **{
    (f"{layer}.convolution", f"{layer}.normalization"): ours
    for layer, ours in {
      "conv_stem.conv_3x3": "features.1.conv.0.0",
      "conv_stem.reduce_1x1": "features.1.conv.1",
      "layer.0.expand_1x1": "features.2.conv.0.0",
      "layer.15.reduce_1x1": "features.17.conv.2",
      "conv_1x1": "features.18.0",
    }.items()
  },
}


class TestFolding:
  @each(
    "convert, table, epsilon, prefix",
    [
      (mobilenet.from_torch, TORCHVISION, 1e-5, ""),
      (mobilenet.from_torch, TIMM, 1e-5, ""),
      (mobilenet.from_hugging_face, HUGGING_FACE, 1e-3, "mobilenet_v2."),
    ],
  )
  def test_convolves_as_before_and_normalizes(
    self, convert, table, epsilon, prefix
  ):
    tensors = unfolded(dict(table.keys()))
    found = convert({f"{prefix}{name}": t for name, t in tensors.items()})
    assert set(found) == {
      f"{ours}.{leaf}" for ours in table.values() for leaf in ("weight", "bias")
    }
    inputs = np.linspace(-2.0, 2.0, 5)
    for (conv, norm), ours in table.items():
      leaves = ("weight", "bias", "running_mean", "running_var")
      gain, bias, mean, variance = (
        tensors[f"{norm}.{leaf}"] for leaf in leaves
      )
      before = inputs[:, None] * tensors[f"{conv}.weight"].reshape(-1)
      before = (before - mean) / np.sqrt(variance + epsilon) * gain + bias
      after = inputs[:, None] * found[f"{ours}.weight"].reshape(-1)
      after = after + found[f"{ours}.bias"]
      np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-6)

  def test_files_without_normalization_stay_as_they_are(self):
    tensors = {"features.0.0.weight": np.ones((2, 1, 1, 1), np.float32)}
    for convert in (mobilenet.from_torch, mobilenet.from_hugging_face):
      assert convert(tensors) == tensors

  def test_refuses_folded_weights_that_pytorch_trained(self):
    tensors = {
      "features.0.0.bias": np.zeros(32),
      "classifier.bias": np.zeros(1000),
    }
    with pytest.raises(ValueError, match="model.name=mobilenet_v2_torch"):
      mobilenet.from_hugging_face(tensors)
