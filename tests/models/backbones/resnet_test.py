"""Tests of the ResNets against NumPy's and PyTorch's."""

import copy
from typing import Any

from flax import traverse_util
import jax
import numpy as np
import pytest

from decern_jax.models import pretrained
from decern_jax.models.backbones import resnet
from tests.models import numpy_networks, tiny_models, torch_models
from tests.table import each

FORMS = ("basic", "bottleneck")


def load(form, tensors):
  return pretrained.to_variables(
    pretrained.without(tensors, resnet.IGNORABLE),
    tiny_models.shapes(f"resnet_{form}"),
    torch_name=resnet.torchvision_name,
    source="the test",
  )


def torch_tensors(form):
  """Random tensors of a form as a PyTorch file holds them."""
  axes = {1: (0,), 4: (3, 2, 0, 1)}
  variables = tiny_models.variables(f"resnet_{form}")
  flat: dict[tuple[str, ...], Any] = traverse_util.flatten_dict(variables)
  tensors = {
    resnet.torchvision_name(path): leaf.transpose(axes[leaf.ndim])
    for path, leaf in flat.items()
  }
  counts = [name for name in tensors if name.endswith("running_mean")]
  for name in counts:
    tensors[name.replace("running_mean", "num_batches_tracked")] = np.array(7)
  return tensors


def at_path(tree, path):
  for step in path:
    tree = tree[step]
  return tree


class TestResNet:
  @each("form", FORMS)
  def test_inference_is_that_of_the_paper(self, form):
    name = f"resnet_{form}"
    features, kept = tiny_models.run(name)
    expected, stages, _ = numpy_networks.resnet(
      tiny_models.variables(name), tiny_models.normalized()
    )
    assert features.dtype == np.float32
    assert tiny_models.relative_error(features, expected) < 1e-5
    for found, stage in zip(tiny_models.pooled(kept), stages, strict=True):
      assert tiny_models.relative_error(found, stage) < 1e-5

  @each("form", FORMS)
  def test_training_normalizes_by_the_batch_and_moves_all_statistics(
    self, form
  ):
    name = f"resnet_{form}"
    variables = tiny_models.variables(name)
    features, updated = tiny_models.run(name, train=True)
    expected, _, found = numpy_networks.resnet(
      variables, tiny_models.normalized(), train=True
    )
    assert tiny_models.relative_error(features, expected) < 1e-4
    before, after = variables["batch_stats"], updated["batch_stats"]
    assert jax.tree.structure(after) == jax.tree.structure(before)
    assert 2 * len(found) == len(jax.tree.leaves(after))
    for path, moments in found.items():
      for moment, now in zip(("mean", "var"), moments, strict=True):
        old = at_path(before, path)[moment]
        moved = at_path(after, path)[moment]
        np.testing.assert_allclose(
          moved, 0.9 * old + 0.1 * now, rtol=1e-4, atol=1e-5
        )

  @each("form", FORMS)
  def test_image_features_do_not_depend_on_the_batch(self, form):
    tiny_models.check_images_are_independent(f"resnet_{form}")

  def test_bfloat16_is_close_to_float32(self):
    tiny_models.check_bfloat16("resnet_basic")

  def test_statistics_stay_float32_in_bfloat16(self):
    name = "resnet_bottleneck"
    brain, expected = (
      tiny_models.run(name, dtype=dtype, train=True)
      for dtype in ("bfloat16", "float32")
    )
    assert brain[0].dtype == np.float32
    assert tiny_models.relative_error(brain[0], expected[0]) < 5e-2
    first, other = (
      found[1]["batch_stats"]["bn1"] for found in (brain, expected)
    )
    for moment in ("mean", "var"):
      assert first[moment].dtype == np.float32
      np.testing.assert_allclose(
        first[moment], other[moment], rtol=1e-2, atol=1e-3
      )


@pytest.fixture(scope="module", params=FORMS)
def torch_model(torch, request):
  """A form, and a `transformers.ResNetModel` of random weights."""
  transformers = pytest.importorskip("transformers")
  form = request.param
  dim = resnet.make_spec(2, 1, 1, use_bottleneck=form != "basic", width=4).dim
  config = transformers.ResNetConfig(
    embedding_size=4,
    hidden_sizes=[dim // 4, dim // 2, dim],
    depths=[2, 1, 1],
    layer_type=form,
  )
  model = transformers.ResNetModel(config)
  return form, torch_models.randomise(torch, model)


def flat_statistics(variables) -> dict[str, Any]:
  return traverse_util.flatten_dict(variables["batch_stats"], sep="/")


class TestPyTorch:
  def test_features_agree(self, torch, torch_model):
    form, model = torch_model
    images = tiny_models.normalized()
    expected = torch_models.resnet_features(torch, model, images)
    variables = load(form, torch_models.torchvision_state(model))
    features, _ = tiny_models.run(f"resnet_{form}", variables_=variables)
    assert tiny_models.relative_error(features, expected) < 1e-5

  def test_training_agrees(self, torch, torch_model):
    form, model = torch_model
    images = tiny_models.normalized()
    variables = load(form, torch_models.torchvision_state(model))
    features, updated = tiny_models.run(
      f"resnet_{form}", train=True, variables_=variables
    )
    trained = copy.deepcopy(model).train()
    expected = torch_models.resnet_features(torch, trained, images)
    assert tiny_models.relative_error(features, expected) < 1e-4
    after = load(form, torch_models.torchvision_state(trained))
    ours, theirs, before = (
      flat_statistics(found) for found in (updated, after, variables)
    )
    for name in ours:
      # PyTorch tracks the unbiased variance of the n >= 3 values.
      rtol = 1e-4 if name.endswith("mean") else 0.5
      np.testing.assert_allclose(
        ours[name] - 0.9 * before[name],
        theirs[name] - 0.9 * before[name],
        rtol=rtol,
        atol=1e-5,
      )


class TestTorchvisionName:
  @each(
    "path, name",
    [
      (("params", "conv1", "kernel"), "conv1.weight"),
      (("params", "layer1_0", "conv1", "kernel"), "layer1.0.conv1.weight"),
      (("params", "layer3_22", "bn3", "scale"), "layer3.22.bn3.weight"),
      (("batch_stats", "bn1", "mean"), "bn1.running_mean"),
      (
        ("batch_stats", "layer2_0", "downsample_1", "var"),
        "layer2.0.downsample.1.running_var",
      ),
      (("head", "kernel"), "fc.weight"),
      (("head", "bias"), "fc.bias"),
    ],
  )
  def test_names_are_those_of_torchvision(self, path, name):
    assert resnet.torchvision_name(path) == name


class TestLoading:
  def test_counts_of_batches_are_ignored_by_name(self):
    tensors = torch_tensors("basic")
    assert sum(name.endswith("_tracked") for name in tensors) > 10
    jax.tree.map(
      np.testing.assert_array_equal,
      load("basic", tensors),
      tiny_models.variables("resnet_basic"),
    )

  @each("form", FORMS)
  @each("name", ["bn1.running_var", "layer2.0.downsample.0.weight"])
  def test_rejects_missing_tensor(self, form, name):
    tensors = torch_tensors(form)
    del tensors[name]
    with pytest.raises(ValueError, match=f"got 1 missing: {name}"):
      load(form, tensors)

  @each(
    "extra, shape",
    [("layer2.1.conv1.weight", (8, 8, 3, 3)), ("bn1.num_batches", ())],
  )
  def test_rejects_tensor_that_is_left_over(self, extra, shape):
    tensors = torch_tensors("basic") | {extra: np.zeros(shape, np.float32)}
    with pytest.raises(ValueError, match=f"1 left over: {extra}"):
      load("basic", tensors)
