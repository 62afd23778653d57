"""A tiny network of every family, compiled once for all tests of a module."""

import contextlib
import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from decern_jax.models import backbone, pretrained, registry
from decern_jax.models.backbones import mobilenet, resnet, small_cnn, vit

IMAGES = np.random.default_rng(1).integers(0, 256, (3, 32, 26, 3), np.uint8)
"""Of sides that neither strides nor patches divide."""

_VIT: dict[str, Any] = {
  "width": 24,
  "num_heads": 3,
  "patch_size": 4,
  "grid_size": 10,
}
_DINOV2: dict[str, Any] = {
  "use_layer_scale": True,
  "use_patch_mean": True,
  "depth": 4,
}

MOBILENET_STAGES = ((1, 4, 1, 1), (6, 6, 2, 2), (6, 8, 1, 2), (6, 8, 2, 1))

MODULES = {
  "resnet_basic": resnet.ResNet((2, 1, 1), False, 4),
  "resnet_bottleneck": resnet.ResNet((2, 1, 1), True, 4),
  "mobilenet": mobilenet.MobileNetV2(MOBILENET_STAGES, 4, 12),
  "small_cnn": small_cnn.SmallCNN(),
  "vit": vit.VisionTransformer(**_VIT, depth=5),
  "dinov2": vit.VisionTransformer(**_VIT, **_DINOV2),
  "dinov2_reg": vit.VisionTransformer(
    **_VIT, **_DINOV2, num_registers=4, grid_offset=0.0, antialias=True
  ),
}


def _row(like: str, module, dim: int, stage_dims: tuple[int, ...]):
  """A row of the table: a tiny network in place of a published one."""
  return dataclasses.replace(
    registry.MODELS[like], module=module.clone, dim=dim, stage_dims=stage_dims
  )


SPECS = {
  "tiny_resnet": resnet.make_spec(2, 1, 1, use_bottleneck=False, width=4),
  "tiny_mobilenet": _row("mobilenet_v2", MODULES["mobilenet"], 12, (8, 8)),
  "tiny_vit": _row("vit_tiny16", MODULES["vit"], 96, (24,) * 4),
  "tiny_dinov2": _row("dinov2_small14", MODULES["dinov2"], 120, (24,) * 4),
  "tiny_dinov2_reg": _row(
    "dinov2_small14_reg", MODULES["dinov2_reg"], 120, (24,) * 4
  ),
}


@contextlib.contextmanager
def in_table():
  """Puts the tiny networks into the table of models."""
  with pytest.MonkeyPatch.context() as patch:
    for name, spec in SPECS.items():
      patch.setitem(registry.MODELS, name, spec)
    yield


@functools.cache
def shapes(name: str):
  """The variables of a tiny network, as shapes."""
  return make_template(MODULES[name])


def make_template(module):
  """The variables of a module, as shapes."""
  images = jnp.zeros((1, 32, 32, 3))
  return jax.eval_shape(lambda: module.init(jax.random.key(0), images))


def draw(template):
  """Random variables under which the features stay moderate."""
  rng = np.random.default_rng(0)

  def draw_leaf(path, leaf):
    if path[-1].key in ("scale", "gamma", "var"):
      values = rng.uniform(0.5, 1.5, leaf.shape)
    else:
      fan_in = np.prod(leaf.shape[:-1]) if leaf.ndim > 1 else 10
      values = rng.normal(size=leaf.shape) / np.sqrt(fan_in)
    return values.astype(np.float32)

  return jax.tree.map_with_path(draw_leaf, template)


@functools.cache
def variables(name: str):
  return draw(shapes(name))


def write_weights(path, name: str = "resnet_basic"):
  """Writes the variables of a tiny network, and returns the path."""
  pretrained.save_safetensors(path, variables(name))
  return path


def normalized(images=IMAGES) -> np.ndarray:
  """Images as the modules take them."""
  return (images.astype(np.float32) - 127.5) / 60.0


@functools.cache
def _compiled(name: str, dtype: str, train: bool):
  module = MODULES[name].clone(dtype=backbone.DTYPES[dtype])

  def compute(variables, images):
    options = {"train": True} if train else {}
    mutable = [registry.KEPT, *(["batch_stats"] if train else [])]
    features, kept = module.apply(variables, images, mutable=mutable, **options)
    return features, kept

  return jax.jit(compute)


def run(name, images=None, *, dtype="float32", train=False, variables_=None):
  """Features and what a network keeps, [3, 32, 26] pixels at a time."""
  images = normalized() if images is None else images
  given = variables(name) if variables_ is None else variables_
  return _compiled(name, dtype, train)(given, images)


def pooled(kept) -> list[np.ndarray]:
  """The stages, averaged over the image."""
  return [
    np.float32(stage).mean(axis=(1, 2)) if stage.ndim == 4 else stage
    for stage in kept[registry.KEPT][registry.STAGES]
  ]


def relative_error(values, expected) -> float:
  """Norm of the difference over the norm."""
  values, expected = np.float64(values), np.float64(expected)
  assert values.shape == expected.shape
  return float(np.linalg.norm(values - expected) / np.linalg.norm(expected))


def check_images_are_independent(name: str) -> None:
  """Checks that other images of a batch change no feature."""
  images = normalized()
  features, _ = run(name)
  images = np.concatenate([images[1:2], images[1:2] * 0, images[:1]])
  others, _ = run(name, images)
  np.testing.assert_allclose(others[0], features[1], rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(others[2], features[0], rtol=1e-5, atol=1e-6)


def check_bfloat16(name: str) -> None:
  """Checks the features of a network in bfloat16."""
  expected, _ = run(name)
  features, _ = run(name, dtype="bfloat16")
  assert features.dtype == jnp.float32
  # An error of zero would be that of a module that ignores its type.
  assert 1e-4 < relative_error(features, expected) < 2e-2


def check_bfloat16_gradient(module) -> None:
  """Checks the gradient of a network in bfloat16."""
  params = draw(make_template(module))["params"]

  def loss(module, params):
    return jnp.square(module.apply({"params": params}, normalized())).mean()

  slopes, expected = (
    jax.jit(jax.grad(functools.partial(loss, typed)))(params)
    for typed in (module.clone(dtype=jnp.bfloat16), module)
  )
  leaves = jax.tree.leaves(slopes)
  assert {leaf.dtype for leaf in leaves} == {jnp.dtype("float32")}
  found, expected = (
    np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])
    for tree in (slopes, expected)
  )
  assert relative_error(found, expected) < 5e-2
