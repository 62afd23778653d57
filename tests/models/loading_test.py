"""Tests of loading a model of the table."""

import re

from flax import traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from decern_jax.models import (
  hub,
  loading,
  mobilenet,
  pretrained,
  registry,
  resnet,
)
from tests.models import torch_models
from tests.table import each

TORCH_AXES = {1: (0,), 2: (1, 0), 4: (3, 2, 0, 1)}


def make_template(spec, size=32):
  shape = (1, size, size, 3)
  return jax.eval_shape(
    lambda: spec.module().init(jax.random.key(0), jnp.zeros(shape))
  )


def make_torch_tensors(spec, naming=None, num_classes=7):
  """Ones under the names of a file, with the classifier of a ResNet."""
  naming = naming or spec.torch_name
  template = make_template(spec)
  if naming is resnet.torchvision_name:
    template["head"] = {
      "kernel": jnp.ones((spec.dim, num_classes)),
      "bias": jnp.ones(num_classes),
    }
  tensors = {}
  for path, leaf in traverse_util.flatten_dict(template).items():
    is_kernel = path[-1] == "kernel"
    axes = TORCH_AXES[leaf.ndim] if is_kernel else range(leaf.ndim)
    first, *rest = (leaf.shape[axis] for axis in axes)
    names = naming(path)
    names = [names] if isinstance(names, str) else names
    for name in names:
      tensors[name] = np.ones((first // len(names), *rest), np.float32)
  return tensors


@pytest.fixture(scope="module")
def tensors():
  """Random MobileNetV2 weights and 7 classes, as in a PyTorch file."""
  rng = np.random.default_rng(0)
  leaves = jax.tree.leaves_with_path(
    make_template(registry.MODELS["mobilenet_v2"])
  )
  named = {
    mobilenet.torchvision_name(tuple(key.key for key in path)): rng.normal(
      size=[leaf.shape[axis] for axis in TORCH_AXES[leaf.ndim]], scale=0.1
    )
    for path, leaf in leaves
  }
  named["classifier.weight"] = rng.normal(size=(7, 1280))
  named["classifier.bias"] = rng.normal(size=7)
  return {name: array.astype(np.float32) for name, array in named.items()}


@pytest.fixture
def write(tmp_path):
  """Writes tensors to a file and returns its path."""

  def write_tensors(tensors, name="w.safetensors"):
    safetensors.numpy.save_file(tensors, tmp_path / name)
    return str(tmp_path / name)

  return write_tensors


def create_mobilenet(weights):
  return loading.create("mobilenet_v2", weights=weights, image_size=32)


def without(tensors, *names):
  return {name: tensors[name] for name in tensors if name not in names}


class TestCreate:
  def test_normalises_uint8_and_float_images(self, tensors, write):
    backbone = create_mobilenet(write(tensors))
    images = np.random.default_rng(1).integers(0, 256, (2, 32, 32, 3), np.uint8)
    floats = images.astype(np.float32)
    apply = jax.jit(backbone.apply)
    features = apply(backbone.variables, images)
    expected = jax.jit(mobilenet.MobileNetV2().apply)(
      backbone.variables, floats / 127.5 - 1.0
    )
    assert features.shape == (2, backbone.dim)
    np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(apply(backbone.variables, floats), features)

  def test_classifier_becomes_the_head(self, tensors, write):
    head = create_mobilenet(write(tensors)).head
    np.testing.assert_array_equal(head.kernel, tensors["classifier.weight"].T)
    np.testing.assert_array_equal(head.bias, tensors["classifier.bias"])

  def test_file_without_classifier_has_no_head(self, tensors, write):
    file = write(without(tensors, "classifier.weight", "classifier.bias"))
    assert create_mobilenet(file).head is None

  @each("missing", ["classifier.weight", "classifier.bias"])
  def test_rejects_half_a_classifier(self, tensors, write, missing):
    with pytest.raises(ValueError, match=f"1 missing: {missing}"):
      create_mobilenet(write(without(tensors, missing)))

  def test_rejects_classifier_of_other_features(self, tensors, write):
    weight = np.zeros((7, 512), np.float32)
    file = write(tensors | {"classifier.weight": weight})
    with pytest.raises(
      ValueError, match=r"float\[7, 1280\], got float32\[7, 5"
    ):
      create_mobilenet(file)

  def test_rejects_weights_of_another_model(self, write):
    resnet = {"conv1.weight": np.zeros(2), "layer1.0.conv1.weight": np.zeros(2)}
    with pytest.raises(ValueError, match="another model") as error:
      create_mobilenet(write(resnet, "resnet.safetensors"))
    assert "mobilenet_v2 in " in str(error.value)
    assert "resnet.safetensors" in str(error.value)
    assert "2 left over: conv1.weight, layer1.0.conv1" in str(error.value)
    assert "104 missing: features." in str(error.value)

  def test_rejects_unknown_model(self):
    with pytest.raises(ValueError, match="Unknown model 'mobilnet'; expected"):
      loading.create("mobilnet", image_size=32)

  def test_rejects_unknown_dtype(self):
    message = "'float16'; expected one of ['bfloat16', 'float32']."
    with pytest.raises(ValueError, match=re.escape(message)):
      loading.create("small_cnn", image_size=32, dtype="float16")

  def test_rejects_malformed_name_of_the_hub(self):
    with pytest.raises(ValueError, match="got 'hf://repo'"):
      loading.create("small_cnn", weights="hf://repo", image_size=32)

  def test_rejects_pickled_file_of_the_hub_before_any_download(
    self, monkeypatch
  ):
    monkeypatch.setattr(hub, "fetch", None)
    with pytest.raises(ValueError, match="'w.pth' of 'o/r' at .*: pickled"):
      loading.create("resnet18", weights="hf://o/r/w.pth", image_size=32)

  def test_rejects_mobilenet_without_weights(self):
    with pytest.raises(
      ValueError, match="`config.model.weights` to name a loc"
    ):
      loading.create("mobilenet_v2", image_size=32)

  def test_rejects_images_that_are_too_small(self):
    with pytest.raises(ValueError, match="`image_size` >= 32, got 31"):
      loading.create("small_cnn", image_size=31)

  @each(
    "name, ignored, has_head",
    [
      ("resnet18", "layer1.0.bn1.num_batches_tracked", True),
      ("vit_tiny16", "head.weight", False),
      ("dinov2_small14_reg", "mask_token", False),
    ],
  )
  def test_ignorable_tensors_change_nothing(
    self, write, name, ignored, has_head
  ):
    tensors = make_torch_tensors(registry.MODELS[name])
    first = loading.create(name, weights=write(tensors), image_size=32)
    tensors[ignored] = np.zeros((7, 192), np.float32)
    second = loading.create(name, weights=write(tensors), image_size=32)
    assert second.fingerprint == first.fingerprint
    assert (second.head is not None) == has_head

  def test_ignorable_names_of_one_model_are_refused_by_another(self, write):
    tensors = make_torch_tensors(registry.MODELS["resnet18"])
    file = write(tensors | {"mask_token": np.zeros((1, 384), np.float32)})
    with pytest.raises(ValueError, match="got 1 left over: mask_token"):
      loading.create("resnet18", weights=file, image_size=32)

  def test_own_format_of_a_foreign_model_loads_back(self, tensors, write):
    backbone = create_mobilenet(write(tensors))
    own = write({})
    pretrained.save_safetensors(
      own, {**backbone.variables, "head": backbone.head._asdict()}
    )
    loaded = create_mobilenet(own)
    assert loaded.fingerprint == backbone.fingerprint
    np.testing.assert_array_equal(loaded.head.kernel, backbone.head.kernel)

  def test_fingerprint_follows_name_and_weights(self, tensors, write):
    first = create_mobilenet(write(tensors)).fingerprint
    bias = tensors["features.18.0.bias"]
    changed = tensors | {"features.18.0.bias": np.nextafter(bias, 1)}
    assert create_mobilenet(write(tensors, "copy.file")).fingerprint == first
    assert create_mobilenet(write(changed)).fingerprint != first

  def test_fingerprint_ignores_the_classifier(self, tensors, write):
    first = create_mobilenet(write(tensors)).fingerprint
    file = write(without(tensors, "classifier.weight", "classifier.bias"))
    assert create_mobilenet(file).fingerprint == first

  def test_pooler_of_hugging_face_changes_nothing(self, write):
    spec = registry.MODELS["vit_tiny16"]
    tensors = make_torch_tensors(spec, spec.hugging_face_name)
    first = loading.create("vit_tiny16", weights=write(tensors), image_size=32)
    tensors["pooler.dense.weight"] = np.ones((192, 192), np.float32)
    tensors["pooler.dense.bias"] = np.ones(192, np.float32)
    second = loading.create("vit_tiny16", weights=write(tensors), image_size=32)
    assert second.fingerprint == first.fingerprint

  def test_timm_file_with_registers_loads(self, write):
    name = "dinov2_small14_reg"
    tensors = make_torch_tensors(registry.MODELS[name])
    timm = torch_models.timm_state(tensors)
    assert timm["pos_embed"].shape == (1, 1369, 384)
    params = loading.create(name, weights=write(timm), image_size=32).variables[
      "params"
    ]
    first = params["cls_token"] + params["pos_embed"][:, :1]
    np.testing.assert_array_equal(first, 2.0)
    np.testing.assert_array_equal(params["register_tokens"], 1.0)

  def test_timm_file_with_registers_is_refused_without_them(self, write):
    tensors = make_torch_tensors(registry.MODELS["dinov2_small14_reg"])
    file = write(torch_models.timm_state(tensors))
    with pytest.raises(ValueError, match="left over: reg_token; 1 of another"):
      loading.create("dinov2_small14", weights=file, image_size=32)

  def test_small_cnn_ships_its_weights(self):
    backbone = loading.create("small_cnn", image_size=64)
    features = jax.jit(backbone.apply)(
      backbone.variables, np.zeros((2, 64, 64, 3), np.uint8)
    )
    assert features.shape == (2, backbone.dim)
    assert np.isfinite(features).all()

  def test_own_format_round_trips(self, tmp_path):
    shipped = loading.create("small_cnn", image_size=32)
    classifier = {
      "kernel": np.ones((shipped.dim, 3), np.float32),
      "bias": np.arange(3, dtype=np.float32),
    }
    file = tmp_path / "tuned.safetensors"
    pretrained.save_safetensors(file, {**shipped.variables, "head": classifier})
    loaded = loading.create("small_cnn", weights=str(file), image_size=32)
    assert loaded.fingerprint == shipped.fingerprint
    np.testing.assert_array_equal(loaded.head.kernel, classifier["kernel"])
    np.testing.assert_array_equal(loaded.head.bias, classifier["bias"])
