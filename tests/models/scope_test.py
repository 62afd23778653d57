"""Tests of the names of what is trained."""

from flax import traverse_util
import jax
import jax.numpy as jnp
import pytest

from decern_jax.models import registry, scope
from tests.table import each


def make_params(name):
  module = registry.MODELS[name].module()
  images = jnp.zeros((1, 32, 32, 3))
  return jax.eval_shape(lambda: module.init(jax.random.key(0), images))[
    "params"
  ]


def trained(name, scope_name):
  """The dotted paths that train, and those that do not."""
  mask = scope.trainable_mask(name, make_params(name), scope_name)
  flat = traverse_util.flatten_dict(mask, sep=".")
  return {path for path in flat if flat[path]}, {
    path for path in flat if not flat[path]
  }


class TestTrainableMask:
  @each("name", registry.MODELS)
  @each("scope_name", scope.SCOPES)
  def test_has_the_structure_of_the_parameters(self, name, scope_name):
    params = make_params(name)
    mask = scope.trainable_mask(name, params, scope_name)
    assert jax.tree.structure(mask) == jax.tree.structure(params)
    assert {type(leaf) for leaf in jax.tree.leaves(mask)} == {bool}

  @each("name", registry.MODELS)
  def test_head_is_nothing_and_all_is_everything(self, name):
    assert trained(name, "head")[0] == set()
    assert trained(name, "all")[1] == set()

  @each("name", ["resnet18", "resnet50", "resnet101"])
  def test_published_resnet_trains_its_last_stage(self, name):
    free, frozen = trained(name, "published")
    assert all(path.startswith("layer4_") for path in free)
    assert not any(path.startswith("layer4_") for path in frozen)
    assert {"layer4_0.bn1.scale", "layer4_0.downsample_0.kernel"} <= free

  @each("name", ["vit_tiny16", "vit_small16", "vit_base16"])
  def test_published_transformer_trains_its_last_norms(self, name):
    assert trained(name, "published")[0] == {
      f"{layer}.{leaf}"
      for layer in ("blocks_11.norm1", "blocks_11.norm2", "norm")
      for leaf in ("scale", "bias")
    }

  @each("name", [name for name in registry.MODELS if name.startswith("dinov2")])
  def test_published_dinov2_is_frozen(self, name):
    assert trained(name, "published")[0] == set()

  def test_published_mobilenet_trains_its_last_layers(self):
    assert trained("mobilenet_v2", "published")[0] == {
      f"{layer}.{leaf}"
      for layer in (
        "block17.expand",
        "block17.depthwise",
        "block17.project",
        "last",
      )
      for leaf in ("kernel", "bias")
    }

  def test_published_small_cnn_trains_stage_and_projection(self):
    assert trained("small_cnn", "published")[0] == {
      f"{layer}.{leaf}"
      for layer in ("reduce2", "expand2", "refine2", "project")
      for leaf in ("kernel", "bias")
    }

  def test_rejects_unknown_scope(self):
    with pytest.raises(
      ValueError,
      match=r"training scope 'last'; expected one of \['all', 'head', 'publ",
    ):
      scope.trainable_mask("small_cnn", make_params("small_cnn"), "last")

  def test_rejects_unknown_model(self):
    with pytest.raises(ValueError, match="Unknown model 'resnet9'"):
      scope.trainable_mask("resnet9", {}, "all")
