"""Tests of reading, converting and writing weights."""

import re

from flax import linen as nn
from flax import traverse_util
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from decern_jax.models import pretrained
from tests.table import each


class GroupedNet(nn.Module):
  """A grouped convolution, statistics and a linear layer."""

  @nn.compact
  def __call__(self, images):
    outputs = nn.Conv(
      6, (3, 2), feature_group_count=2, padding="VALID", name="conv"
    )(images)
    outputs = nn.BatchNorm(use_running_average=True, name="norm")(outputs)
    return nn.Dense(5, name="linear")(outputs.mean(axis=(1, 2)))


def torch_name(path):
  leaves = {
    "kernel": "weight",
    "scale": "weight",
    "mean": "running_mean",
    "var": "running_var",
  }
  return f"{path[-2]}.{leaves.get(path[-1], path[-1])}"


@pytest.fixture
def template():
  return jax.eval_shape(
    lambda: GroupedNet().init(jax.random.key(0), jnp.zeros((1, 3, 2, 4)))
  )


@pytest.fixture
def tensors():
  """Random weights of GroupedNet as PyTorch holds them."""
  rng = np.random.default_rng(0)
  shapes = {
    "conv.weight": (6, 2, 3, 2),
    "conv.bias": (6,),
    "norm.weight": (6,),
    "norm.bias": (6,),
    "norm.running_mean": (6,),
    "norm.running_var": (6,),
    "linear.weight": (5, 6),
    "linear.bias": (5,),
  }
  return {
    name: rng.uniform(0.5, 1.5, shape).astype(np.float16)
    for name, shape in shapes.items()
  }


def convert(tensors, template):
  return pretrained.to_variables(
    tensors, template, torch_name=torch_name, source="grouped_net in w.file"
  )


class TestReadSafetensors:
  def test_returns_every_tensor_as_stored(self, tmp_path):
    stored = {
      "half": np.array([[1.5, 2]], np.float16),
      "brain": np.ones(3, ml_dtypes.bfloat16),
      "count": np.array(7),
    }
    safetensors.numpy.save_file(stored, tmp_path / "w.safetensors")
    read = pretrained.read_safetensors(tmp_path / "w.safetensors")
    assert read.keys() == stored.keys()
    for name, array in stored.items():
      assert read[name].dtype == array.dtype
      np.testing.assert_array_equal(read[name], array)

  def test_rejects_missing_file(self, tmp_path):
    with pytest.raises(ValueError, match=r"no\.safetensors: no such file"):
      pretrained.read_safetensors(tmp_path / "no.safetensors")

  def test_rejects_folder(self, tmp_path):
    with pytest.raises(ValueError, match=f"{tmp_path}: a folder"):
      pretrained.read_safetensors(tmp_path)

  @each("content", [b"", b"\x00" * 20])
  def test_rejects_other_formats(self, tmp_path, content):
    file = tmp_path / "w.safetensors"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"w\.safetensors: Error while"):
      pretrained.read_safetensors(file)

  def test_rejects_truncated_file(self, tmp_path, tensors):
    file = tmp_path / "w.safetensors"
    file.write_bytes(safetensors.numpy.save(tensors)[:-1])
    with pytest.raises(ValueError, match=r"Expected a whole .*w\.safetensors"):
      pretrained.read_safetensors(file)

  def test_expands_home_folder(self, tmp_path, tensors, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    safetensors.numpy.save_file(tensors, tmp_path / "w.safetensors")
    read = pretrained.read_safetensors("~/w.safetensors")
    assert read.keys() == tensors.keys()


class TestToVariables:
  def test_layouts_follow_pytorch_definition(self, tensors, template):
    variables = convert(tensors, template)
    images = np.random.default_rng(1).normal(size=(7, 3, 2, 4))
    outputs = GroupedNet().apply(variables, images.astype(np.float32))
    assert isinstance(outputs, jax.Array)
    weights = {name: array.astype(float) for name, array in tensors.items()}
    # One output pixel: group g of 3 outputs sees input channels 2g and 2g + 1.
    hidden = np.concatenate(
      [
        np.einsum(
          "nhwi,oihw->no",
          images[..., 2 * group : 2 * group + 2],
          weights["conv.weight"][3 * group : 3 * group + 3],
        )
        for group in range(2)
      ],
      axis=1,
    )
    hidden = hidden + weights["conv.bias"] - weights["norm.running_mean"]
    hidden /= np.sqrt(weights["norm.running_var"] + 1e-5)
    hidden = hidden * weights["norm.weight"] + weights["norm.bias"]
    expected = hidden @ weights["linear.weight"].T + weights["linear.bias"]
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-4)

  def test_variables_are_float32_of_the_template(self, tensors, template):
    variables = convert(tensors, template)
    assert jax.tree.structure(variables) == jax.tree.structure(template)
    for leaf in jax.tree.leaves(variables):
      assert leaf.dtype == np.float32

  def test_depthwise_kernel_keeps_one_input_channel(self):
    leaf = jax.ShapeDtypeStruct((3, 3, 1, 4), jnp.float32)
    kernel = np.random.default_rng(0).normal(size=(4, 1, 3, 3))
    variables = pretrained.to_variables(
      {"conv.weight": kernel},
      {"params": {"conv": {"kernel": leaf}}},
      torch_name=torch_name,
      source="the test",
    )
    converted = variables["params"]["conv"]["kernel"]
    np.testing.assert_allclose(converted[..., 0, 2], kernel[2, 0], rtol=1e-6)

  def test_rejects_missing_tensor(self, tensors, template):
    del tensors["norm.running_var"]
    with pytest.raises(ValueError, match=r"got 1 missing: norm.running_var\.$"):
      convert(tensors, template)

  def test_rejects_left_over_tensor(self, tensors, template):
    tensors["conv2.bias"] = np.zeros(3, np.float32)
    with pytest.raises(ValueError, match=r"got 1 left over: conv2.bias\.$"):
      convert(tensors, template)

  def test_rejects_other_shape_in_the_layout_of_the_file(
    self, tensors, template
  ):
    tensors["linear.weight"] = np.zeros((6, 5), np.float32)
    message = "linear.weight (expected float[5, 6], got float32[6, 5])."
    with pytest.raises(ValueError, match=re.escape(message)):
      convert(tensors, template)

  def test_rejects_quantised_tensor(self, tensors, template):
    tensors["conv.bias"] = np.zeros(6, np.int8)
    with pytest.raises(ValueError, match=r"conv.bias .*got int8\[6\]"):
      convert(tensors, template)

  def test_says_everything_in_one_error(self, tensors, template):
    del tensors["conv.bias"]
    tensors["norm.bias"] = np.zeros(4, np.float16)
    tensors |= {f"layer{i}.bias": np.zeros(1) for i in range(12)}
    left_over = ", ".join(f"layer{i}.bias" for i in range(10))
    message = (
      "Expected exactly the tensors of grouped_net in w.file, which may hold "
      "the weights of another model; got 1 missing: conv.bias; 12 left over: "
      f"{left_over} and 2 more; 1 of another shape or type: norm.bias "
      "(expected float[6], got float16[4])."
    )
    with pytest.raises(ValueError, match=re.escape(message)):
      convert(tensors, template)

  def test_joins_parts_along_the_outputs(self):
    leaf = jax.ShapeDtypeStruct((3, 6), jnp.float32)
    kernels = np.random.default_rng(0).normal(size=(2, 3, 3))
    variables = pretrained.to_variables(
      {"q.weight": kernels[0], "k.weight": kernels[1]},
      {"params": {"qk": {"kernel": leaf}}},
      torch_name=lambda _: ("q.weight", "k.weight"),
      source="the test",
    )
    inputs = np.random.default_rng(1).normal(size=(5, 3))
    expected = np.concatenate([inputs @ kernel.T for kernel in kernels], axis=1)
    outputs = inputs @ variables["params"]["qk"]["kernel"]
    np.testing.assert_allclose(outputs, expected, rtol=1e-5)

  def test_rejects_part_of_another_shape(self):
    leaf = jax.ShapeDtypeStruct((6,), jnp.float32)
    with pytest.raises(ValueError, match=r"k.bias \(expected float\[3\], got"):
      pretrained.to_variables(
        {"q.bias": np.zeros(3), "k.bias": np.zeros(6)},
        {"params": {"qk": {"bias": leaf}}},
        torch_name=lambda _: ("q.bias", "k.bias"),
        source="the test",
      )


class TestFindNaming:
  NAMINGS = (torch_name, lambda path: "other." + ".".join(path), None)

  def test_takes_the_rule_with_most_names(self, tensors, template):
    for naming in self.NAMINGS:
      name_of = naming or pretrained.own_name
      paths = traverse_util.flatten_dict(template)
      named = {name_of(path): np.zeros(1) for path in list(paths)[1:]}
      named |= {"conv.bias": np.zeros(1)}
      found = pretrained.find_naming(named, template, self.NAMINGS)
      assert found is naming

  def test_first_rule_wins_a_tie(self, template):
    found = pretrained.find_naming({}, template, self.NAMINGS)
    assert found is torch_name


class TestWithout:
  def test_patterns_match_whole_names(self):
    tensors = dict.fromkeys(
      ["bn.count", "layer.0.bn.count", "bn.counts", "mask", "mask.bias"],
      np.zeros(1),
    )
    kept = pretrained.without(tensors, ("*.count", "mask"))
    assert kept.keys() == {"bn.counts", "mask.bias"}


class TestSaveSafetensors:
  def test_round_trips_every_collection(self, tmp_path, tensors, template):
    variables = convert(tensors, template)
    file = tmp_path / "own.safetensors"
    pretrained.save_safetensors(file, variables)
    loaded = pretrained.to_variables(
      pretrained.read_safetensors(file), template, source="the test"
    )
    jax.tree.map(np.testing.assert_array_equal, loaded, variables)

  def test_names_are_paths_joined_by_dots(self, tmp_path, template):
    variables = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), template)
    pretrained.save_safetensors(tmp_path / "w.safetensors", variables)
    names = pretrained.read_safetensors(tmp_path / "w.safetensors").keys()
    assert names == set(traverse_util.flatten_dict(variables, sep="."))
    assert {"params.conv.kernel", "batch_stats.norm.mean"} <= names

  def test_keeps_type_and_order_of_transposed_views(self, tmp_path):
    array = np.arange(6, dtype=np.float16).reshape(2, 3).T
    pretrained.save_safetensors(tmp_path / "w.file", {"params": {"a": array}})
    read = pretrained.read_safetensors(tmp_path / "w.file")["params.a"]
    assert read.dtype == np.float16
    np.testing.assert_array_equal(read, array)

  def test_failed_write_leaves_the_old_file(self, tmp_path, monkeypatch):
    file = tmp_path / "w.safetensors"
    pretrained.save_safetensors(file, {"params": {"a": np.ones(2)}})

    def fail(*unused_args):
      raise OSError("disk full")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
      pretrained.save_safetensors(file, {"params": {"a": np.zeros(2)}})
    assert list(tmp_path.iterdir()) == [file]
    np.testing.assert_array_equal(
      pretrained.read_safetensors(file)["params.a"], np.ones(2)
    )
