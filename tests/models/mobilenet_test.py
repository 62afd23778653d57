"""Tests of MobileNetV2."""

from flax import traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from decern_jax.models import loading, mobilenet
from decern_jax.ops import head
from tests.models import precision
from tests.table import each

MODEL = mobilenet.MobileNetV2()
RESIDUAL_BLOCKS = (3, 5, 6, 8, 9, 10, 12, 13, 15, 16)
STRIDED_BLOCKS = (2, 4, 7, 14)


def make_template():
  shape = (1, 32, 32, 3)
  return jax.eval_shape(lambda: MODEL.init(jax.random.key(0), jnp.zeros(shape)))


@pytest.fixture(scope="module")
def variables():
  """Random variables whose biases are not zero."""
  rng = np.random.default_rng(0)

  def draw(leaf):
    fan_in = np.prod(leaf.shape[:-1]) if leaf.ndim > 1 else 10
    values = rng.normal(size=leaf.shape) * np.sqrt(2 / fan_in)
    return values.astype(np.float32)

  return jax.tree.map(draw, make_template())


def make_images(batch, height, width):
  rng = np.random.default_rng(1)
  return rng.uniform(-1, 1, (batch, height, width, 3)).astype(np.float32)


def plain_features(params, outputs):
  """The network of the paper's table, in XLA's own convolutions."""

  def conv(layer, inputs, stride=1):
    kernel = layer["kernel"]
    outputs = jax.lax.conv_general_dilated(
      inputs,
      kernel,
      (stride, stride),
      "SAME",
      dimension_numbers=("NHWC", "HWIO", "NHWC"),
      feature_group_count=inputs.shape[-1] // kernel.shape[2],
    )
    return outputs + layer["bias"][None, None, None]

  def relu6(inputs):
    return jnp.clip(inputs, 0, 6)

  outputs = relu6(conv(params["stem"], outputs, 2))
  for index in range(1, 18):
    block, inputs = params[f"block{index}"], outputs
    if index > 1:
      outputs = relu6(conv(block["expand"], outputs))
    stride = 2 if index in STRIDED_BLOCKS else 1
    outputs = relu6(conv(block["depthwise"], outputs, stride))
    outputs = conv(block["project"], outputs)
    if index in RESIDUAL_BLOCKS:
      outputs = inputs + outputs
  return jnp.mean(relu6(conv(params["last"], outputs)), axis=(1, 2))


def relative_error(values, expected):
  return np.linalg.norm(values - expected) / np.linalg.norm(expected)


class TestMobileNetV2:
  @each("size", [(32, 32), (33, 47), (64, 38)])
  def test_matches_plain_convolutions(self, variables, size):
    images = make_images(2, *size)
    features = jax.jit(MODEL.apply)(variables, images)
    expected = jax.jit(plain_features)(variables["params"], images)
    assert features.shape == (2, 1280)
    assert relative_error(features, expected) < 1e-5

  def test_reproduces_published_weights(self, shared_dir):
    folder = shared_dir / "weights"
    backbone = loading.create(
      "mobilenet_v2",
      weights=folder / "mobilenet_v2_imagenet.safetensors",
      image_size=224,
    )
    with np.load(folder / "mobilenet_v2_expected.npz") as expected:
      features = jax.jit(backbone.apply)(backbone.variables, expected["images"])
      logits = head.logits(backbone.head, features)
      assert relative_error(features, expected["embeddings"]) < 1e-5
      assert relative_error(logits, expected["logits"]) < 1e-5

  def test_is_independent_of_batch_size(self, variables):
    images = make_images(5, 40, 40)
    apply = jax.jit(MODEL.apply)
    together = apply(variables, images)
    apart = np.concatenate([apply(variables, image[None]) for image in images])
    np.testing.assert_allclose(together, apart, rtol=1e-4, atol=1e-5)

  def test_depthwise_kernels_have_one_input_channel(self):
    leaves = traverse_util.flatten_dict(make_template()["params"], sep=".")
    assert leaves["block1.depthwise.kernel"].shape == (3, 3, 1, 32)
    assert leaves["block17.depthwise.kernel"].shape == (3, 3, 1, 960)

  def test_bfloat16_is_close_to_float32(self):
    precision.check_bfloat16(MODEL)


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
    paths = traverse_util.flatten_dict(make_template())
    names = {mobilenet.torchvision_name(path) for path in paths}
    assert len(names) == len(paths) == 104
