"""The experiment of one seed."""

import functools
from typing import Any

from etils import epath
import numpy as np

from decern_jax import (
  acquisition,
  finetuning,
  frozen,
  learner,
  model_file,
  processes,
  rounds,
)
from decern_jax.data import augmentation
from decern_jax.experiment.check import recipe
from decern_jax.experiment.load import (
  Assets,
  make_embed,
  make_transform,
  splits_of,
)
from decern_jax.sharding import local_rows
from decern_jax.strategies import STRATEGIES


def build(
  config, assets: Assets, *, seed: int, workdir: epath.PathLike
) -> rounds.Experiment:
  """Builds the experiment of one seed.

  Args:
    config: The configuration, checked.
    assets: What `load` returned for it.
    seed: Seed of the run.
    workdir: Directory of the run, for the model and for what a kill inside a
      round leaves.

  Returns:
    The experiment.
  """
  strategy = STRATEGIES[config.selection.strategy]
  select = strategy.form(is_multi_label=assets.dataset.train.labels.ndim > 1)
  made = _make_learner(config, assets, seed, workdir)
  if "previous_probs" in strategy.needs:
    made = learner.remember_last(made)
  options = {name: config.selection[name] for name in strategy.options}
  return rounds.Experiment(
    init=functools.partial(acquisition.init, assets.task, seed=seed),
    advance=functools.partial(
      acquisition.advance,
      assets.task,
      seed=seed,
      learner=made,
      select=functools.partial(select, **options),
      needs=strategy.needs,
      on_last_model=lambda model: processes.by_lead(
        functools.partial(model_file.save, workdir, model)
      ),
    ),
    finish=functools.partial(finetuning.finish, workdir),
  )


def _make_learner(
  config, assets: Assets, seed: int, workdir: epath.PathLike
) -> learner.Learner:
  """Returns the learner that the scope and the augmentation call for."""
  num_classes = len(assets.dataset.class_names)
  if assets.parts is not None and not config.train.augment:
    return frozen.make_learner(
      assets.backbone.variables,
      assets.parts,
      num_classes=num_classes,
      capacity=assets.task.capacity,
      seed=seed,
      recipe=recipe(config),
    )
  setup = finetuning.Setup(
    backbone=assets.backbone,
    mask=assets.mask,
    use_batch_statistics=assets.use_batch_statistics,
    num_classes=num_classes,
    train=assets.dataset.train,
    augment=_make_augment(config),
    recipe=recipe(config),
    mesh=assets.mesh,
    num_workers=assets.num_workers,
    checkpoint_seconds=config.system.checkpoint_seconds,
  )

  def embed(variables: Any, wanted: np.ndarray) -> dict[str, learner.Part]:
    if assets.parts is not None:
      return assets.parts
    return _embed_parts(config, assets, variables, wanted)

  return finetuning.make_learner(setup, embed, seed=seed, workdir=workdir)


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
  config, assets: Assets, variables: Any, wanted: np.ndarray
) -> dict[str, learner.Part]:
  """Computes features of what is held out and of the training examples wanted.

  The rows of other training examples are zero, so that all rounds have arrays
  of one shape.
  """
  embed = make_embed(config, assets)
  parts = {}
  for name, split in splits_of(assets.dataset).items():
    mask = wanted if name == "train" else np.ones(len(split.ids), bool)
    if mask.any():
      own = local_rows(len(mask), assets.mesh)
      own = own[mask[own]]
      rows = np.zeros((len(mask), assets.backbone.dim), np.float32)
      if own.size:
        rows[own] = np.concatenate([*embed(variables, name, split, own)])
      parts[name] = learner.place(rows, split, assets.mesh)
  return parts
