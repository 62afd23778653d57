"""Tests of the table of models."""

import fnmatch
import functools
import re

from flax import traverse_util
import jax
import jax.numpy as jnp
import pytest

from decern_jax.models import forward, registry
from tests.table import each


def make_template(spec, size=32):
  shape = (1, size, size, 3)
  return jax.eval_shape(
    lambda: spec.module().init(jax.random.key(0), jnp.zeros(shape))
  )


class TestModels:
  @each("name", registry.MODELS)
  def test_dim_is_that_of_the_module(self, name):
    spec = registry.MODELS[name]
    features = jax.eval_shape(
      spec.module().apply, make_template(spec), jnp.zeros((2, 32, 32, 3))
    )
    assert features.shape == (2, spec.dim)
    assert features.dtype == jnp.float32

  @each("name", registry.MODELS)
  def test_stage_dims_are_those_of_the_module(self, name):
    spec = registry.MODELS[name]
    _, stages = jax.eval_shape(
      functools.partial(forward.compute_stages, spec.module(), lambda x: x),
      make_template(spec),
      jnp.zeros((2, 32, 32, 3)),
    )
    assert {stage.dtype for stage in stages} == {jnp.dtype("float32")}
    assert [stage.shape for stage in stages] == [
      (2, dim) for dim in spec.stage_dims
    ]

  @each("name", registry.MODELS)
  def test_variables_fit_any_image_size(self, name):
    spec = registry.MODELS[name]
    assert make_template(spec, 32) == make_template(spec, 224)

  @each("name", registry.MODELS)
  def test_every_published_pattern_matches_a_parameter(self, name):
    spec = registry.MODELS[name]
    params = make_template(spec)["params"]
    paths = traverse_util.flatten_dict(params, sep=".")
    for pattern in spec.published:
      assert fnmatch.filter(paths, pattern), f"{name} has no {pattern}"

  @each("name", registry.MODELS)
  def test_parameters_are_float32_in_every_type(self, name):
    spec = registry.MODELS[name]
    module = spec.module(dtype=jnp.bfloat16)
    images = jnp.zeros((2, 32, 32, 3))
    features, variables = jax.eval_shape(
      lambda: module.init_with_output(jax.random.key(0), images)
    )
    leaves = [features, *jax.tree.leaves(variables)]
    assert {leaf.dtype for leaf in leaves} == {jnp.dtype("float32")}
    assert make_template(spec) == jax.eval_shape(
      lambda: module.init(jax.random.key(0), images[:1])
    )


class TestFindSpec:
  def test_returns_the_row(self):
    assert registry.find_spec("resnet50") is registry.MODELS["resnet50"]

  def test_rejects_unknown_model(self):
    known = re.escape(str(sorted(registry.MODELS)))
    with pytest.raises(
      ValueError, match=f"'mobilnet'; expected one of {known}"
    ):
      registry.find_spec("mobilnet")
