"""Builds the experiment of one seed, and the data and model that seeds share.

`load` opens the data and the model, which all seeds share. `build` uses them to
build the experiment of one seed, which the driver runs round by round.
"""

from collections.abc import Callable, Iterator
import dataclasses
import functools
import hashlib
import os
from typing import Any

from absl import logging
from etils import epath
import jax
from jax.sharding import Mesh
import numpy as np

from decern_jax import models
from decern_jax.data import augmentation, imbalance, sources, transforms
from decern_jax.data.dataset import Dataset, Split
from decern_jax.data.label_table import Columns
from decern_jax.distributed import processes
from decern_jax.distributed.sharding import (
  is_too_large,
  local_rows,
  make_mesh,
  place_pool,
  take_replicated,
)
from decern_jax.features import embedding, feature_store
from decern_jax.runs import config as fields
from decern_jax.runs import driver, model_file
from decern_jax.runs.config import Config
from decern_jax.runs.round import (
  Explain,
  Select,
  Task,
  draw_first_state,
  run_round,
  select_first_state,
)
from decern_jax.strategies import STRATEGIES
from decern_jax.training import (
  auxiliary,
  finetune,
  frozen,
  learner,
  propagation,
)
from decern_jax.training.recipe import Recipe
from decern_jax.training.rounds import RoundState

# Explanations compare selected examples with labeled ones, so they need the
# features of both.
_EXPLAINED_BY = ("features", "labels")


@dataclasses.dataclass(frozen=True)
class Assets:
  """The data, model and features that the runs of all seeds share.

  Attributes:
    dataset: The images and labels.
    task: The examples and the budgets.
    backbone: The model.
    mask: A bool for each parameter of the model, True for those that train.
    use_batch_statistics: Whether batch normalisation is trained too.
    splits: The features of all splits, or None if training changes the backbone
      or augments the images.
    mesh: The mesh of all runs.
    num_workers: Number of threads that decode images.
    digest: Values that identify the data and the model, as JSON.
    describe_pool: Returns what `train.method` needs of the features of the
      pool, computed once; None where it needs nothing.
  """

  dataset: Dataset
  task: Task
  backbone: models.Backbone
  mask: Any
  use_batch_statistics: bool
  splits: dict[str, learner.PlacedSplit] | None
  mesh: Mesh
  num_workers: int
  digest: dict[str, Any]
  describe_pool: Callable[[], propagation.PoolGraph] | None = None

  @property
  def is_multi_label(self) -> bool:
    """Whether an image may have several labels."""
    return self.dataset.train.labels.ndim > 1


def load(config: Config, *, dataset: Dataset | None = None) -> Assets:
  """Opens data and model, and computes the features that all rounds use.

  Raises:
    ValueError: If the data or the weights are invalid, or the budget is larger
      than the pool.
  """
  num_workers = count_workers(config.system.num_workers)
  if dataset is None:
    dataset = load_dataset(
      config.dataset, num_workers=num_workers, cache_dir=config.system.cache_dir
    )
  # Called early, so that errors are raised before the slow embedding.
  bind_strategy(
    config,
    config.selection.strategy,
    is_multi_label=dataset.train.labels.ndim > 1,
  )
  task = _make_task(config, dataset)
  backbone = models.create(
    config.model.name,
    weights=config.model.weights,
    seed=config.model.weights_seed,
    image_size=config.dataset.image_size,
    num_bands=dataset.train.read(0).shape[-1],
    dtype=config.model.dtype,
  )
  mask = models.trainable_mask(
    config.model.name, backbone.variables["params"], config.train.scope
  )
  is_fixed = not any(jax.tree.leaves(mask))
  assets = Assets(
    dataset=dataset,
    task=task,
    backbone=backbone,
    mask=mask,
    use_batch_statistics=(
      not config.train.freeze_batch_norm
      and not is_fixed
      and "batch_stats" in backbone.variables
    ),
    splits=None,
    mesh=make_mesh(config.system.num_devices),
    num_workers=num_workers,
    digest=_digest(dataset, backbone),
  )
  if not is_fixed:
    return assets
  if config.train.augment:
    logging.warning(
      "train.augment: every epoch computes the features of its augmented"
      " images; cached features serve only evaluation and selection."
    )
  splits = _cached_splits(config, assets)
  return dataclasses.replace(
    assets,
    splits=splits,
    describe_pool=frozen.pool_description(config.train.method, splits["train"]),
  )


def build(
  config: Config,
  assets: Assets,
  *,
  seed: int,
  workdir: epath.PathLike,
  explain: Explain | None = None,
  keeps_every_model: bool = False,
) -> driver.Experiment:
  """Builds the experiment of one seed.

  Args:
    config: The configuration, checked.
    assets: What `load` returned for it.
    seed: Seed of the run.
    workdir: Directory of the run, for the model and for checkpoints inside a
      round.
    explain: Returns further entries of a round's record. If given, the selected
      and the labeled examples are embedded even if the strategy does not need
      it.
    keeps_every_model: Whether to save the model after every round, replacing
      the previous one. Otherwise only the model of the last round is saved.
  """
  strategy = STRATEGIES[config.selection.strategy]
  made = _make_learner(config, assets, seed, workdir)
  if "previous_probs" in strategy.needs:
    made = learner.remember_last(made)

  def keep(model: learner.Fit, is_last: bool) -> None:
    if is_last or keeps_every_model:
      processes.on_process_zero(
        functools.partial(model_file.save, workdir, model)
      )

  return driver.Experiment(
    init=functools.partial(_first_state, config, assets, seed),
    advance=functools.partial(
      run_round,
      assets.task,
      seed=seed,
      learner=made,
      select=bind_strategy(
        config, config.selection.strategy, is_multi_label=assets.is_multi_label
      ),
      needs=(*strategy.needs, *(_EXPLAINED_BY if explain else ())),
      on_model=keep,
      explain=explain,
    ),
    finish=functools.partial(finetune.finish, workdir),
  )


# The data set.


def count_workers(num_workers: int | None) -> int:
  """Returns the number of threads that read images.

  Args:
    num_workers: The configured number; None for one per core.
  """
  return num_workers or os.cpu_count() or 1


def load_dataset(
  chosen: fields.Dataset, *, num_workers: int | None, cache_dir: str
) -> Dataset:
  """Opens the data set of a configuration.

  Process zero checks the images; the others find the result in the cache.

  Args:
    chosen: The section `dataset` of a configuration, checked.
    num_workers: Number of threads that check images; None for one per core.
    cache_dir: Folder that caches the result of the check.

  Returns:
    The data set, with its pool thinned to a long tail if configured.

  Raises:
    ValueError: If the data are invalid.
  """
  bands = chosen.band_range
  options = sources.Options(
    path=chosen.path,
    num_workers=count_workers(num_workers),
    cache_dir=cache_dir,
    split_file=chosen.split_file,
    label_file=chosen.label_file,
    columns=Columns(
      path=chosen.path_column,
      split=chosen.split_column,
      names=chosen.label_column,
      binary=tuple(chosen.binary_columns),
      ignored=tuple(chosen.ignored_columns),
    ),
    band_range=(bands[0], bands[1]) if bands else None,
    test_share=chosen.test_share,
    split_seed=chosen.split_seed,
    is_multi_label=chosen.is_multi_label,
  )
  dataset = processes.process_zero_first(
    lambda: sources.load(chosen.name, options)
  )
  if chosen.long_tail_ratio is None:
    return dataset
  return imbalance.thin_to_long_tail(
    dataset, ratio=chosen.long_tail_ratio, seed=chosen.long_tail_seed
  )


def with_labels(
  assets: Assets,
  class_names: tuple[str, ...],
  labels: np.ndarray,
  *,
  num_labels: int,
) -> Assets:
  """Returns assets whose training examples have other labels.

  Args:
    assets: The assets.
    class_names: Name of each class.
    labels: int32 [train] or [train, classes]; those of examples without a label
      are never read.
    num_labels: Training examples that have a label.

  Returns:
    The assets with these labels. Computed features are kept.
  """
  train = assets.dataset.train._replace(labels=labels)
  dataset = assets.dataset._replace(class_names=class_names, train=train)
  splits = assets.splits
  if splits is not None:
    placed = place_pool(np.asarray(labels, np.int32), assets.mesh)
    train = dataclasses.replace(splits["train"], labels=placed)
    splits = {**splits, "train": train}
  min_capacity = assets.task.min_capacity
  if num_labels > assets.task.capacity:
    # Rounded to a power of two, because each capacity needs its own
    # compilation.
    min_capacity = 1 << (num_labels - 1).bit_length()
  task = dataclasses.replace(
    assets.task, min_capacity=min_capacity, label_counts=_label_counts(dataset)
  )
  return dataclasses.replace(
    assets,
    dataset=dataset,
    splits=splits,
    task=task,
    digest=_digest(dataset, assets.backbone),
  )


def _splits_of(dataset: Dataset) -> dict[str, Split]:
  """Returns the splits of a data set by name."""
  splits = {"train": dataset.train, "val": dataset.val, "test": dataset.test}
  return {name: split for name, split in splits.items() if split is not None}


def _make_task(config: Config, dataset: Dataset) -> Task:
  """Returns the examples and the budgets, checked against the pool."""
  selection, pool = config.selection, len(dataset.train.ids)
  default = selection.budget_per_class * len(dataset.class_names)
  initial_budget = selection.initial_budget or default
  budget = selection.budget or default
  num_rounds = config.num_rounds
  if sources.is_unlabeled(config.dataset.name):
    # With people, a run ends early once all images are labeled.
    initial_budget = min(initial_budget, pool)
    num_rounds = min(num_rounds, 1 + (pool - initial_budget) // budget)
  task = Task(
    ids=dataset.train.ids,
    initial_budget=initial_budget,
    budget=budget,
    num_rounds=num_rounds,
    num_candidates=selection.num_candidates,
    label_counts=_label_counts(dataset),
  )
  if task.capacity > pool:
    raise ValueError(
      f"Expected `initial_budget` + (`num_rounds` - 1) · `budget` <= {pool}"
      f" training examples, got {initial_budget} + {num_rounds - 1} ·"
      f" {budget} = {task.capacity}."
    )
  if task.num_candidates is not None and task.num_candidates < budget:
    raise ValueError(
      f"Expected `selection.num_candidates` >= the budget {budget}, got"
      f" {task.num_candidates}."
    )
  return task


def _label_counts(dataset: Dataset) -> np.ndarray | None:
  """Counts the training examples of each label; None unless multi-label."""
  labels = dataset.train.labels
  return labels.sum(axis=0) if labels.ndim > 1 else None


def _digest(dataset: Dataset, backbone: models.Backbone) -> dict[str, Any]:
  """Returns what identifies the examples and the model of a run."""

  def of_split(split: Split) -> str:
    # File names, and therefore ids, may not be valid Unicode.
    names = os.fsencode("\n".join(split.ids))
    labels = np.asarray(split.labels, np.int32).tobytes()
    digest = hashlib.sha256(names + labels).hexdigest()
    return f"{len(split.ids)} examples {digest}"

  return {
    "class_names": list(dataset.class_names),
    "is_multi_label": dataset.train.labels.ndim > 1,
    **{name: of_split(split) for name, split in _splits_of(dataset).items()},
    "model": backbone.fingerprint,
  }


# The features.


def first_features(
  config: Config, assets: Assets, indices: np.ndarray
) -> np.ndarray:
  """Returns the features of examples by the untrained model.

  Args:
    config: The configuration.
    assets: The data and the model.
    indices: int [examples], at least one index into the training split.

  Returns:
    float32 [examples, dim].
  """
  if assets.splits is not None:
    return take_replicated(assets.splits["train"].features, indices)
  variables, train = assets.backbone.variables, assets.dataset.train
  batches = _embed_split(config, assets, variables, "labeled", train, indices)
  return np.concatenate([*batches])


def make_transform(dataset: fields.Dataset) -> functools.partial:
  """Returns the deterministic image transform, for embedding and evaluation."""
  return functools.partial(
    transforms.resize_and_center_crop,
    resize_size=dataset.resize_size,
    image_size=dataset.image_size,
    interpolation=dataset.interpolation,
  )


def _embed_split(
  config: Config,
  assets: Assets,
  variables: Any,
  name: str,
  split: Split,
  indices: np.ndarray,
) -> Iterator[np.ndarray]:
  """Yields the features of one batch at a time, float32 [examples, dim]."""
  return embedding.embed_split(
    assets.backbone.apply,
    variables,
    split,
    make_transform(config.dataset),
    name=name,
    batch_size=config.system.embed_batch_size,
    num_workers=assets.num_workers,
    mesh=assets.mesh,
    indices=indices,
  )


def _cached_splits(
  config: Config, assets: Assets
) -> dict[str, learner.PlacedSplit]:
  """Returns the features of all splits, from the cache if possible."""
  backbone = assets.backbone
  options = str(make_transform(config.dataset).keywords)
  splits = {}
  for name, split in _splits_of(assets.dataset).items():
    rows = feature_store.open_store(
      config.system.cache_dir,
      (assets.dataset.fingerprint, name, backbone.fingerprint, options),
      num_rows=len(split.ids),
      compute=functools.partial(
        _embed_split, config, assets, backbone.variables, name, split
      ),
    )
    on_host = name == "train" and _stays_on_host(config, rows, assets.mesh)
    splits[name] = learner.place(rows, split, assets.mesh, on_host=on_host)
  return splits


def _stays_on_host(
  config: Config, rows: feature_store.FeatureStore, mesh: Mesh
) -> bool:
  """Returns whether the pool features stay on the host and are streamed.

  Raises:
    ValueError: If they do, but the strategy needs all of them on the devices.
  """
  choice = config.system.pool_on_host
  if choice is None:
    choice = is_too_large(rows.shape, mesh)
  for field in ("strategy", "initial_strategy"):
    name = config.selection[field]
    if choice and not STRATEGIES[name].reads_blocks:
      known = sorted(n for n, s in STRATEGIES.items() if s.reads_blocks)
      raise ValueError(
        f"Expected `selection.{field}` a strategy that reads features on the"
        f" host block by block, one of {known}, got {name!r} with"
        f" {rows.shape[0]} x {rows.shape[1]} features;"
        " `system.pool_on_host=False` puts them on the devices."
      )
  return choice


def _embed_splits(
  config: Config,
  assets: Assets,
  variables: Any,
  wanted: np.ndarray,
  *,
  has_predictions: bool = False,
) -> dict[str, learner.PlacedSplit]:
  """Computes features of the held-out splits and of some training examples.

  The rows of other training examples are zero, so that the arrays have the same
  shape in all rounds.

  Args:
    config: The configuration.
    assets: The data, and the model that computes the features.
    variables: Variables of that model.
    wanted: bool [train].
    has_predictions: Whether a last column after the features holds the
      predictions of the strategy's auxiliary module.
  """
  splits, dim = {}, assets.backbone.dim
  for name, split in _splits_of(assets.dataset).items():
    mask = wanted if name == "train" else np.ones(len(split.ids), bool)
    if mask.any():
      own = local_rows(len(mask), assets.mesh)
      own = own[mask[own]]
      rows = np.zeros((len(mask), dim + has_predictions), np.float32)
      if own.size:
        batches = _embed_split(config, assets, variables, name, split, own)
        rows[own] = np.concatenate([*batches])
      splits[name] = learner.place(rows[:, :dim], split, assets.mesh)
      if has_predictions:
        predicted = place_pool(rows[:, dim], assets.mesh)
        splits[name] = dataclasses.replace(splits[name], auxiliary=predicted)
  return splits


# The strategy and the learner of an experiment.


def _first_state(config: Config, assets: Assets, seed: int) -> RoundState:
  """Returns the state before the first round."""
  name = config.selection.initial_strategy
  if name == "random":
    return draw_first_state(assets.task, seed=seed)
  everything = np.ones(len(assets.task.ids), bool)
  splits = assets.splits or _embed_splits(
    config, assets, assets.backbone.variables, everything
  )
  return select_first_state(
    assets.task,
    splits["train"],
    seed=seed,
    select=bind_strategy(config, name, is_multi_label=assets.is_multi_label),
  )


def bind_strategy(config: Config, name: str, *, is_multi_label: bool) -> Select:
  """Returns a strategy with the options of a configuration.

  Raises:
    ValueError: If the strategy does not support this kind of labels.
  """
  strategy = STRATEGIES[name]
  form = strategy.require_form(is_multi_label=is_multi_label)
  chosen = {key: config.selection.options[key] for key in strategy.option_names}
  return functools.partial(form, **strategy.choose_options(chosen))


def make_recipe(config: Config) -> Recipe:
  """Returns the training recipe of a configuration."""
  names = [field.name for field in dataclasses.fields(Recipe)]
  return Recipe(**{name: config.train[name] for name in names})


def _make_learner(
  config: Config, assets: Assets, seed: int, workdir: epath.PathLike
) -> learner.Learner:
  """Returns the learner for the configured scope and augmentation."""
  num_classes = len(assets.dataset.class_names)
  module = STRATEGIES[config.selection.strategy].auxiliary
  splits = assets.splits
  if splits is not None and not config.train.augment:
    return frozen.make_learner(
      assets.backbone.variables,
      splits,
      num_classes=num_classes,
      capacity=assets.task.capacity,
      seed=seed,
      recipe=make_recipe(config),
      auxiliary=module,
      describe_pool=assets.describe_pool,
    )
  backbone = assets.backbone
  setup = finetune.Setup(
    # A fixed backbone is trained in one stage, as with cached features.
    backbone=models.with_one_stage(backbone) if splits else backbone,
    mask=assets.mask,
    use_batch_statistics=assets.use_batch_statistics,
    num_classes=num_classes,
    train=assets.dataset.train,
    augment=_make_augment(config),
    recipe=make_recipe(config),
    mesh=assets.mesh,
    num_workers=assets.num_workers,
    checkpoint_seconds=config.system.checkpoint_seconds,
    auxiliary=module,
  )
  return finetune.make_learner(
    setup, _make_embed(config, assets), seed=seed, workdir=workdir
  )


def _make_embed(
  config: Config, assets: Assets
) -> Callable[..., dict[str, learner.PlacedSplit]]:
  """Returns the function that embeds the data during fine-tuning."""
  module = STRATEGIES[config.selection.strategy].auxiliary
  with_module = assets
  if module is not None:
    # Created once, because JAX caches compiled programs by function identity.
    append = functools.partial(
      auxiliary.append_predictions, module, assets.backbone.stage_apply
    )
    with_module = dataclasses.replace(
      assets, backbone=assets.backbone._replace(apply=append)
    )

  def embed(
    variables: Any, wanted: np.ndarray, params: Any = None
  ) -> dict[str, learner.PlacedSplit]:
    if assets.splits is not None:
      return learner.with_predictions(assets.splits, module, params)
    if module is None:
      return _embed_splits(config, assets, variables, wanted)
    return _embed_splits(
      config, with_module, (variables, params), wanted, has_predictions=True
    )

  return embed


def _make_augment(config: Config) -> Callable[..., np.ndarray]:
  """Returns the function that turns a decoded image into a training input."""
  if config.train.augment:
    return functools.partial(
      augmentation.random_resized_crop_and_flip,
      image_size=config.dataset.image_size,
      interpolation=config.dataset.interpolation,
    )
  transform = make_transform(config.dataset)
  return lambda image, rng: transform(image)
