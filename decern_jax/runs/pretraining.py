"""Builds a pre-training run from its configuration."""

from collections.abc import Callable
import dataclasses
import functools
from typing import Annotated, Any, Protocol

import numpy as np

from decern_jax import models
from decern_jax.data.dataset import Dataset, Split
from decern_jax.distributed.sharding import make_mesh
from decern_jax.features import embedding
from decern_jax.io.validation import check_integer
from decern_jax.ops import keys
from decern_jax.pretraining import probe
from decern_jax.pretraining.loop import Setup
from decern_jax.pretraining.methods import (
  METHODS,
  PROJECTORS,
  Network,
  Options,
  Projector,
)
from decern_jax.pretraining.views import Views
from decern_jax.runs import config as fields
from decern_jax.runs import experiment
from decern_jax.runs.check import check_dataset, check_fields
from decern_jax.runs.config import Count, OneOf, Range, Section
from decern_jax.training.recipe import OPTIMIZERS, Recipe

_Share = Annotated[float, Range(low=0.0, high=1.0)]


class Model(Section, Protocol):
  """The section `model`."""

  name: Annotated[str, OneOf("model", models.MODELS)]
  weights: str | None
  dtype: Annotated[str, OneOf("dtype", models.DTYPES)]


class Pretrain(Section, Protocol):
  """The section `pretrain`."""

  objective: Annotated[str, OneOf("objective", METHODS)]
  projector: Annotated[tuple[int, ...], Range(low=1)]
  temperature: Annotated[float, Range(low=1e-3)]
  off_diagonal_weight: Annotated[float, Range(low=0.0)]
  queue_size: Count
  momentum: _Share
  norm_groups: Count


class Train(Section, Protocol):
  """The section `train`."""

  num_epochs: Count
  # A batch of one has no negatives, and no variance for batch statistics.
  batch_size: Annotated[int, Range(low=2)]
  optimizer: Annotated[str, OneOf("optimizer", OPTIMIZERS)]
  learning_rate: Annotated[float, Range(low=1e-12)]
  warmup_epochs: Annotated[int, Range(low=0)]
  weight_decay: Annotated[float, Range(low=0.0)]


class ViewOptions(Section, Protocol):
  """The section `views`."""

  min_area: Annotated[float, Range(low=1e-3, high=1.0)]
  horizontal_flip: _Share
  vertical_flip: _Share
  jitter_chance: _Share
  jitter_strength: _Share
  grayscale: _Share
  blur: _Share


class Probe(Section, Protocol):
  """The section `probe`."""

  every_epochs: Annotated[int, Range(low=0)]
  num_examples: Annotated[int, Range(low=2)]
  num_neighbors: Count
  temperature: Annotated[float, Range(low=1e-3)]


class System(Section, Protocol):
  """The section `system`."""

  num_devices: Annotated[int | None, Range(low=1)]
  num_workers: Annotated[int | None, Range(low=1)]
  embed_batch_size: Count
  checkpoint_seconds: Annotated[float, Range(low=0.0)]
  cache_dir: str


class Config(Section, Protocol):
  """A whole configuration of pre-training."""

  seed: fields.Seed
  dataset: fields.Dataset
  model: Model
  pretrain: Pretrain
  train: Train
  views: ViewOptions
  probe: Probe
  system: System


def check(config: Config) -> None:
  """Checks every value of a configuration that needs no data.

  Raises:
    ValueError: If a name is unknown or a value is out of range; shows it.
  """
  check_fields(config, Config)
  check_dataset(config.dataset)
  method, train = config.pretrain, config.train
  check_integer(
    "train.warmup_epochs", train.warmup_epochs, low=0, high=train.num_epochs
  )
  if method.objective == "moco_v2":
    _check_divides(
      "pretrain.queue_size",
      method.queue_size,
      "train.batch_size",
      train.batch_size,
    )
    _check_divides(
      "train.batch_size",
      train.batch_size,
      "pretrain.norm_groups",
      method.norm_groups,
    )


def build(config: Config) -> tuple[Setup, dict[str, Any]]:
  """Opens data and model.

  Returns:
    The training setup, and values that identify data and model, as JSON.

  Raises:
    ValueError: If the data or the weights are wrong, or the batch fits neither
      the images nor the devices.
  """
  num_workers = experiment.count_workers(config.system.num_workers)
  mesh = make_mesh(config.system.num_devices)
  dataset = experiment.load_dataset(
    config.dataset, num_workers=num_workers, cache_dir=config.system.cache_dir
  )
  train = dataset.train
  recipe = make_recipe(
    config, num_examples=len(train.ids), num_devices=mesh.size
  )
  backbone = models.create(
    config.model.name,
    weights=config.model.weights,
    seed=config.seed,
    image_size=config.dataset.image_size,
    num_bands=train.read(0).shape[-1],
    dtype=config.model.dtype,
  )
  setup = Setup(
    backbone=backbone,
    network=Network(backbone.train_apply, make_projector(config)),
    options=Options(**_values_of(Options, config.pretrain)),
    recipe=recipe,
    views=Views(
      image_size=config.dataset.image_size,
      interpolation=config.dataset.interpolation,
      **_values_of(ViewOptions, config.views),
    ),
    train=train,
    seed=config.seed,
    probe=None,
    probe_epochs=max(1, config.probe.every_epochs),
    mesh=mesh,
    num_workers=num_workers,
    checkpoint_seconds=config.system.checkpoint_seconds,
  )
  if config.probe.every_epochs:
    setup = dataclasses.replace(
      setup, probe=_make_probe(config, dataset, setup)
    )
  digest = {
    "data": dataset.fingerprint,
    "images": len(train.ids),
    "model": backbone.fingerprint,
  }
  return setup, digest


def make_recipe(
  config: Config, *, num_examples: int, num_devices: int
) -> Recipe:
  """Returns the training recipe.

  Raises:
    ValueError: If there are too few images for a batch, or the batch cannot be
      split equally over the devices.
  """
  batch_size = config.train.batch_size
  if batch_size > num_examples:
    raise ValueError(
      f"Expected `train.batch_size` <= {num_examples} training images, got"
      f" {batch_size}."
    )
  _check_divides("train.batch_size", batch_size, "devices", num_devices)
  return Recipe(
    steps_per_epoch=num_examples // batch_size,
    **_values_of(Train, config.train),
  )


def make_projector(config: Config) -> Projector:
  """Returns the projector; its widths default to the published ones."""
  published, use_norm = PROJECTORS[config.pretrain.objective]
  return Projector(tuple(config.pretrain.projector or published), use_norm)


def _values_of(kind: type, section: Section) -> dict[str, Any]:
  """Returns the values of those fields of a section that a class declares."""
  return {name: section[name] for name in kind.__annotations__}


def _check_divides(name: str, value: int, unit: str, divisor: int) -> None:
  if value % divisor:
    raise ValueError(
      f"Expected `{name}` a multiple of the {divisor} of `{unit}`, got {value}."
    )


def _make_probe(
  config: Config, dataset: Dataset, setup: Setup
) -> Callable[[Any], dict[str, float]]:
  """Returns a function that evaluates variables without test images.

  The probe is a nearest-neighbor vote of training images. It is evaluated on
  the validation images or, if there are none, on the training images, leaving
  each one out in turn.
  """
  bank = _sample(dataset.train, config, "probe")
  held_out = dataset.val and _sample(dataset.val, config, "queries")
  embed = functools.partial(_embed, config, setup)
  options = {
    "num_neighbors": config.probe.num_neighbors,
    "temperature": config.probe.temperature,
  }

  def run(variables: Any) -> dict[str, float]:
    rows = embed(variables, dataset.train, bank)
    labels = np.asarray(dataset.train.labels)[bank]
    if dataset.val is None or held_out is None:
      return probe.score(rows, labels, **options)
    return probe.score(
      rows,
      labels,
      queries=embed(variables, dataset.val, held_out),
      query_labels=np.asarray(dataset.val.labels)[held_out],
      **options,
    )

  return run


def _sample(split: Split, config: Config, purpose: str) -> np.ndarray:
  """Draws the examples of a split to probe, the same ones on every call."""
  count = min(config.probe.num_examples, len(split.ids))
  rng = np.random.default_rng(keys.host_seed(config.seed, purpose, 0))
  return np.sort(rng.permutation(len(split.ids))[:count])


def _embed(
  config: Config,
  setup: Setup,
  variables: Any,
  split: Split,
  indices: np.ndarray,
) -> np.ndarray:
  """Computes the features of examples, float32 [examples, dim]."""
  batches = embedding.embed_split(
    setup.backbone.apply,
    variables,
    split,
    experiment.make_transform(config.dataset),
    name="probe",
    batch_size=config.system.embed_batch_size,
    num_workers=setup.num_workers,
    mesh=setup.mesh,
    indices=indices,
  )
  return np.concatenate([*batches])
