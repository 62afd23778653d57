"""Tests of the vision transformers against NumPy's and PyTorch's."""

import re
from typing import Any

from flax import traverse_util
import jax
import numpy as np
import pytest

from decern_jax.models import pretrained
from decern_jax.models.backbones import vit
from tests.models import numpy_networks, published, tiny_models, torch_models
from tests.table import each

# The classes of `transformers`, and our names of the same networks.
KINDS = {"ViT": "vit", "Dinov2": "dinov2", "Dinov2WithRegisters": "dinov2_reg"}
NAMES = tuple(KINDS.values())


def hugging_face_name(name):
  if name == "vit":
    return vit.hugging_face_vit_name
  return vit.hugging_face_dinov2_name


def tensors_of(name, naming):
  """Random variables under the names of a file, in PyTorch's layouts."""
  axes = {2: (1, 0), 4: (3, 2, 0, 1)}
  tensors = {}
  flat: dict[tuple[str, ...], Any] = traverse_util.flatten_dict(
    tiny_models.variables(name)
  )
  for path, leaf in flat.items():
    if path[-1] == "kernel":
      leaf = leaf.transpose(axes[leaf.ndim])
    names = naming(path)
    if isinstance(names, str):
      tensors[names] = leaf
    else:
      tensors |= dict(zip(names, np.split(leaf, len(names)), strict=True))
  return tensors


def load(name, tensors, naming):
  return pretrained.to_variables(
    pretrained.without(tensors, vit.DINOV2_IGNORABLE),
    tiny_models.shapes(name),
    torch_name=naming,
    source="the test",
  )


class TestVisionTransformer:
  @each("name", NAMES)
  def test_matches_the_network_of_the_papers(self, name):
    features, kept = tiny_models.run(name)
    module = tiny_models.MODULES[name]
    # Pixels beyond the last whole patch are no part of any.
    expected, stages = numpy_networks.vision_transformer(
      module,
      tiny_models.variables(name)["params"],
      tiny_models.normalized()[:, :32, :24],
    )
    assert features.dtype == np.float32
    assert tiny_models.relative_error(features, expected) < 1e-5
    found = kept["intermediates"]["stages"]
    for one, other in zip(found, stages, strict=True):
      assert tiny_models.relative_error(one, other) < 1e-5
    if module.use_patch_mean:
      # Every part by itself: the mean patch is the smallest of all.
      parts = zip(
        np.split(np.asarray(features), 5, axis=1),
        np.split(expected, 5, axis=1),
        strict=True,
      )
      for one, other in parts:
        assert tiny_models.relative_error(one, other) < 1e-4

  def test_bfloat16_is_close_to_float32(self):
    tiny_models.check_bfloat16("dinov2_reg")

  def test_gradient_of_bfloat16_is_close_to_float32s(self):
    module = tiny_models.MODULES["dinov2_reg"].clone(depth=1)
    tiny_models.check_bfloat16_gradient(module)


@pytest.fixture(scope="module", params=KINDS)
def torch_model(torch, request):
  """A kind, and a model of random weights and DINO's positions."""
  transformers = pytest.importorskip("transformers")
  kind = request.param
  config = getattr(transformers, f"{kind}Config")(
    hidden_size=24,
    num_hidden_layers=5 if kind == "ViT" else 4,
    num_attention_heads=3,
    intermediate_size=96,
    patch_size=4,
    image_size=40,
    layer_norm_eps=1e-6,
  )
  options = {"add_pooling_layer": False} if kind == "ViT" else {}
  model = getattr(transformers, f"{kind}Model")(config, **options)
  if kind != "Dinov2WithRegisters":
    torch_models.set_positions(torch, model, offset=0.1)
  return kind, torch_models.randomise(torch, model)


class TestPyTorch:
  def test_features_agree_under_both_namings(
    self, torch, torch_model, tmp_path
  ):
    kind, model = torch_model
    name = KINDS[kind]
    images = tiny_models.normalized()
    options = {"interpolate_pos_encoding": True} if kind == "ViT" else {}
    expected = torch_models.vit_features(
      torch, model, images, use_patch_mean=kind != "ViT", **options
    )
    saved = torch_models.saved_state(model, tmp_path)
    variables = load(name, saved, hugging_face_name(name))
    features, _ = tiny_models.run(name, variables_=variables)
    assert tiny_models.relative_error(features, expected) < 1e-5
    dino = torch_models.dino_state(saved)
    jax.tree.map(
      np.testing.assert_array_equal, load(name, dino, vit.dino_name), variables
    )


class TestNaming:
  @each("name", NAMES)
  def test_both_namings_load_the_same_variables(self, name):
    for naming in (vit.dino_name, hugging_face_name(name)):
      tensors = tensors_of(name, naming)
      jax.tree.map(
        np.testing.assert_array_equal,
        load(name, tensors, naming),
        tiny_models.variables(name),
      )
      namings = (vit.dino_name, hugging_face_name(name), None)
      found = pretrained.find_naming(tensors, tiny_models.shapes(name), namings)
      assert found is naming

  @each(
    "path, name",
    [
      (("params", "cls_token"), "cls_token"),
      (("params", "pos_embed"), "pos_embed"),
      (("params", "register_tokens"), "register_tokens"),
      (("params", "patch_embed", "kernel"), "patch_embed.proj.weight"),
      (("params", "blocks_0", "norm1", "scale"), "blocks.0.norm1.weight"),
      (
        ("params", "blocks_11", "attn", "qkv", "kernel"),
        "blocks.11.attn.qkv.weight",
      ),
      (
        ("params", "blocks_0", "attn", "proj", "bias"),
        "blocks.0.attn.proj.bias",
      ),
      (("params", "blocks_0", "ls1", "gamma"), "blocks.0.ls1.gamma"),
      (("params", "norm", "bias"), "norm.bias"),
      (("head", "kernel"), "head.weight"),
    ],
  )
  def test_names_are_those_of_dino(self, path, name):
    assert vit.dino_name(path) == name

  @each(
    "path, of_vit, of_dinov2",
    [
      (("head", "bias"), "classifier.bias", "classifier.bias"),
      (("params", "cls_token"), "embeddings.cls_token", "embeddings.cls_token"),
      (
        ("params", "pos_embed"),
        "embeddings.position_embeddings",
        "embeddings.position_embeddings",
      ),
      (
        ("params", "patch_embed", "kernel"),
        "embeddings.patch_embeddings.projection.weight",
        "embeddings.patch_embeddings.projection.weight",
      ),
      (("params", "norm", "scale"), "layernorm.weight", "layernorm.weight"),
      (
        ("params", "blocks_11", "norm1", "scale"),
        "encoder.layer.11.layernorm_before.weight",
        "encoder.layer.11.norm1.weight",
      ),
      (
        ("params", "blocks_0", "mlp", "fc2", "kernel"),
        "encoder.layer.0.output.dense.weight",
        "encoder.layer.0.mlp.fc2.weight",
      ),
      (
        ("params", "blocks_0", "attn", "proj", "bias"),
        "encoder.layer.0.attention.output.dense.bias",
        "encoder.layer.0.attention.output.dense.bias",
      ),
      (
        ("params", "blocks_2", "ls2", "gamma"),
        "encoder.layer.2.layer_scale2.lambda1",
        "encoder.layer.2.layer_scale2.lambda1",
      ),
    ],
  )
  def test_names_are_those_of_hugging_face(self, path, of_vit, of_dinov2):
    assert vit.hugging_face_vit_name(path) == of_vit
    assert vit.hugging_face_dinov2_name(path) == of_dinov2


class TestLoading:
  def test_rejects_missing_query(self):
    naming = hugging_face_name("dinov2")
    tensors = tensors_of("dinov2", naming)
    name = "encoder.layer.3.attention.attention.query.weight"
    del tensors[name]
    with pytest.raises(ValueError, match=f"got 1 missing: {name}"):
      load("dinov2", tensors, naming)

  @each("name", ["vit", "dinov2"])
  @each("extra", ["reg_token", "register_tokens"])
  def test_rejects_registers_of_another_model(self, name, extra):
    tensors = tensors_of(name, vit.dino_name)
    tensors[extra] = np.zeros((1, 4, 24), np.float32)
    with pytest.raises(ValueError, match=f"1 left over: {extra}"):
      load(name, tensors, vit.dino_name)

  def test_rejects_positions_of_another_image_size(self):
    tensors = tensors_of("vit", vit.dino_name)
    tensors["pos_embed"] = tensors["pos_embed"][:, :-1]
    message = "pos_embed (expected float[1, 101, 24], got float32[1, 100, 24])"
    with pytest.raises(ValueError, match=re.escape(message)):
      load("vit", tensors, vit.dino_name)


class TestFromTimmRegisters:
  def test_features_are_those_of_dinov2s_file(self):
    timm = torch_models.timm_state(tensors_of("dinov2_reg", vit.dino_name))
    assert timm["pos_embed"].shape == (1, 100, 24)
    converted = load("dinov2_reg", vit.from_timm_registers(timm), vit.dino_name)
    features, _ = tiny_models.run("dinov2_reg", variables_=converted)
    expected, _ = tiny_models.run("dinov2_reg")
    assert tiny_models.relative_error(features, expected) < 1e-5

  def test_class_token_has_position_zero(self):
    tensors = {
      "reg_token": np.ones((1, 4, 2), np.float16),
      "pos_embed": np.ones((1, 9, 2), np.float16),
      "norm.bias": np.ones(2, np.float16),
    }
    renamed = vit.from_timm_registers(tensors)
    assert renamed.keys() == {"register_tokens", "pos_embed", "norm.bias"}
    assert renamed["pos_embed"].dtype == np.float16
    np.testing.assert_array_equal(renamed["pos_embed"][:, 0], 0)
    np.testing.assert_array_equal(
      renamed["pos_embed"][:, 1:], tensors["pos_embed"]
    )

  def test_leaves_other_files_alone(self):
    tensors = tensors_of("dinov2_reg", vit.dino_name)
    renamed = vit.from_timm_registers(tensors)
    assert renamed.keys() == tensors.keys()
    assert all(renamed[name] is tensors[name] for name in tensors)

  def test_missing_positions_stay_missing(self):
    renamed = vit.from_timm_registers({"reg_token": np.ones((1, 4, 2))})
    assert renamed.keys() == {"register_tokens"}


class TestPublishedModules:
  @each(
    "name, patch_size, num_positions, num_registers",
    [
      ("vit_small16", 16, 14 * 14, 0),
      ("dinov2_small14", 14, 37 * 37, 0),
      ("dinov2_small14_reg", 14, 37 * 37, 4),
    ],
  )
  def test_tokens_are_those_of_the_papers(
    self, name, patch_size, num_positions, num_registers
  ):
    params = published.trace(name).variables["params"]
    assert params["patch_embed"]["kernel"].shape[:2] == (patch_size,) * 2
    assert params["pos_embed"].shape[1] == 1 + num_positions
    registers = params.get("register_tokens")
    found = 0 if registers is None else registers.shape[1]
    assert found == num_registers

  def test_only_models_with_registers_resize_by_pytorchs_antialiasing(self):
    plain, registers = vit.dinov2(384), vit.dinov2(384, num_registers=4)
    assert (plain.grid_offset, plain.antialias) == (0.1, False)
    assert (registers.grid_offset, registers.antialias) == (0.0, True)
    assert {plain.num_heads, registers.num_heads} == {384 // 64}
    assert (vit.dino(192).grid_offset, vit.dino(192).num_heads) == (0.1, 3)
