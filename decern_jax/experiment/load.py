"""From a configuration to the experiment that a driver runs.

The only module that reads the configuration.
"""

import functools
import hashlib
import os
from typing import Any, NamedTuple

from jax.sharding import Mesh
import numpy as np
import tqdm

from decern_jax import features, frozen, models, rounds, training
from decern_jax.data import pipeline, sources, specs, transforms
from decern_jax.data.dataset import Dataset, Split
from decern_jax.sharding import make_mesh
from decern_jax.strategies import STRATEGIES
from decern_jax.validation import check_integer, check_number


class Assets(NamedTuple):
  """What the runs of all seeds share.

  Attributes:
    dataset: The images and labels.
    task: Their features on the devices, and the budgets.
    digest: What identifies data and model, as JSON has it.
  """

  dataset: Dataset
  task: frozen.Task
  digest: dict[str, Any]


def check(config) -> None:
  """Checks every value of a configuration that needs no data.

  Args:
    config: The configuration.

  Raises:
    ValueError: If a name is unknown or a value is out of range; shows it.
  """
  _check_name("strategy", config.selection.strategy, STRATEGIES)
  _check_name("dataset", config.dataset.name, specs.DATASETS)
  _check_name("model", config.model.name, models.MODELS)
  _check_name(
    "interpolation", config.dataset.interpolation, transforms.INTERPOLATIONS
  )
  check_integer("num_rounds", config.num_rounds, low=1)
  _check_seeds(config.seeds)
  image_size = check_integer(
    "dataset.image_size", config.dataset.image_size, low=32
  )
  check_integer(
    "dataset.resize_size", config.dataset.resize_size, low=image_size
  )
  selection = config.selection
  for name in ("initial_budget", "budget"):
    if selection[name] is not None:
      check_integer(f"selection.{name}", selection[name], low=1)
  check_number(
    "selection.uncertainty_gamma", selection.uncertainty_gamma, low=-1e9
  )
  check_number(
    "selection.diversity_gamma", selection.diversity_gamma, low=0.0, high=1.0
  )
  _recipe(config)
  _check_system(config.system)


def _check_name(kind: str, name: str, known) -> None:
  if name not in known:
    raise ValueError(
      f"Unknown {kind} {name!r}; expected one of {sorted(known)}."
    )


def _check_seeds(seeds: tuple[int, ...]) -> None:
  if not seeds or len(set(seeds)) != len(seeds):
    raise ValueError(f"Expected distinct `seeds`, at least one, got {seeds}.")
  for seed in seeds:
    check_integer("seeds", seed, low=0, high=2**32 - 1)


def _check_system(system) -> None:
  check_integer("system.embed_batch_size", system.embed_batch_size, low=1)
  for name in ("num_workers", "num_devices"):
    if system[name] is not None:
      check_integer(f"system.{name}", system[name], low=1)


def _recipe(config) -> training.Recipe:
  """Returns how to train, checked."""
  train = config.train
  num_epochs = check_integer("train.num_epochs", train.num_epochs, low=1)
  peak = check_number("train.learning_rate", train.learning_rate, low=1e-12)
  return training.Recipe(
    num_epochs=num_epochs,
    batch_size=check_integer("train.batch_size", train.batch_size, low=1),
    learning_rate=peak,
    warmup_epochs=check_integer(
      "train.warmup_epochs", train.warmup_epochs, low=0, high=num_epochs
    ),
    warmup_learning_rate=check_number(
      "train.warmup_learning_rate",
      train.warmup_learning_rate,
      low=0.0,
      high=peak,
    ),
    final_learning_rate=check_number(
      "train.final_learning_rate", train.final_learning_rate, low=0.0, high=peak
    ),
  )


def load(config) -> Assets:
  """Opens data and model, and computes the features that all rounds use.

  Args:
    config: The configuration, checked.

  Returns:
    What the runs of all seeds share.

  Raises:
    ValueError: If data or weights are not what they should be, or the budget
      is larger than the pool.
  """
  system = config.system
  num_workers = system.num_workers or os.cpu_count() or 1
  dataset = sources.load(
    config.dataset.name,
    path=config.dataset.path,
    num_workers=num_workers,
    cache_dir=system.cache_dir,
  )
  initial_budget, budget = _budgets(config, dataset)
  backbone = models.create(
    config.model.name,
    weights=config.model.weights,
    image_size=config.dataset.image_size,
  )
  mesh = make_mesh(system.num_devices)
  compute = functools.partial(
    _features, config, dataset, backbone, mesh=mesh, num_workers=num_workers
  )
  splits = {"train": dataset.train, "val": dataset.val, "test": dataset.test}
  parts = {
    name: frozen.place(compute(name, split), split, mesh)
    for name, split in splits.items()
    if split is not None
  }
  task = frozen.Task(
    ids=dataset.train.ids,
    num_classes=len(dataset.class_names),
    parts=parts,
    initial_budget=initial_budget,
    budget=budget,
  )
  return Assets(dataset, task, _digest(dataset, backbone))


def _budgets(config, dataset: Dataset) -> tuple[int, int]:
  """Returns the sizes of the initial set and of a selection."""
  classes = len(dataset.class_names)
  initial = config.selection.initial_budget or classes
  budget = config.selection.budget or classes
  total = initial + (config.num_rounds - 1) * budget
  pool = len(dataset.train.ids)
  if total > pool:
    raise ValueError(
      f"Expected `initial_budget` + (`num_rounds` - 1) · `budget` <= {pool}"
      f" training examples, got {initial} + {config.num_rounds - 1} · {budget}"
      f" = {total}."
    )
  return initial, budget


def _features(
  config,
  dataset: Dataset,
  backbone: models.Backbone,
  part: str,
  split: Split,
  *,
  mesh: Mesh,
  num_workers: int,
) -> np.ndarray:
  """Returns the features of one part, from the cache if they are there."""
  options = {
    "resize_size": config.dataset.resize_size,
    "image_size": config.dataset.image_size,
    "interpolation": config.dataset.interpolation,
  }
  batch_size = config.system.embed_batch_size

  def compute() -> np.ndarray:
    batches = pipeline.image_batches(
      split,
      functools.partial(transforms.resize_and_center_crop, **options),
      batch_size=batch_size,
      num_workers=num_workers,
    )
    with tqdm.tqdm(
      total=len(split.ids),
      desc=f"features of {part}",
      unit="image",
      disable=None,
    ) as bar:
      return features.embed(
        backbone.apply,
        backbone.variables,
        _counted(batches, bar),
        batch_size=batch_size,
        mesh=mesh,
      )

  return features.cached(
    config.system.cache_dir,
    (dataset.fingerprint, part, backbone.fingerprint, str(options)),
    num_rows=len(split.ids),
    compute=compute,
  )


def _counted(batches, bar):
  """Yields batches, and tells a progress bar of their images."""
  for images in batches:
    yield images
    bar.update(len(images))


def _digest(dataset: Dataset, backbone: models.Backbone) -> dict[str, Any]:
  """Returns what identifies the examples and the model of a run."""

  def of_split(split: Split) -> str:
    # The name of a file, and so an id, may be no valid text.
    names = os.fsencode("\n".join(split.ids))
    labels = np.asarray(split.labels, np.int32).tobytes()
    digest = hashlib.sha256(names + labels).hexdigest()
    return f"{len(split.ids)} examples {digest}"

  splits = {"train": dataset.train, "val": dataset.val, "test": dataset.test}
  return {
    "class_names": list(dataset.class_names),
    **{name: of_split(split) for name, split in splits.items() if split},
    "model": backbone.fingerprint,
  }


def build(config, assets: Assets, *, seed: int) -> rounds.Experiment:
  """Builds the experiment of one seed.

  Args:
    config: The configuration, checked.
    assets: What `load` returned for it.
    seed: Seed of the run.

  Returns:
    The experiment.
  """
  strategy = STRATEGIES[config.selection.strategy]
  options = {name: config.selection[name] for name in strategy.options}
  return rounds.Experiment(
    init=functools.partial(frozen.init, assets.task, seed=seed),
    advance=functools.partial(
      frozen.advance,
      assets.task,
      seed=seed,
      num_rounds=config.num_rounds,
      recipe=_recipe(config),
      select=functools.partial(strategy.select, **options),
    ),
  )
