"""Tests of the ResNets against PyTorch's."""

import copy
import functools

from flax import traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from decern_jax.models import pretrained, resnet
from tests.models import precision, torch_models
from tests.table import each

WIDTH = 8
STAGES = (2, 1, 2, 1)
FORMS = {
  "basic": resnet.ResNet(STAGES, use_bottleneck=False, width=WIDTH),
  "bottleneck": resnet.ResNet(STAGES, use_bottleneck=True, width=WIDTH),
}


def make_template(module):
  return jax.eval_shape(
    lambda: module.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
  )


def load(module, tensors):
  return pretrained.to_variables(
    pretrained.without(tensors, resnet.IGNORABLE),
    make_template(module),
    torch_name=resnet.torchvision_name,
    source="the test",
  )


@pytest.fixture(scope="module")
def torch():
  return pytest.importorskip("torch")


@pytest.fixture(scope="module", params=FORMS)
def form(request):
  return request.param


@pytest.fixture(scope="module")
def torch_model(torch, form):
  """A `transformers.ResNetModel` with random weights and statistics."""
  transformers = pytest.importorskip("transformers")
  dim = resnet.feature_dim(STAGES, use_bottleneck=form == "bottleneck", width=8)
  config = transformers.ResNetConfig(
    embedding_size=WIDTH,
    hidden_sizes=[dim // 8, dim // 4, dim // 2, dim],
    depths=list(STAGES),
    layer_type=form,
  )
  return torch_models.randomise(torch, transformers.ResNetModel(config))


@pytest.fixture(scope="module")
def tensors(torch_model):
  return torch_models.torchvision_state(torch_model)


class TestResNet:
  @each("shape", [(64, 64), (75, 50)])
  def test_features_agree_with_pytorch(
    self, torch, torch_model, tensors, form, shape
  ):
    images = torch_models.make_images(3, *shape)
    expected = torch_models.resnet_features(torch, torch_model, images)
    module = FORMS[form]
    features = jax.jit(module.apply)(load(module, tensors), images)
    assert torch_models.relative_error(features, expected) < 1e-5

  def test_training_normalises_by_the_batch_as_pytorch(
    self, torch, torch_model, tensors, form
  ):
    module = FORMS[form]
    variables = load(module, tensors)
    images = torch_models.make_images(8, 64, 64)
    features, updated = jax.jit(
      functools.partial(module.apply, train=True, mutable=["batch_stats"])
    )(variables, images)
    trained = copy.deepcopy(torch_model).train()
    expected = torch_models.resnet_features(torch, trained, images)
    assert torch_models.relative_error(features, expected) < 1e-4
    after = load(module, torch_models.torchvision_state(trained))
    ours, theirs, before = (
      traverse_util.flatten_dict(each["batch_stats"], sep="/")
      for each in (updated, after, variables)
    )
    for name in ours:
      # PyTorch tracks the unbiased variance of the n >= 32 values.
      rtol = 1e-4 if name.endswith("mean") else 1 / 31
      np.testing.assert_allclose(
        ours[name] - 0.9 * before[name],
        theirs[name] - 0.9 * before[name],
        rtol=rtol,
        atol=1e-5,
      )

  def test_inference_leaves_the_statistics(self):
    module = FORMS["basic"]
    template = make_template(module)
    variables = jax.tree.map(lambda leaf: jnp.ones(leaf.shape), template)
    images = torch_models.make_images(2, 32, 32)
    features, updated = jax.jit(
      functools.partial(module.apply, mutable=["batch_stats"])
    )(variables, images)
    assert features.shape == (2, 64)
    jax.tree.map(
      np.testing.assert_array_equal,
      updated["batch_stats"],
      variables["batch_stats"],
    )

  def test_image_features_do_not_depend_on_the_batch(self, tensors, form):
    module = FORMS[form]
    variables = load(module, tensors)
    images = torch_models.make_images(4, 32, 32)
    apply = jax.jit(module.apply)
    np.testing.assert_allclose(
      apply(variables, images)[:1], apply(variables, images[:1]), rtol=1e-4
    )

  def test_bfloat16_is_close_to_float32(self, form):
    precision.check_bfloat16(FORMS[form])

  def test_statistics_stay_float32_in_bfloat16(self, form):
    module = FORMS[form]
    variables = precision.draw(module, 32)
    images = torch_models.make_images(8, 64, 64)
    brain, expected = (
      jax.jit(
        functools.partial(each.apply, train=True, mutable=["batch_stats"])
      )(variables, images)
      for each in (module.clone(dtype=jnp.bfloat16), module)
    )
    assert brain[0].dtype == jnp.float32
    assert torch_models.relative_error(brain[0], expected[0]) < 5e-2
    first, other = (each[1]["batch_stats"]["bn1"] for each in (brain, expected))
    for name in ("mean", "var"):
      assert first[name].dtype == jnp.float32
      np.testing.assert_allclose(first[name], other[name], rtol=1e-2, atol=1e-3)


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

  @each(
    "stages, use_bottleneck, num_parameters",
    [
      ((2, 2, 2, 2), False, 11_689_512),
      ((3, 4, 6, 3), False, 21_797_672),
      ((3, 4, 6, 3), True, 25_557_032),
      ((3, 4, 23, 3), True, 44_549_160),
    ],
  )
  def test_parameters_are_as_many_as_torchvision_counts(
    self, stages, use_bottleneck, num_parameters
  ):
    module = resnet.ResNet(stages, use_bottleneck)
    leaves = jax.tree.leaves(make_template(module)["params"])
    dim = resnet.feature_dim(stages, use_bottleneck=use_bottleneck)
    assert sum(leaf.size for leaf in leaves) + 1000 * (dim + 1) == (
      num_parameters
    )


class TestLoading:
  def test_counts_of_batches_are_ignored_by_name(self, tensors, form):
    num_ignored = sum(name.endswith("_tracked") for name in tensors)
    assert num_ignored > 10
    load(FORMS[form], tensors)

  @each("name", ["bn1.running_var", "layer2.0.downsample.0.weight"])
  def test_rejects_missing_tensor(self, tensors, form, name):
    rest = {key: tensors[key] for key in tensors if key != name}
    with pytest.raises(ValueError, match=f"got 1 missing: {name}"):
      load(FORMS[form], rest)

  def test_rejects_deeper_model(self, tensors, form):
    extra = {"layer2.1.conv1.weight": np.zeros((16, 16, 3, 3), np.float32)}
    with pytest.raises(ValueError, match="1 left over: layer2.1.conv1.weight"):
      load(FORMS[form], tensors | extra)

  def test_rejects_unused_tensor_of_any_other_name(self, tensors, form):
    extra = {"bn1.num_batches": np.zeros((), np.int64)}
    with pytest.raises(ValueError, match="1 left over: bn1.num_batches"):
      load(FORMS[form], tensors | extra)
