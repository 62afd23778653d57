"""What a model in bfloat16 has in common with the same one in float32."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from tests.models import torch_models


def draw(module, size):
  """Random variables under which the features stay moderate."""
  rng = np.random.default_rng(0)

  def draw_leaf(path, leaf):
    if path[-1].key in ("scale", "gamma", "var"):
      values = rng.uniform(0.5, 1.5, leaf.shape)
    else:
      fan_in = np.prod(leaf.shape[:-1]) if leaf.ndim > 1 else 10
      values = rng.normal(size=leaf.shape) / np.sqrt(fan_in)
    return values.astype(np.float32)

  template = jax.eval_shape(
    lambda: module.init(jax.random.key(0), jnp.zeros((1, size, size, 3)))
  )
  return jax.tree.map_with_path(draw_leaf, template)


def check_bfloat16(module, size=36):
  """Checks the features of a module in bfloat16."""
  variables = draw(module, size)
  images = torch_models.make_images(4, size, size)
  brain = module.clone(dtype=jnp.bfloat16)
  expected = jax.jit(module.apply)(variables, images)
  features = jax.jit(brain.apply)(variables, images)
  assert features.dtype == jnp.float32
  # An error of zero would be that of a module that ignores its type.
  assert 1e-4 < torch_models.relative_error(features, expected) < 2e-2


def check_bfloat16_gradient(module, size=36):
  """Checks the gradient of a module in bfloat16."""
  params = draw(module, size)["params"]
  images = torch_models.make_images(4, size, size)

  def loss(module, params):
    return jnp.square(module.apply({"params": params}, images)).mean()

  slopes, expected = (
    jax.jit(jax.grad(functools.partial(loss, each)))(params)
    for each in (module.clone(dtype=jnp.bfloat16), module)
  )
  leaves = jax.tree.leaves(slopes)
  assert {leaf.dtype for leaf in leaves} == {jnp.dtype("float32")}
  found, expected = (
    np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(tree)])
    for tree in (slopes, expected)
  )
  assert torch_models.relative_error(found, expected) < 5e-2
