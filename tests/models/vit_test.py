"""Tests of the vision transformers against PyTorch's."""

import re

from flax import traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from decern_jax.models import pretrained, registry, vit, vit_naming
from tests.models import precision, torch_models
from tests.table import each

SIZES = {
  "width": 24,
  "num_heads": 3,
  "patch_size": 4,
  "grid_size": 6,
  "depth": 5,
}
DINOV2 = {"use_layer_scale": True, "use_patch_mean": True}
MODULES = {
  "ViT": vit.VisionTransformer(**SIZES),
  "Dinov2": vit.VisionTransformer(**SIZES, **DINOV2),
  "Dinov2WithRegisters": vit.VisionTransformer(
    **SIZES, **DINOV2, num_registers=4, grid_offset=0.0, antialias=True
  ),
}


@pytest.fixture(scope="module")
def torch():
  return pytest.importorskip("torch")


@pytest.fixture(scope="module", params=MODULES)
def kind(request):
  return request.param


@pytest.fixture(scope="module")
def torch_model(torch, kind):
  """A model of `transformers` with random weights and DINO's positions."""
  transformers = pytest.importorskip("transformers")
  config = getattr(transformers, f"{kind}Config")(
    hidden_size=24,
    num_hidden_layers=5,
    num_attention_heads=3,
    intermediate_size=96,
    patch_size=4,
    image_size=24,
    layer_norm_eps=1e-6,
  )
  options = {"add_pooling_layer": False} if kind == "ViT" else {}
  model = getattr(transformers, f"{kind}Model")(config, **options)
  if not MODULES[kind].num_registers:
    torch_models.set_positions(torch, model, offset=0.1)
  return torch_models.randomise(torch, model)


@pytest.fixture(scope="module")
def saved(torch_model, tmp_path_factory):
  """The tensors as a file on the Hub names them."""
  folder = tmp_path_factory.mktemp("saved")
  return torch_models.saved_state(torch_model, folder)


def hugging_face_name(kind):
  if kind == "ViT":
    return vit_naming.hugging_face_vit_name
  return vit_naming.hugging_face_dinov2_name


def make_template(module):
  return jax.eval_shape(
    lambda: module.init(jax.random.key(0), jnp.zeros((1, 28, 28, 3)))
  )


def draw(module):
  """Random variables of a module."""
  rng = np.random.default_rng(0)
  return jax.tree.map(
    lambda leaf: rng.normal(size=leaf.shape).astype(np.float32),
    make_template(module),
  )


def dino_tensors(variables):
  """The variables under DINO's names, in PyTorch's layouts."""
  axes = {2: (1, 0), 4: (3, 2, 0, 1)}
  return {
    vit_naming.dino_name(path): leaf.transpose(axes[leaf.ndim]).copy()
    if path[-1] == "kernel"
    else leaf
    for path, leaf in traverse_util.flatten_dict(variables).items()
  }


def load(kind, tensors, naming):
  return pretrained.to_variables(
    pretrained.without(tensors, vit_naming.DINOV2_IGNORABLE),
    make_template(MODULES[kind]),
    torch_name=naming,
    source="the test",
  )


class TestVisionTransformer:
  @each("shape", [(24, 24), (16, 16), (40, 33)])
  def test_features_agree_with_pytorch(
    self, torch, torch_model, saved, kind, shape
  ):
    images = torch_models.make_images(2, *shape)
    module = MODULES[kind]
    options = {"interpolate_pos_encoding": True} if kind == "ViT" else {}
    expected = torch_models.vit_features(
      torch,
      torch_model,
      images,
      use_patch_mean=module.use_patch_mean,
      **options,
    )
    variables = load(kind, saved, hugging_face_name(kind))
    features = jax.jit(module.apply)(variables, images)
    assert features.shape == expected.shape
    assert torch_models.relative_error(features, expected) < 1e-5

  def test_pixels_beyond_whole_patches_do_not_matter(self):
    module = MODULES["ViT"]
    variables = draw(module)
    images = torch_models.make_images(2, 19, 18)
    apply = jax.jit(module.apply)
    np.testing.assert_array_equal(
      apply(variables, images), apply(variables, images[:, :16, :16])
    )

  def test_layer_scale_of_zero_leaves_tokens_alone(self):
    module = MODULES["Dinov2"]
    variables = draw(module)
    silent = jax.tree.map_with_path(
      lambda path, leaf: leaf * 0 if path[-1].key == "gamma" else leaf,
      variables,
    )
    images = torch_models.make_images(2, 24, 24)
    features = jax.jit(module.apply)(silent, images)
    params = variables["params"]
    token = params["cls_token"][0, 0] + params["pos_embed"][0, 0]
    token = (token - token.mean()) / token.std()
    token = token * params["norm"]["scale"] + params["norm"]["bias"]
    expected = np.tile(token, (2, 4))
    np.testing.assert_allclose(features[:, :96], expected, rtol=1e-4, atol=1e-5)

  def test_bfloat16_is_close_to_float32(self, kind):
    precision.check_bfloat16(MODULES[kind])

  def test_gradient_of_bfloat16_is_close_to_float32s(self, kind):
    precision.check_bfloat16_gradient(MODULES[kind])


class TestNaming:
  def test_both_namings_load_the_same_variables(self, saved, kind):
    dino = torch_models.dino_state(saved)
    jax.tree.map(
      np.testing.assert_array_equal,
      load(kind, dino, vit_naming.dino_name),
      load(kind, saved, hugging_face_name(kind)),
    )

  def test_naming_is_found_from_the_names(self, saved, kind):
    template = make_template(MODULES[kind])
    theirs = hugging_face_name(kind)
    namings = (vit_naming.dino_name, theirs, None)
    dino = torch_models.dino_state(saved)
    assert pretrained.find_naming(saved, template, namings) is theirs
    found = pretrained.find_naming(dino, template, namings)
    assert found is vit_naming.dino_name

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
    assert vit_naming.dino_name(path) == name


class TestLoading:
  def test_rejects_missing_query(self, saved, kind):
    name = "encoder.layer.3.attention.attention.query.weight"
    rest = {key: saved[key] for key in saved if key != name}
    with pytest.raises(ValueError, match=f"got 1 missing: {name}"):
      load(kind, rest, hugging_face_name(kind))

  def test_rejects_timm_registers_of_another_model(self, saved, kind):
    plain = "ViT" if kind == "ViT" else "Dinov2"
    extra = {"reg_token": np.zeros((1, 4, 24), np.float32)}
    with pytest.raises(ValueError, match="left over: .*reg_token"):
      load(plain, torch_models.dino_state(saved) | extra, vit_naming.dino_name)

  def test_rejects_registers_of_another_model(self, saved, kind):
    plain = "ViT" if kind == "ViT" else "Dinov2"
    extra = {"register_tokens": np.zeros((1, 4, 24), np.float32)}
    dino = torch_models.dino_state(saved) | extra
    with pytest.raises(ValueError, match="1 left over: register_tokens"):
      load(plain, dino, vit_naming.dino_name)

  def test_rejects_positions_of_another_image_size(self, saved, kind):
    dino = torch_models.dino_state(saved)
    dino["pos_embed"] = dino["pos_embed"][:, :-1]
    message = "pos_embed (expected float[1, 37, 24], got float32[1, 36, 24])"
    with pytest.raises(ValueError, match=re.escape(message)):
      load(kind, dino, vit_naming.dino_name)


class TestFromTimmRegisters:
  def test_features_are_those_of_dinov2s_file(self):
    kind = "Dinov2WithRegisters"
    variables = precision.draw(MODULES[kind], 24)
    timm = torch_models.timm_state(dino_tensors(variables))
    assert timm["pos_embed"].shape == (1, 36, 24)
    converted = load(
      kind, vit_naming.from_timm_registers(timm), vit_naming.dino_name
    )
    images = torch_models.make_images(2, 16, 24)
    apply = jax.jit(MODULES[kind].apply)
    error = torch_models.relative_error(
      apply(converted, images), apply(variables, images)
    )
    assert error < 1e-5

  def test_class_token_has_position_zero(self):
    tensors = {
      "reg_token": np.ones((1, 4, 2), np.float16),
      "pos_embed": np.ones((1, 9, 2), np.float16),
      "norm.bias": np.ones(2, np.float16),
    }
    renamed = vit_naming.from_timm_registers(tensors)
    assert renamed.keys() == {"register_tokens", "pos_embed", "norm.bias"}
    assert renamed["pos_embed"].dtype == np.float16
    np.testing.assert_array_equal(renamed["pos_embed"][:, 0], 0)
    np.testing.assert_array_equal(
      renamed["pos_embed"][:, 1:], tensors["pos_embed"]
    )

  def test_leaves_other_files_alone(self, saved):
    dino = torch_models.dino_state(saved)
    renamed = vit_naming.from_timm_registers(dino)
    assert renamed.keys() == dino.keys()
    for name in dino:
      assert renamed[name] is dino[name]

  def test_missing_positions_stay_missing(self):
    renamed = vit_naming.from_timm_registers({"reg_token": np.ones((1, 4, 2))})
    assert renamed.keys() == {"register_tokens"}


class TestPublishedSizes:
  @each(
    "name, num_parameters",
    [
      ("vit_tiny16", 5_524_416),
      ("vit_small16", 21_665_664),
      ("vit_base16", 85_798_656),
      ("dinov2_small14", 22_056_192),
      ("dinov2_base14", 86_579_712),
      ("dinov2_small14_reg", 22_056_192 + 4 * 384),
      ("dinov2_base14_reg", 86_579_712 + 4 * 768),
    ],
  )
  def test_parameters_are_as_many_as_published(self, name, num_parameters):
    template = make_template(registry.MODELS[name].module())
    num_found = sum(leaf.size for leaf in jax.tree.leaves(template))
    assert num_found == num_parameters

  def test_feature_dims_are_those_of_the_paper(self):
    dims = {name: spec.dim for name, spec in registry.MODELS.items()}
    assert dims["resnet50"] == 2048
    assert dims["vit_small16"] == 1536
    assert dims["dinov2_small14"] == 1920
