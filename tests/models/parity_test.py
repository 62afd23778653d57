"""Every model of full size against PyTorch's, through a file of weights.

The relative errors are logged:

  python -m pytest -m slow tests/models/parity_test.py --log-cli-level=info
"""

import logging

import jax
import numpy as np
import pytest
import safetensors.numpy

from decern_jax.models import loading, registry
from tests.models import tiny_models, torch_models
from tests.table import each

pytestmark = pytest.mark.slow

RESNETS = {
  "resnet18": ("basic", [2, 2, 2, 2]),
  "resnet34": ("basic", [3, 4, 6, 3]),
  "resnet50": ("bottleneck", [3, 4, 6, 3]),
  "resnet101": ("bottleneck", [3, 4, 23, 3]),
}
# The class in transformers, the width, the patch and the image of the weights.
TRANSFORMERS = {
  "vit_tiny16": ("ViT", 192, 16, 224),
  "vit_small16": ("ViT", 384, 16, 224),
  "vit_base16": ("ViT", 768, 16, 224),
  "dinov2_small14": ("Dinov2", 384, 14, 518),
  "dinov2_base14": ("Dinov2", 768, 14, 518),
  "dinov2_small14_reg": ("Dinov2WithRegisters", 384, 14, 518),
  "dinov2_base14_reg": ("Dinov2WithRegisters", 768, 14, 518),
}


# Each size with a form of the file; timm's differs where there are registers.
FORMATS = [
  *[(name, 224, "DINO") for name in TRANSFORMERS],
  *[(name, 112, "Hugging Face") for name in TRANSFORMERS],
  *[(name, 112, "timm") for name in TRANSFORMERS if name.endswith("_reg")],
]


@pytest.fixture
def transformers():
  return pytest.importorskip("transformers")


def make_pixels(size):
  rng = np.random.default_rng(2)
  return rng.integers(0, 256, (2, size, size, 3), np.uint8)


def normalised(name, pixels):
  spec = registry.MODELS[name]
  mean, std = (np.array(v, np.float32) for v in (spec.mean, spec.std))
  return (pixels.astype(np.float32) - mean) / std


def relative_error(name, form, file, pixels, expected):
  """How far the features are off, the weights read from a file."""
  size = pixels.shape[1]
  backbone = loading.create(name, weights=file, image_size=size)
  features = jax.jit(backbone.apply)(backbone.variables, pixels)
  error = tiny_models.relative_error(features, expected)
  logging.info("| %s | %s | %d | %.1e |", name, form, size, error)
  return error


class TestParity:
  @each("size", [224, 160])
  @each("name", RESNETS)
  def test_resnet(self, torch, transformers, name, size, tmp_path):
    form, depths = RESNETS[name]
    dim = registry.MODELS[name].dim
    config = transformers.ResNetConfig(
      embedding_size=64,
      hidden_sizes=[dim // 8, dim // 4, dim // 2, dim],
      depths=depths,
      layer_type=form,
    )
    model = torch_models.randomise(torch, transformers.ResNetModel(config))
    file = tmp_path / "w.safetensors"
    safetensors.numpy.save_file(torch_models.torchvision_state(model), file)
    pixels = make_pixels(size)
    expected = torch_models.resnet_features(
      torch, model, normalised(name, pixels)
    )
    assert relative_error(name, "torchvision", file, pixels, expected) < 1e-4

  @each("name, size, form", FORMATS)
  def test_vision_transformer(
    self, torch, transformers, name, size, form, tmp_path
  ):
    kind, width, patch_size, image_size = TRANSFORMERS[name]
    config = getattr(transformers, f"{kind}Config")(
      hidden_size=width,
      num_attention_heads=width // 64,
      intermediate_size=4 * width,
      patch_size=patch_size,
      image_size=image_size,
      layer_norm_eps=1e-6,
    )
    options = {"add_pooling_layer": False} if kind == "ViT" else {}
    model = getattr(transformers, f"{kind}Model")(config, **options)
    torch_models.randomise(torch, model)
    if kind != "Dinov2WithRegisters":
      torch_models.set_positions(torch, model, offset=0.1)
    tensors = torch_models.saved_state(model, tmp_path)
    if form != "Hugging Face":
      tensors = torch_models.dino_state(tensors)
    if form == "timm":
      tensors = torch_models.timm_state(tensors)
    file = tmp_path / "w.safetensors"
    safetensors.numpy.save_file(tensors, file)
    pixels = make_pixels(size)
    expected = torch_models.vit_features(
      torch,
      model,
      normalised(name, pixels),
      use_patch_mean=kind != "ViT",
      **({"interpolate_pos_encoding": True} if kind == "ViT" else {}),
    )
    assert relative_error(name, form, file, pixels, expected) < 1e-4


class TestMobileNet:
  def test_of_transformers(self, torch, transformers, tmp_path):
    config = transformers.MobileNetV2Config(num_labels=1001)
    model = transformers.MobileNetV2ForImageClassification(config)
    torch_models.randomise(torch, model).save_pretrained(tmp_path)
    pixels = make_pixels(160)
    inputs = normalised("mobilenet_v2", pixels).transpose(0, 3, 1, 2)
    with torch.no_grad():
      expected = model.mobilenet_v2(torch.tensor(inputs)).pooler_output
    file = tmp_path / "model.safetensors"
    form = ("mobilenet_v2", "Hugging Face", file, pixels, expected.numpy())
    assert relative_error(*form) < 1e-5

  @each("size", [160, 161])
  def test_of_timm(self, torch, tmp_path, size):
    timm = pytest.importorskip("timm")
    model = timm.create_model("mobilenetv2_100", pretrained=False)
    model = torch_models.randomise(torch, model)
    file = tmp_path / "w.safetensors"
    tensors = {name: t.numpy() for name, t in model.state_dict().items()}
    safetensors.numpy.save_file(tensors, file)
    pixels = make_pixels(size)
    inputs = normalised("mobilenet_v2_torch", pixels).transpose(0, 3, 1, 2)
    with torch.no_grad():
      expected = model.forward_features(torch.tensor(inputs)).mean((2, 3))
    form = ("mobilenet_v2_torch", "timm", file, pixels, expected.numpy())
    assert relative_error(*form) < 1e-5
