"""Pre-trainings of tiny images, which several test files share."""

import dataclasses
import functools

import jax
import numpy as np

from decern_jax import models
from decern_jax.data.dataset import Split
from decern_jax.distributed.sharding import make_mesh, replicate
from decern_jax.ops import keys
from decern_jax.pretraining import step
from decern_jax.pretraining.loop import Setup
from decern_jax.pretraining.methods import METHODS, Network, Options, Projector
from decern_jax.pretraining.views import Views
from decern_jax.training.recipe import Recipe
from tests import networks, tiny

OBJECTIVES = sorted(METHODS)
BATCH, POOL, STEPS_OF_EPOCH, NUM_EPOCHS = 8, 19, 2, 2
SEED = 5
SIDE = 32
VIEWS = Views(
  image_size=SIDE,
  interpolation="bilinear",
  min_area=0.3,
  horizontal_flip=0.5,
  vertical_flip=0.5,
  jitter_chance=0.8,
  jitter_strength=0.5,
  grayscale=0.2,
  blur=0.5,
)
RECIPE = Recipe(
  optimizer="adamw",
  learning_rate=3e-3,
  weight_decay=1e-4,
  num_epochs=NUM_EPOCHS,
  warmup_epochs=1,
  batch_size=BATCH,
  steps_per_epoch=STEPS_OF_EPOCH,
)


def make_options(objective: str, **changes) -> Options:
  options = Options(
    objective=objective,
    temperature=0.2,
    off_diagonal_weight=0.0051,
    queue_size=2 * BATCH,
    momentum=0.9,
    norm_groups=2,
  )
  return dataclasses.replace(options, **changes)


def make_backbone(use_norm: bool = True, num_bands: int = 3) -> models.Backbone:
  return networks.make_backbone(use_norm=use_norm, num_bands=num_bands)


@functools.cache
def make_network(objective: str, use_norm: bool = True) -> Network:
  """Returns always the same one, so that its programs compile once."""
  projector = Projector((8, 6), use_norm=objective != "moco_v2")
  return Network(make_backbone(use_norm).train_apply, projector)


def create(
  objective: str, use_norm: bool = True, *, num_devices: int = 1
) -> step.PretrainState:
  state = step.create(
    jax.random.key(SEED),
    make_backbone(use_norm),
    make_network(objective, use_norm),
    options=make_options(objective),
    recipe=RECIPE,
  )
  return replicate(state, make_mesh(num_devices))


def draw_views(number: int = 0, size: int = BATCH) -> np.ndarray:
  """Draws noise of two kinds of brightness, uint8 [size, 2, side, side, 3]."""
  rng = np.random.default_rng(number)
  brightness = rng.integers(0, 100, (size, 1, 1, 1, 3))
  views = rng.integers(0, 156, (size, 2, SIDE, SIDE, 3)) + brightness
  return views.astype(np.uint8)


def make_split(num_bands: int = 3) -> Split:
  rng = np.random.default_rng(0)
  labels = np.arange(POOL, dtype=np.int32) % len(tiny.CLASSES)
  images = [tiny.draw(label, rng) for label in labels.tolist()]
  images = [np.resize(image, (*image.shape[:2], num_bands)) for image in images]
  ids = tuple(f"train/{i:02d}.png" for i in range(POOL))
  return Split(ids=ids, labels=labels, read=images.__getitem__)


@functools.cache
def make_setup(objective: str = "simclr", num_bands: int = 3) -> Setup:
  return Setup(
    backbone=make_backbone(num_bands=num_bands),
    network=make_network(objective),
    options=make_options(objective),
    recipe=RECIPE,
    views=VIEWS,
    train=make_split(num_bands),
    seed=SEED,
    probe=None,
    probe_epochs=1,
    mesh=make_mesh(1),
    num_workers=2,
    checkpoint_seconds=0.0,
  )


def run_key() -> jax.Array:
  return keys.seed_key(SEED, "steps")
