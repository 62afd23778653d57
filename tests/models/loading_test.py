"""Tests of loading a model of the table, and of drawing one."""

import re
from typing import Any

from flax import traverse_util
import jax
import numpy as np
import pytest
import safetensors.numpy

from decern_jax import models
from decern_jax.models import hub, loading, pretrained, registry
from decern_jax.models.backbones import mobilenet, resnet, vit
from tests.models import tiny_models, torch_models
from tests.table import each

TORCH_AXES = {1: (0,), 2: (1, 0), 4: (3, 2, 0, 1)}
NUM_CLASSES = 7


@pytest.fixture(autouse=True, scope="module")
def table():
  with tiny_models.in_table():
    yield


def torch_tensors(name, naming=None):
  """Random tensors under the names of a file, with a classifier or without."""
  spec = registry.MODELS[name]
  naming = naming or spec.torch_name
  assert naming is not None
  rng = np.random.default_rng(0)
  variables = tiny_models.draw(tiny_models.make_template(spec.module()))
  if naming in (resnet.torchvision_name, mobilenet.torchvision_name):
    variables["head"] = {
      "kernel": np.float32(rng.normal(size=(spec.dim, NUM_CLASSES))),
      "bias": np.float32(rng.normal(size=NUM_CLASSES)),
    }
  tensors = {}
  flat: dict[tuple[str, ...], Any] = traverse_util.flatten_dict(variables)
  for path, leaf in flat.items():
    if path[-1] == "kernel":
      leaf = leaf.transpose(TORCH_AXES[leaf.ndim])
    names = naming(path)
    names = [names] if isinstance(names, str) else names
    for part, tensor in zip(names, np.split(leaf, len(names)), strict=True):
      tensors[part] = tensor.copy()
  return tensors


@pytest.fixture(scope="module")
def tensors():
  """Random MobileNetV2 weights and 7 classes, as in a PyTorch file."""
  return torch_tensors("tiny_mobilenet")


@pytest.fixture
def write(tmp_path):
  """Writes tensors to a file and returns its path."""

  def write_tensors(tensors, name="w.safetensors"):
    safetensors.numpy.save_file(tensors, tmp_path / name)
    return str(tmp_path / name)

  return write_tensors


def create(weights, name="tiny_mobilenet"):
  return loading.create(name, weights=weights, image_size=32)


def without(tensors, *names):
  return {name: tensors[name] for name in tensors if name not in names}


class TestCreate:
  def test_normalizes_uint8_and_float_images(self, tensors, write):
    backbone = create(write(tensors))
    images = tiny_models.IMAGES
    floats = images.astype(np.float32)
    apply = jax.jit(backbone.apply)
    features = apply(backbone.variables, images)
    expected, _ = tiny_models.run(
      "mobilenet", floats / 127.5 - 1.0, variables_=backbone.variables
    )
    assert features.shape == (3, backbone.dim)
    np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(apply(backbone.variables, floats), features)

  def test_classifier_becomes_the_head(self, tensors, write):
    head = create(write(tensors)).head
    assert head is not None
    np.testing.assert_array_equal(head.kernel, tensors["classifier.weight"].T)
    np.testing.assert_array_equal(head.bias, tensors["classifier.bias"])

  def test_file_without_classifier_has_no_head(self, tensors, write):
    first = create(write(tensors))
    file = write(without(tensors, "classifier.weight", "classifier.bias"))
    second = create(file)
    assert second.head is None
    assert second.fingerprint == first.fingerprint

  @each("missing", ["classifier.weight", "classifier.bias"])
  def test_rejects_half_a_classifier(self, tensors, write, missing):
    with pytest.raises(ValueError, match=f"1 missing: {missing}"):
      create(write(without(tensors, missing)))

  def test_rejects_classifier_of_other_features(self, tensors, write):
    weight = np.zeros((7, 512), np.float32)
    file = write(tensors | {"classifier.weight": weight})
    with pytest.raises(ValueError, match=r"float\[7, 12\], got float32\[7, 5"):
      create(file)

  def test_rejects_weights_of_another_model(self, write):
    other = {"conv1.weight": np.zeros(2), "layer1.0.conv1.weight": np.zeros(2)}
    with pytest.raises(ValueError, match="another model") as error:
      create(write(other, "resnet.safetensors"))
    assert "tiny_mobilenet in " in str(error.value)
    assert "resnet.safetensors" in str(error.value)
    assert "2 left over: conv1.weight, layer1.0.conv1" in str(error.value)
    assert "38 missing: features." in str(error.value)

  @each(
    "name, options, message",
    [
      ("mobilnet", {}, "Unknown model 'mobilnet'; expected"),
      (
        "small_cnn",
        {"dtype": "float16"},
        "'float16'; expected one of ['bfloat16', 'float32'].",
      ),
      ("small_cnn", {"weights": "hf://repo"}, "got 'hf://repo'"),
      ("small_cnn", {"image_size": 31}, "`image_size` >= 32, got 31"),
      ("resnet18", {}, "`config.model.weights` to name a loc"),
      ("resnet18", {"weights": "gs://b/w.pth"}, "got gs://b/w.pth: pickled"),
    ],
  )
  def test_rejects_option(self, name, options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
      loading.create(name, **{"image_size": 32, **options})

  def test_rejects_pickled_file_of_the_hub_before_any_download(
    self, monkeypatch
  ):
    monkeypatch.setattr(hub, "fetch", None)
    with pytest.raises(ValueError, match="'w.pth' of 'o/r' at .*: pickled"):
      loading.create("resnet18", weights="hf://o/r/w.pth", image_size=32)

  @each(
    "name, naming, ignored, has_head",
    [
      ("tiny_resnet", "torch_name", ["layer1.0.bn1.num_batches_tracked"], True),
      ("tiny_vit", "torch_name", ["head.weight", "head.bias"], False),
      (
        "tiny_vit",
        "hugging_face_name",
        ["pooler.dense.weight", "pooler.dense.bias"],
        False,
      ),
      ("tiny_dinov2_reg", "torch_name", ["mask_token"], False),
      ("tiny_dinov2", "hugging_face_name", ["embeddings.mask_token"], False),
    ],
  )
  def test_ignorable_tensors_change_nothing(
    self, write, name, naming, ignored, has_head
  ):
    naming = getattr(registry.MODELS[name], naming)
    tensors = torch_tensors(name, naming)
    first = create(write(tensors), name)
    tensors |= {extra: np.zeros((7, 192), np.float32) for extra in ignored}
    second = create(write(tensors), name)
    assert second.fingerprint == first.fingerprint
    assert (second.head is not None) == has_head

  def test_ignorable_names_of_one_model_are_refused_by_another(self, write):
    mask = {"mask_token": np.zeros((1, 384), np.float32)}
    file = write(torch_tensors("tiny_resnet") | mask)
    with pytest.raises(ValueError, match="got 1 left over: mask_token"):
      create(file, "tiny_resnet")

  def test_own_format_of_a_foreign_model_loads_back(self, tensors, write):
    backbone = create(write(tensors))
    assert backbone.head is not None
    own = write({})
    pretrained.save_safetensors(
      own, {**backbone.variables, "head": backbone.head._asdict()}
    )
    loaded = create(own)
    assert loaded.head is not None
    assert loaded.fingerprint == backbone.fingerprint
    np.testing.assert_array_equal(loaded.head.kernel, backbone.head.kernel)
    np.testing.assert_array_equal(loaded.head.bias, backbone.head.bias)

  def test_own_format_keeps_statistics(self, write):
    backbone = create(write(torch_tensors("tiny_resnet")), "tiny_resnet")
    own = write({})
    pretrained.save_safetensors(own, backbone.variables)
    loaded = create(own, "tiny_resnet")
    assert loaded.fingerprint == backbone.fingerprint
    assert "batch_stats" in loaded.variables

  def test_fingerprint_follows_name_weights_and_type(self, tensors, write):
    first = create(write(tensors)).fingerprint
    bias = tensors["features.18.0.bias"]
    changed = tensors | {"features.18.0.bias": np.nextafter(bias, 1)}
    assert create(write(tensors, "copy.file")).fingerprint == first
    assert create(write(changed)).fingerprint != first
    brain = loading.create(
      "tiny_mobilenet", weights=write(tensors), image_size=32, dtype="bfloat16"
    )
    assert brain.fingerprint != first
    jax.tree.map(
      np.testing.assert_array_equal,
      brain.variables,
      create(write(tensors)).variables,
    )

  def test_timm_file_with_registers_loads(self, write):
    name = "tiny_dinov2_reg"
    tensors = torch_tensors(name)
    timm = torch_models.timm_state(tensors)
    assert timm["pos_embed"].shape == (1, 100, 24)
    params = create(write(timm), name).variables["params"]
    first = params["cls_token"] + params["pos_embed"][:, :1]
    expected = tensors["cls_token"] + tensors["pos_embed"][:, :1]
    np.testing.assert_array_equal(first, expected)
    np.testing.assert_array_equal(
      params["register_tokens"], tensors["register_tokens"]
    )

  def test_timm_file_with_registers_is_refused_without_them(self, write):
    file = write(torch_models.timm_state(torch_tensors("tiny_dinov2_reg")))
    with pytest.raises(ValueError, match="another model.*tiny_dinov2_reg"):
      create(file, "tiny_dinov2")

  def test_weights_of_colors_are_widened_to_more_bands(self, tensors, write):
    file = write(tensors)
    colors, bands = (
      loading.create(
        "tiny_mobilenet", weights=file, image_size=32, num_bands=num_bands
      )
      for num_bands in (3, 6)
    )
    old, new = (
      model.variables["params"]["stem"]["kernel"] for model in (colors, bands)
    )
    expected = np.asarray(old).mean(axis=2, keepdims=True) * 3 / 6
    assert new.shape == (3, 3, 6, 4)
    np.testing.assert_allclose(
      new, np.broadcast_to(expected, new.shape), rtol=1e-6
    )
    own = write({})
    pretrained.save_safetensors(own, bands.variables)
    again = loading.create(
      "tiny_mobilenet", weights=own, image_size=32, num_bands=6
    )
    assert again.fingerprint == bands.fingerprint
    gray = np.full((3, 32, 26, 1), 90.0, np.float32)
    features = [
      jax.jit(model.apply)(model.variables, np.repeat(gray, num_bands, axis=-1))
      for model, num_bands in ((colors, 3), (bands, 6))
    ]
    np.testing.assert_allclose(features[1], features[0], rtol=1e-3, atol=1e-5)

  def test_small_cnn_ships_its_weights(self):
    backbone = loading.create("small_cnn", image_size=64)
    expected = pretrained.read_safetensors(
      loading._WEIGHTS_DIR / "small_cnn.safetensors"
    )
    np.testing.assert_array_equal(
      backbone.variables["params"]["stem"]["kernel"],
      expected["params.stem.kernel"],
    )


class TestCreateRandom:
  def test_follows_from_the_seed(self):
    first, again, other = (
      models.create(
        "tiny_resnet", weights="random", seed=seed, image_size=32
      ).variables
      for seed in (1, 1, 2)
    )
    jax.tree.map(np.testing.assert_array_equal, first, again)
    flat: dict[str, Any] = traverse_util.flatten_dict(first, sep=".")
    others: dict[str, Any] = traverse_util.flatten_dict(other, sep=".")
    kernels = [path for path in flat if path.endswith("kernel")]
    assert all(np.not_equal(flat[path], others[path]).any() for path in kernels)

  @each("num_bands", [3, 5])
  def test_has_the_features_of_the_loaded_model(self, num_bands, tmp_path):
    options = {"image_size": 32, "num_bands": num_bands}
    random = models.create(
      "tiny_mobilenet", weights="random", seed=3, **options
    )
    path = tmp_path / "weights.safetensors"
    pretrained.save_safetensors(path, random.variables)
    loaded = models.create("tiny_mobilenet", weights=path, seed=0, **options)
    kernel = random.variables["params"]["stem"]["kernel"]
    assert kernel.shape == (3, 3, num_bands, 4)
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 26, num_bands))
    images = images.astype(np.uint8)
    found, expected = (
      jax.jit(model.apply)(random.variables, images)
      for model in (random, loaded)
    )
    np.testing.assert_array_equal(found, expected)
    assert random.dim == loaded.dim
    assert random.head is None

  def test_bands_are_normalized_alike(self):
    model = models.create(
      "tiny_mobilenet", weights="random", seed=0, image_size=32, num_bands=5
    )
    gray = np.full((3, 32, 26, 5), 127.5, np.float32)
    features = jax.jit(model.apply)(model.variables, gray)
    np.testing.assert_allclose(features, 0, atol=1e-6)

  def test_fingerprints_differ_where_features_do(self):
    settings = [
      {"seed": 0},
      {"seed": 1},
      {"seed": 0, "dtype": "bfloat16"},
      {"seed": 0, "num_bands": 4},
    ]
    found = {
      models.create(
        "tiny_mobilenet", weights="random", image_size=32, **setting
      ).fingerprint
      for setting in settings
    }
    assert len(found) == len(settings)

  @each(
    "name, options, message",
    [
      ("resnet19", {}, "Unknown model 'resnet19'"),
      ("small_cnn", {"dtype": "float16"}, "Unknown dtype 'float16'"),
      ("small_cnn", {"image_size": 31}, "`image_size` >= 32, got 31"),
    ],
  )
  def test_rejects_option(self, name, options, message):
    with pytest.raises(ValueError, match=message):
      models.create(
        name, weights="random", seed=0, **{"image_size": 32, **options}
      )


class TestMissingFile:
  def test_message_says_where_the_weights_are_published(self, tmp_path):
    expected = r"no such file\. Download https://.*resnet50_pretrain\.pth to"
    with pytest.raises(ValueError, match=expected):
      models.create(
        "resnet50", weights=tmp_path / "dino.safetensors", image_size=32
      )

  def test_message_converts_the_pickled_file_that_is_there(self, tmp_path):
    (tmp_path / "dino.pth").touch()
    expected = r"got .*dino\.pth: pickled.* to .*dino\.safetensors with: python"
    with pytest.raises(ValueError, match=expected):
      models.create(
        "resnet50", weights=tmp_path / "dino.safetensors", image_size=32
      )

  @each(
    "weights", ["timm/resnet18.a1_in1k", "https://huggingface.co/timm/resnet18"]
  )
  def test_message_shows_the_form_of_a_name_on_the_hub(self, weights):
    expected = f"hf://owner/repo.*, got {weights}"
    with pytest.raises(ValueError, match=expected):
      models.create("resnet18", weights=weights, image_size=32)


class TestWrongFile:
  @each("prefix", ["module.", "backbone.", "module.model."])
  def test_prefix_of_a_wrapper_is_removed(self, tensors, write, prefix):
    wrapped = {f"{prefix}{name}": value for name, value in tensors.items()}
    found = create(write(wrapped, "wrapped.safetensors")).fingerprint
    assert found == create(write(tensors)).fingerprint

  def test_classifier_of_hugging_face_is_left_out(self, write):
    naming = vit.hugging_face_vit_name
    plain = torch_tensors("tiny_vit", naming)
    wrapped = {f"vit.{name}": value for name, value in plain.items()}
    wrapped["classifier.weight"] = np.zeros((3, 24), np.float32)
    wrapped["classifier.bias"] = np.zeros(3, np.float32)
    found = create(write(wrapped, "wrapped.safetensors"), "tiny_vit")
    expected = create(write(plain), "tiny_vit")
    assert found.head is None
    assert found.fingerprint == expected.fingerprint

  @each("value", [np.nan, np.inf])
  def test_rejects_values_that_are_not_finite(self, tensors, write, value):
    name = "features.0.0.weight"
    damaged = tensors[name].copy()
    damaged[0, 0, 0, 0] = value
    expected = "finite weights of tiny_mobilenet.*infinity in features.0.0.weig"
    with pytest.raises(ValueError, match=expected):
      create(write({**tensors, name: damaged}))

  def test_rejects_values_beyond_float32(self, tensors, write):
    name = "features.0.0.bias"
    large = np.full_like(tensors[name], 1e300, np.float64)
    with pytest.raises(ValueError, match="infinity in features.0.0.bias"):
      create(write({**tensors, name: large}))

  def test_rejects_negative_variance(self, write):
    tensors = torch_tensors("tiny_resnet")
    tensors["bn1.running_var"][0] = -0.5
    expected = "at least 0 of tiny_resnet .*-0.5 in bn1.running_var"
    with pytest.raises(ValueError, match=expected):
      create(write(tensors), "tiny_resnet")

  def test_message_names_the_model_of_the_table_that_fits(self, write):
    file = write(torch_tensors("tiny_resnet"))
    expected = "another model: set `config.model.name` to tiny_resnet"
    with pytest.raises(ValueError, match=expected):
      create(file)

  @each(
    "content, expected",
    [
      (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS"),
      (b"PK\x03\x04rest", "a pickled file of PyTorch"),
      (b"\x80\x02rest", "a pickled file of PyTorch"),
      (b"<!DOCTYPE html>", "a web page"),
      (b"\x00", "header too small"),
    ],
  )
  def test_message_says_what_the_file_is(self, tmp_path, content, expected):
    file = tmp_path / "w.safetensors"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=f"w.safetensors: .*{expected}"):
      create(file)
