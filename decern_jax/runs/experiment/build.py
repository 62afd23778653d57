"""The experiment of one seed."""

import functools
from typing import Any

from etils import epath
import numpy as np

from decern_jax import models
from decern_jax.data import augmentation
from decern_jax.distributed import processes
from decern_jax.distributed.sharding import local_rows, place_pool
from decern_jax.runs import acquisition, driver, model_file
from decern_jax.runs.experiment.check import recipe
from decern_jax.runs.experiment.load import (
  Assets,
  make_embed,
  make_transform,
  splits_of,
)
from decern_jax.strategies import STRATEGIES
from decern_jax.training import finetuning, frozen, learner, loss_module, rounds

# What an explanation reads of a pool: also the features of what is labeled.
EXPLAINED_BY = ("features", "labels")


def build(
  config,
  assets: Assets,
  *,
  seed: int,
  workdir: epath.PathLike,
  explain: acquisition.Explain | None = None,
  keeps_every_model: bool = False,
) -> driver.Experiment:
  """Builds the experiment of one seed.

  Args:
    config: The configuration, checked.
    assets: What `load` returned for it.
    seed: Seed of the run.
    workdir: Directory of the run, for the model and for what a kill inside a
      round leaves.
    explain: What else the records are to tell of the selected examples; these
      and the labeled ones are embedded for it, whatever the strategy needs.
    keeps_every_model: Whether the model of a round takes the place of that of
      the round before, in the directory; else only the last one is kept.

  Returns:
    The experiment.
  """
  strategy = STRATEGIES[config.selection.strategy]
  select = strategy.form(is_multi_label=assets.dataset.train.labels.ndim > 1)
  made = _make_learner(config, assets, seed, workdir)
  if "previous_probs" in strategy.needs:
    made = learner.remember_last(made)
  options = _options(config, config.selection.strategy)

  def keep(model: learner.Fit, is_last: bool) -> None:
    if is_last or keeps_every_model:
      processes.on_process_zero(
        functools.partial(model_file.save, workdir, model)
      )

  return driver.Experiment(
    init=functools.partial(_init, config, assets, seed),
    advance=functools.partial(
      acquisition.advance,
      assets.task,
      seed=seed,
      learner=made,
      select=functools.partial(select, **options),
      needs=(*strategy.needs, *(EXPLAINED_BY if explain else ())),
      on_model=keep,
      explain=explain,
    ),
    finish=functools.partial(finetuning.finish, workdir),
  )


def _init(config, assets: Assets, seed: int) -> rounds.RoundState:
  """Returns the state with the initial set."""
  name = config.selection.initial_strategy
  if name == "random":
    return acquisition.init(assets.task, seed=seed)
  is_multi_label = assets.dataset.train.labels.ndim > 1
  select = STRATEGIES[name].form(is_multi_label=is_multi_label)
  parts = assets.parts or _embed_parts(
    config,
    assets,
    assets.backbone.variables,
    np.ones(len(assets.task.ids), bool),
    has_predictions=False,
  )
  return acquisition.init_by_strategy(
    assets.task,
    parts["train"],
    seed=seed,
    select=functools.partial(select, **_options(config, name)),
  )


def _options(config, name: str) -> dict[str, Any]:
  """Returns the options of a strategy."""
  return {key: config.selection[key] for key in STRATEGIES[name].options}


def _make_learner(
  config, assets: Assets, seed: int, workdir: epath.PathLike
) -> learner.Learner:
  """Returns the learner that the scope and the augmentation call for."""
  num_classes = len(assets.dataset.class_names)
  needs = STRATEGIES[config.selection.strategy].needs
  predicts_losses = "predicted_losses" in needs
  if assets.parts is not None and not config.train.augment:
    return frozen.make_learner(
      assets.backbone.variables,
      assets.parts,
      num_classes=num_classes,
      capacity=assets.task.capacity,
      seed=seed,
      recipe=recipe(config),
      predicts_losses=predicts_losses,
    )
  is_fixed = assets.parts is not None
  setup = finetuning.Setup(
    # As on features without augmentation.
    backbone=(
      models.with_one_stage(assets.backbone) if is_fixed else assets.backbone
    ),
    mask=assets.mask,
    use_batch_statistics=assets.use_batch_statistics,
    num_classes=num_classes,
    train=assets.dataset.train,
    augment=_make_augment(config),
    recipe=recipe(config),
    mesh=assets.mesh,
    num_workers=assets.num_workers,
    checkpoint_seconds=config.system.checkpoint_seconds,
    predicts_losses=predicts_losses,
  )
  return finetuning.make_learner(
    setup, _make_embed(config, assets), seed=seed, workdir=workdir
  )


def _make_embed(config, assets: Assets):
  """Returns what a learner of whole models embeds the data with."""
  # Programs are found again by this very function.
  append = functools.partial(
    loss_module.append_predictions, assets.backbone.stage_apply
  )
  scored = assets._replace(backbone=assets.backbone._replace(apply=append))

  def embed(
    variables: Any,
    wanted: np.ndarray,
    module: loss_module.LossModule | None = None,
  ) -> dict[str, learner.Part]:
    if assets.parts is not None:
      return learner.with_predictions(assets.parts, module)
    has_predictions = module is not None
    return _embed_parts(
      config,
      scored if has_predictions else assets,
      (variables, module) if has_predictions else variables,
      wanted,
      has_predictions=has_predictions,
    )

  return embed


def _make_augment(config):
  """Returns what makes a decoded image one to train on."""
  if config.train.augment:
    return functools.partial(
      augmentation.random_resized_crop_and_flip,
      image_size=config.dataset.image_size,
      interpolation=config.dataset.interpolation,
    )
  transform = make_transform(config)
  return lambda image, rng: transform(image)


def _embed_parts(
  config,
  assets: Assets,
  variables: Any,
  wanted: np.ndarray,
  *,
  has_predictions: bool,
) -> dict[str, learner.Part]:
  """Computes features of what is held out and of the training examples wanted.

  The rows of other training examples are zero, so that all rounds have arrays
  of one shape.

  Args:
    config: The configuration.
    assets: The data, and the model that computes the features.
    variables: Of that model.
    wanted: bool [train].
    has_predictions: Whether a column of predicted losses follows the features.

  Returns:
    The parts.
  """
  embed = make_embed(config, assets)
  parts, dim = {}, assets.backbone.dim
  for name, split in splits_of(assets.dataset).items():
    mask = wanted if name == "train" else np.ones(len(split.ids), bool)
    if mask.any():
      own = local_rows(len(mask), assets.mesh)
      own = own[mask[own]]
      rows = np.zeros((len(mask), dim + has_predictions), np.float32)
      if own.size:
        rows[own] = np.concatenate([*embed(variables, name, split, own)])
      parts[name] = learner.place(rows[:, :dim], split, assets.mesh)
      if has_predictions:
        predicted = place_pool(rows[:, dim], assets.mesh)
        parts[name] = parts[name]._replace(predicted_losses=predicted)
  return parts
