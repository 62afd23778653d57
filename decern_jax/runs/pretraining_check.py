"""Checks of a configuration of pre-training that need no data."""

from decern_jax import models
from decern_jax.data import specs
from decern_jax.io.validation import check_integer, check_number
from decern_jax.pretraining.methods import METHODS, PROJECTORS, Options
from decern_jax.pretraining.projector import Projector
from decern_jax.pretraining.step import OPTIMIZERS, Recipe
from decern_jax.pretraining.views import Views, check_views
from decern_jax.runs.check import check_dataset


def check(config) -> None:
  """Checks every value of a configuration that needs no data.

  Args:
    config: The configuration.

  Raises:
    ValueError: If a name is unknown or a value is out of range; shows it.
  """
  _check_names(config)
  check_integer("seed", config.seed, low=0, high=2**32 - 1)
  views = make_views_options(config)
  check_integer(
    "dataset.resize_size", config.dataset.resize_size, low=views.image_size
  )
  check_dataset(config.dataset)
  options(config)
  projector(config)
  recipe(config, steps_per_epoch=1)
  _check_probe(config.probe)
  _check_system(config.system)


def options(config) -> Options:
  """Returns what the loss depends on, checked.

  Args:
    config: The configuration.

  Raises:
    ValueError: If a value is out of range, or does not divide as it must.
  """
  method, batch_size = config.pretrain, _batch_size(config)
  found = Options(
    objective=method.objective,
    temperature=check_number(
      "pretrain.temperature", method.temperature, low=1e-3
    ),
    off_diagonal_weight=check_number(
      "pretrain.off_diagonal_weight", method.off_diagonal_weight, low=0.0
    ),
    queue_size=check_integer("pretrain.queue_size", method.queue_size, low=1),
    momentum=check_number(
      "pretrain.momentum", method.momentum, low=0.0, high=1.0
    ),
    norm_groups=check_integer(
      "pretrain.norm_groups", method.norm_groups, low=1
    ),
  )
  if found.objective == "moco_v2":
    _check_divides(
      "pretrain.queue_size",
      found.queue_size,
      "train.batch_size",
      batch_size,
    )
    _check_divides(
      "train.batch_size", batch_size, "pretrain.norm_groups", found.norm_groups
    )
  return found


def projector(config) -> Projector:
  """Returns the projector, with the widths of the paper unless others are set.

  Args:
    config: The configuration.

  Raises:
    ValueError: If a width is out of range.
  """
  published, use_norm = PROJECTORS[config.pretrain.objective]
  widths = config.pretrain.projector or published
  for width in widths:
    check_integer("pretrain.projector", width, low=1)
  return Projector(tuple(widths), use_norm)


def make_views_options(config) -> Views:
  """Returns how views are made, checked.

  Args:
    config: The configuration.

  Raises:
    ValueError: If a value is out of range.
  """
  return check_views(
    Views(
      image_size=config.dataset.image_size,
      interpolation=config.dataset.interpolation,
      min_area=config.views.min_area,
      horizontal_flip=config.views.horizontal_flip,
      vertical_flip=config.views.vertical_flip,
      jitter_chance=config.views.jitter_chance,
      jitter_strength=config.views.jitter_strength,
      grayscale=config.views.grayscale,
      blur=config.views.blur,
    )
  )


def recipe(config, *, steps_per_epoch: int) -> Recipe:
  """Returns how to train, checked.

  Args:
    config: The configuration.
    steps_per_epoch: Batches of an epoch.

  Raises:
    ValueError: If a value is out of range.
  """
  train = config.train
  num_epochs = check_integer("train.num_epochs", train.num_epochs, low=1)
  return Recipe(
    optimizer=train.optimizer,
    learning_rate=check_number(
      "train.learning_rate", train.learning_rate, low=1e-12
    ),
    weight_decay=check_number(
      "train.weight_decay", train.weight_decay, low=0.0
    ),
    num_epochs=num_epochs,
    warmup_epochs=check_integer(
      "train.warmup_epochs", train.warmup_epochs, low=0, high=num_epochs
    ),
    steps_per_epoch=steps_per_epoch,
  )


def steps_per_epoch(config, *, num_examples: int, num_devices: int) -> int:
  """Returns the batches of an epoch.

  Args:
    config: The configuration.
    num_examples: The images.
    num_devices: Devices that batches are split over.

  Raises:
    ValueError: If there are too few images for a batch, or it does not divide
      by the devices.
  """
  batch_size = _batch_size(config)
  if batch_size > num_examples:
    raise ValueError(
      f"Expected `train.batch_size` <= {num_examples} training images, got"
      f" {batch_size}."
    )
  _check_divides("train.batch_size", batch_size, "devices", num_devices)
  return num_examples // batch_size


def _batch_size(config) -> int:
  # A single image has no negative, and no variance over the batch.
  return check_integer("train.batch_size", config.train.batch_size, low=2)


def _check_divides(name: str, value: int, unit: str, divisor: int) -> None:
  if value % divisor:
    raise ValueError(
      f"Expected `{name}` a multiple of the {divisor} of `{unit}`, got {value}."
    )


def _check_names(config) -> None:
  """Refuses names that no table has."""
  for kind, name, known in (
    ("objective", config.pretrain.objective, METHODS),
    ("optimizer", config.train.optimizer, OPTIMIZERS),
    ("dataset", config.dataset.name, specs.DATASETS),
    ("model", config.model.name, models.MODELS),
    ("dtype", config.model.dtype, models.DTYPES),
  ):
    if name not in known:
      raise ValueError(
        f"Unknown {kind} {name!r}; expected one of {sorted(known)}."
      )


def _check_probe(probe) -> None:
  check_integer("probe.every_epochs", probe.every_epochs, low=0)
  check_integer("probe.num_examples", probe.num_examples, low=2)
  check_integer("probe.num_neighbors", probe.num_neighbors, low=1)
  check_number("probe.temperature", probe.temperature, low=1e-3)


def _check_system(system) -> None:
  check_integer("system.embed_batch_size", system.embed_batch_size, low=1)
  for name in ("num_workers", "num_devices"):
    if system[name] is not None:
      check_integer(f"system.{name}", system[name], low=1)
  check_number("system.checkpoint_seconds", system.checkpoint_seconds, low=0.0)
