"""A network that compiles in a moment, with and without batch normalisation."""

import contextlib
import functools
from typing import Any

from flax import linen as nn
from flax import traverse_util
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
import numpy as np
import pytest

from decern_jax import models
from decern_jax.models import registry
from decern_jax.training import finetune
from decern_jax.training.head import init_head
from decern_jax.training.recipe import Recipe

DIM = 6
# Of the first convolution, averaged over the image, and of the features.
STAGE_DIMS = (4, DIM)
NUM_CLASSES, BATCH = 5, 16
RECIPE = Recipe(
  num_epochs=4,
  batch_size=BATCH,
  learning_rate=0.02,
  warmup_epochs=2,
  warmup_learning_rate=1e-3,
  final_learning_rate=1e-3,
)
HEAD = init_head(jax.random.key(1), dim=DIM, num_classes=NUM_CLASSES)


# Name of the network in the table, where `in_table` puts it.
NAME = "tiny"


class Network(nn.Module):
  """Two convolutions, and between them perhaps a batch normalisation."""

  use_norm: bool = False
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, images, *, train: bool = False):
    outputs = nn.Conv(4, (3, 3), strides=2, use_bias=False, name="first")(
      images
    )
    if self.use_norm:
      norm = nn.BatchNorm(not train, momentum=0.9, name="norm")
      outputs = norm(outputs)
    registry.keep_stage(self, outputs)
    outputs = nn.tanh(nn.Conv(DIM, (3, 3), name="last")(nn.tanh(outputs)))
    registry.keep_stage(self, outputs)
    return outputs.mean(axis=(1, 2))


@contextlib.contextmanager
def in_table():
  """Puts the network without normalisation into the table of models."""
  spec = registry.ModelSpec(
    module=Network, dim=DIM, stage_dims=STAGE_DIMS, published=("last.*",)
  )
  with pytest.MonkeyPatch.context() as patch:
    patch.setitem(registry.MODELS, NAME, spec)
    yield


def _apply(network: Network, *arguments: Any, **options: Any) -> Any:
  """Applies the network, whose result depends on the options."""
  return network.apply(*arguments, **options)


@functools.cache
def make_variables(*, use_norm: bool, num_bands: int = 3):
  variables = jax.jit(Network(use_norm).init)(
    jax.random.key(3), jnp.zeros((1, 8, 8, num_bands))
  )
  # Running statistics that are neither those of the first batch, nor 0 and 1.
  return jax.tree_util.tree_map_with_path(
    lambda path, leaf: leaf + 0.25 if "batch_stats" in str(path) else leaf,
    variables,
  )


@functools.cache
def make_backbone(*, use_norm: bool, num_bands: int = 3) -> models.Backbone:
  """Returns always the same one, so that its programs compile once."""
  network = Network(use_norm)

  def stage_train_apply(variables, images, *, train=True):
    features, updated = _apply(
      network,
      variables,
      scale(images),
      train=train,
      capture_intermediates=lambda layer, _: layer.name == "first",
      mutable=["batch_stats", "intermediates"] if train else ["intermediates"],
    )
    (first,) = updated["intermediates"]["first"]["__call__"]
    stages = first.mean(axis=(1, 2)), features
    return (features, stages), updated.get("batch_stats", {})

  def stage_apply(variables, images):
    return stage_train_apply(variables, images, train=False)[0]

  return models.Backbone(
    name="tiny",
    apply=make_apply(use_norm=use_norm),
    train_apply=make_train_apply(use_norm=use_norm),
    stage_apply=stage_apply,
    stage_train_apply=stage_train_apply,
    variables=make_variables(use_norm=use_norm, num_bands=num_bands),
    dim=DIM,
    stage_dims=STAGE_DIMS,
    head=None,
    fingerprint="",
  )


def make_mask(layers: tuple[str, ...], *, use_norm: bool = True):
  """Returns True for each parameter of the layers, False for the others."""
  return traverse_util.path_aware_map(
    lambda path, _: path[0] in layers,
    make_variables(use_norm=use_norm)["params"],
  )


@functools.cache
def make_apply(*, use_norm: bool):
  """Returns what a `Backbone` has as `apply`: always the same function."""

  def apply(variables, images):
    return _apply(Network(use_norm), variables, scale(images))

  return apply


@functools.cache
def make_train_apply(*, use_norm: bool):
  """Returns what a `Backbone` has as `train_apply`."""

  def train_apply(variables, images):
    features, updated = _apply(
      Network(use_norm),
      variables,
      scale(images),
      train=True,
      mutable=["batch_stats"],
    )
    return features, updated.get("batch_stats", {})

  return train_apply


def scale(images):
  return jnp.asarray(images, jnp.float32) / 64.0 - 2.0


def draw_batches(
  count: int, size: int = BATCH
) -> list[tuple[np.ndarray, np.ndarray]]:
  """Draws images uint8 [size, 8, 8, 3], ever brighter, and labels."""
  rng = np.random.default_rng(0)
  batches = []
  for _ in range(count):
    images = rng.integers(0, 100, (size, 8, 8, 3))
    images += np.linspace(0, 150, size, dtype=int).reshape(-1, 1, 1, 1)
    labels = rng.integers(NUM_CLASSES, size=size, dtype=np.int32)
    batches.append((images.astype(np.uint8), labels))
  return batches


class NaiveAdam:
  """Adam in NumPy, on float32 parameters of any structure."""

  def __init__(self, params):
    self.params, self._count = params, 0
    self._first = self._second = jax.tree.map(np.zeros_like, params)

  def step(self, gradient, rate: float) -> None:
    self._count += 1

    def move(value, first, second):
      first = first / (1.0 - 0.9**self._count)
      second = second / (1.0 - 0.999**self._count)
      return np.float32(value - rate * first / (np.sqrt(second) + 1e-8))

    self._first = jax.tree.map(
      lambda old, new: 0.9 * old + 0.1 * np.float64(new), self._first, gradient
    )
    self._second = jax.tree.map(
      lambda old, new: 0.999 * old + 0.001 * np.float64(new) ** 2,
      self._second,
      gradient,
    )
    self.params = jax.tree.map(move, self.params, self._first, self._second)


class Case:
  """A network of which some layers train."""

  def __init__(self, layers=("last",), *, use_norm=True, recipe=RECIPE):
    self.use_norm, self.recipe = use_norm, recipe
    self.variables = make_variables(use_norm=use_norm)
    self.params = self.variables["params"]
    self.mask = make_mask(layers, use_norm=use_norm)
    self.trained, self.fixed = finetune.partition(self.params, self.mask)

  def create(self) -> finetune.TrainState:
    return finetune.create(
      self.trained,
      HEAD,
      self.variables.get("batch_stats", {}),
      recipe=self.recipe,
    )

  def step(self, state, batch, *, use_batch_statistics=None, **options):
    if use_batch_statistics is None:
      use_batch_statistics = self.use_norm
    make = make_train_apply if use_batch_statistics else make_apply
    settings = {
      "fixed": self.fixed,
      "num_batches": np.float32(2),
      "apply": make(use_norm=self.use_norm),
      "use_batch_statistics": use_batch_statistics,
      "in_chunks": False,
      "recipe": self.recipe,
    }
    images, labels = batch
    settings = {**settings, **options}
    return finetune.train_step(state, images=images, labels=labels, **settings)

  def run(self, batches, **options):
    """Makes a step on each batch, two in an epoch."""
    state, losses = self.create(), []
    for index, batch in enumerate(batches):
      state, loss = self.step(state, batch, **options)
      losses.append(float(loss))
      state = state.replace(epoch=state.epoch + index % 2)
    return state, losses


def assert_close(actual, expected, tolerance=1e-5) -> None:
  """Compares trees of arrays."""
  jax.tree.map(
    lambda ours, theirs: np.testing.assert_allclose(
      ours, theirs, rtol=tolerance, atol=tolerance
    ),
    actual,
    expected,
  )
