"""Checks of a configuration that need no data."""

from decern_jax import models
from decern_jax.data import specs, transforms
from decern_jax.io import storage
from decern_jax.io.validation import check_integer, check_number
from decern_jax.models import hub
from decern_jax.runs.experiment.dataset import check_dataset
from decern_jax.strategies import STRATEGIES, cluster_pick
from decern_jax.training import training


def check(config) -> None:
  """Checks every value of a configuration that needs no data.

  Args:
    config: The configuration.

  Raises:
    ValueError: If a name is unknown or a value is out of range; shows it.
  """
  _check_names(config)
  check_integer("num_rounds", config.num_rounds, low=1)
  _check_seeds(config.seeds)
  image_size = check_integer(
    "dataset.image_size", config.dataset.image_size, low=32
  )
  check_integer(
    "dataset.resize_size", config.dataset.resize_size, low=image_size
  )
  check_integer(
    "model.weights_seed", config.model.weights_seed, low=0, high=2**32 - 1
  )
  check_dataset(config.dataset)
  _check_selection(config.selection)
  recipe(config)
  _check_system(config.system)
  _check_stores(config)


def recipe(config) -> training.Recipe:
  """Returns how to train, checked.

  Args:
    config: The configuration.

  Raises:
    ValueError: If a value is out of range.
  """
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
    steps_per_epoch=None
    if train.steps_per_epoch is None
    else check_integer("train.steps_per_epoch", train.steps_per_epoch, low=1),
  )


def _check_names(config) -> None:
  """Refuses names that no table has."""
  for kind, name, known in (
    ("strategy", config.selection.strategy, STRATEGIES),
    ("dataset", config.dataset.name, specs.DATASETS),
    ("model", config.model.name, models.MODELS),
    ("dtype", config.model.dtype, models.DTYPES),
    ("training scope", config.train.scope, models.SCOPES),
    ("cluster_pick", config.selection.cluster_pick, cluster_pick.PICKS),
    (
      "interpolation",
      config.dataset.interpolation,
      transforms.INTERPOLATIONS,
    ),
  ):
    if name not in known:
      raise ValueError(
        f"Unknown {kind} {name!r}; expected one of {sorted(known)}."
      )


def _check_stores(config) -> None:
  """Refuses paths in stores that do not answer."""
  weights = config.model.weights
  for path in (
    config.system.cache_dir,
    config.dataset.path,
    None if hub.is_hub_name(weights) else weights,
  ):
    if path:
      storage.check_reachable(path)


def _check_seeds(seeds: tuple[int, ...]) -> None:
  if not seeds or len(set(seeds)) != len(seeds):
    raise ValueError(f"Expected distinct `seeds`, at least one, got {seeds}.")
  for seed in seeds:
    check_integer("seeds", seed, low=0, high=2**32 - 1)


def _check_initial(name: str) -> None:
  """Refuses a strategy that needs what there is not before the first label."""
  known = sorted(
    other
    for other, strategy in STRATEGIES.items()
    if set(strategy.needs) <= {"features", "labels"}
  )
  if name not in known:
    raise ValueError(
      "Expected `selection.initial_strategy` to need no model that was trained,"
      f" one of {known}, got {name!r}."
    )


def _check_selection(selection) -> None:
  _check_initial(selection.initial_strategy)
  for name in ("initial_budget", "budget", "num_candidates"):
    if selection[name] is not None:
      check_integer(f"selection.{name}", selection[name], low=1)
  check_integer("selection.budget_per_class", selection.budget_per_class, low=1)
  check_number(
    "selection.uncertainty_gamma", selection.uncertainty_gamma, low=-1e9
  )
  check_number(
    "selection.diversity_gamma", selection.diversity_gamma, low=0.0, high=1.0
  )
  check_integer(
    "selection.num_dropout_passes", selection.num_dropout_passes, low=2
  )
  check_number(
    "selection.dropout_rate", selection.dropout_rate, low=1e-6, high=1 - 1e-6
  )
  check_number("selection.power_beta", selection.power_beta, low=1e-6)
  check_number(
    "selection.cover_delta", selection.cover_delta, low=0.0, high=2.0
  )
  check_integer("selection.shortlist_factor", selection.shortlist_factor, low=1)


def _check_system(system) -> None:
  check_integer("system.embed_batch_size", system.embed_batch_size, low=1)
  for name in ("num_workers", "num_devices"):
    if system[name] is not None:
      check_integer(f"system.{name}", system[name], low=1)
  check_number("system.checkpoint_seconds", system.checkpoint_seconds, low=0.0)
