"""Tests of the table of models, and of what trains of each."""

import dataclasses
import re

from flax import traverse_util
import jax
import jax.numpy as jnp
import pytest

from decern_jax.models import registry
from tests.models import published
from tests.table import each

# Parameters of the published networks, without a classifier.
NUM_PARAMETERS = {
  "mobilenet_v2": 2_223_872 - 17_056,  # less the normalization that is folded
  "resnet18": 11_689_512 - 1000 * 513,
  "resnet34": 21_797_672 - 1000 * 513,
  "resnet50": 25_557_032 - 1000 * 2049,
  "resnet101": 44_549_160 - 1000 * 2049,
  "vit_tiny16": 5_524_416,
  "vit_small16": 21_665_664,
  "vit_base16": 85_798_656,
  "dinov2_small14": 22_056_192,
  "dinov2_base14": 86_579_712,
  "dinov2_small14_reg": 22_056_192 + 4 * 384,
  "dinov2_base14_reg": 86_579_712 + 4 * 768,
}
# One network of every family and form.
FAMILIES = (
  "mobilenet_v2",
  "resnet18",
  "resnet50",
  "small_cnn",
  "vit_tiny16",
  "dinov2_small14",
  "dinov2_small14_reg",
)


class TestModels:
  @each("name", registry.MODELS)
  def test_dims_are_those_of_the_module(self, name):
    spec = registry.MODELS[name]
    traced = published.trace(name)
    assert traced.features.shape == (2, spec.dim)
    assert traced.features.dtype == jnp.float32
    assert {len(stage.shape) for stage in traced.stages} <= {2, 4}
    found = tuple(stage.shape[-1] for stage in traced.stages)
    assert found == spec.stage_dims

  def test_features_are_as_long_as_in_the_papers(self):
    dims = {name: spec.dim for name, spec in registry.MODELS.items()}
    assert dims["resnet50"] == 2048
    assert dims["vit_small16"] == 1536
    assert dims["dinov2_small14"] == 1920

  @each("name", registry.MODELS)
  def test_parameters_are_float32_and_as_many_as_published(self, name):
    variables = published.trace(name).variables
    leaves = jax.tree.leaves(variables)
    assert {leaf.dtype for leaf in leaves} == {jnp.dtype("float32")}
    count = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    assert count == NUM_PARAMETERS.get(name, count)

  @each("name", FAMILIES)
  def test_variables_fit_any_image_size_and_type(self, name):
    expected = published.trace(name)
    traced = published.trace(name, 224, "bfloat16")
    assert traced.variables == expected.variables
    assert traced.features == expected.features

  def test_a_new_model_is_found(self, monkeypatch):
    monkeypatch.setattr(registry, "MODELS", dict(registry.MODELS))
    spec = dataclasses.replace(registry.MODELS["resnet18"], dim=3)
    registry.register("new", spec)
    assert registry.find_spec("new") is spec

  def test_rejects_a_second_model_of_a_name(self):
    spec = registry.MODELS["resnet18"]
    with pytest.raises(ValueError, match="new name .* 'resnet18' again"):
      registry.register("resnet18", spec)

  def test_rejects_unknown_model(self):
    known = re.escape(str(sorted(registry.MODELS)))
    with pytest.raises(
      ValueError, match=f"'mobilnet'; expected one of {known}"
    ):
      registry.find_spec("mobilnet")


def trained(name, scope):
  """The dotted paths that train, and those that do not."""
  params = published.trace(name).variables["params"]
  mask = registry.trainable_mask(name, params, scope)
  assert jax.tree.structure(mask) == jax.tree.structure(params)
  assert {type(leaf) for leaf in jax.tree.leaves(mask)} == {bool}
  flat = traverse_util.flatten_dict(mask, sep=".")
  return {path for path in flat if flat[path]}, {
    path for path in flat if not flat[path]
  }


def leaves_of(layers, leaves):
  return {f"{layer}.{leaf}" for layer in layers for leaf in leaves}


class TestTrainableMask:
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
    layers = ("blocks_11.norm1", "blocks_11.norm2", "norm")
    expected = leaves_of(layers, ("scale", "bias"))
    assert trained(name, "published")[0] == expected

  @each("name", [name for name in registry.MODELS if name.startswith("dinov2")])
  def test_published_dinov2_is_frozen(self, name):
    assert trained(name, "published")[0] == set()

  @each(
    "name, layers",
    [
      (
        "mobilenet_v2",
        ("block17.expand", "block17.depthwise", "block17.project", "last"),
      ),
      ("small_cnn", ("reduce2", "expand2", "refine2", "project")),
    ],
  )
  def test_published_network_trains_its_last_layers(self, name, layers):
    expected = leaves_of(layers, ("kernel", "bias"))
    assert trained(name, "published")[0] == expected

  def test_rejects_unknown_scope(self):
    with pytest.raises(
      ValueError,
      match=r"training scope 'last'; expected one of \['all', 'head', 'publ",
    ):
      registry.trainable_mask("small_cnn", {}, "last")

  def test_rejects_unknown_model(self):
    with pytest.raises(ValueError, match="Unknown model 'resnet9'"):
      registry.trainable_mask("resnet9", {}, "all")
