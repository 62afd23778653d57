"""What the runs of all seeds share: data, model, features."""

from collections.abc import Iterator
import functools
import hashlib
import os
from typing import Any, NamedTuple

from absl import logging
import jax
from jax.sharding import Mesh
import numpy as np

from decern_jax import models
from decern_jax.data import transforms
from decern_jax.data.dataset import Dataset, Split
from decern_jax.distributed.sharding import (
  is_too_large,
  make_mesh,
  place_pool,
  take_replicated,
)
from decern_jax.features import embedding, feature_store
from decern_jax.runs import acquisition
from decern_jax.runs.experiment.dataset import count_workers, load_dataset
from decern_jax.runs.experiment.task import fit_to_labels, make_task
from decern_jax.strategies import STRATEGIES
from decern_jax.training import learner


class Assets(NamedTuple):
  """What the runs of all seeds share.

  Attributes:
    dataset: The images and labels.
    task: The examples and the budgets.
    backbone: The model.
    mask: A bool for each parameter of the model, True for those that train.
    use_batch_statistics: Whether batch normalisation is trained too.
    parts: The features of all data on the devices where nothing of the backbone
      changes in training, else None.
    mesh: The mesh of all runs.
    num_workers: Threads that decode images.
    digest: What identifies data and model, as JSON has it.
  """

  dataset: Dataset
  task: acquisition.Task
  backbone: models.Backbone
  mask: Any
  use_batch_statistics: bool
  parts: dict[str, learner.Part] | None
  mesh: Mesh
  num_workers: int
  digest: dict[str, Any]


def load(config, *, dataset: Dataset | None = None) -> Assets:
  """Opens data and model, and computes the features that all rounds use.

  Args:
    config: The configuration, checked.
    dataset: The data set that it names, if that is open; None: it is opened.

  Returns:
    What the runs of all seeds share.

  Raises:
    ValueError: If data or weights are not what they should be, or the budget
      is larger than the pool.
  """
  system = config.system
  num_workers = count_workers(config)
  if dataset is None:
    dataset = load_dataset(config, num_workers=num_workers)
  _check_form(config.selection.strategy, dataset)
  task = make_task(config, dataset)
  backbone = models.load_or_draw(
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
    parts=None,
    mesh=make_mesh(system.num_devices),
    num_workers=num_workers,
    digest=_digest(dataset, backbone),
  )
  if not is_fixed:
    return assets
  if config.train.augment:
    logging.warning(
      "train.augment: every epoch computes features anew, as no cache holds"
      " those of augmented images; the cached ones serve evaluation and"
      " selection alone."
    )
  return assets._replace(parts=_cached_parts(config, assets))


def _check_form(name: str, dataset: Dataset) -> None:
  """Refuses a strategy that has no form for these labels."""
  is_multi_label = dataset.train.labels.ndim > 1
  if STRATEGIES[name].form(is_multi_label=is_multi_label) is None:
    kind = "several labels" if is_multi_label else "one label"
    known = [
      other
      for other, strategy in STRATEGIES.items()
      if strategy.form(is_multi_label=is_multi_label)
    ]
    raise ValueError(
      f"Expected a strategy for {kind} per example, as {dataset.name!r} has,"
      f" one of {known}, got {name!r}."
    )


def splits_of(dataset: Dataset) -> dict[str, Split]:
  """Returns the parts of a data set that are there, by name."""
  splits = {"train": dataset.train, "val": dataset.val, "test": dataset.test}
  return {name: split for name, split in splits.items() if split is not None}


def make_transform(config) -> functools.partial:
  """Returns how images are brought to size when nothing is to be random."""
  return functools.partial(
    transforms.resize_and_center_crop,
    resize_size=config.dataset.resize_size,
    image_size=config.dataset.image_size,
    interpolation=config.dataset.interpolation,
  )


def make_embed(config, assets: Assets):
  """Returns a function that computes features of a part of the data.

  Args:
    config: The configuration.
    assets: The model, the mesh and the threads.

  Returns:
    Maps `(variables, name, split, positions)` to float32 [examples, dim] of a
    batch at a time.
  """

  def embed(
    variables: Any, name: str, split: Split, positions: np.ndarray
  ) -> Iterator[np.ndarray]:
    return embedding.embed_split(
      assets.backbone.apply,
      variables,
      split,
      make_transform(config),
      name=name,
      batch_size=config.system.embed_batch_size,
      num_workers=assets.num_workers,
      mesh=assets.mesh,
      positions=positions,
    )

  return embed


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
    The assets; what was computed of the images is kept.
  """
  train = assets.dataset.train._replace(labels=labels)
  dataset = assets.dataset._replace(class_names=class_names, train=train)
  is_multi_label = labels.ndim > 1
  parts = assets.parts
  if parts is not None:
    placed = place_pool(np.asarray(labels, np.int32), assets.mesh)
    parts = {**parts, "train": parts["train"]._replace(labels=placed)}
  counts = labels.sum(axis=0) if is_multi_label else None
  return assets._replace(
    dataset=dataset,
    parts=parts,
    task=fit_to_labels(assets.task, num_labels)._replace(label_counts=counts),
    digest=_digest(dataset, assets.backbone),
  )


def first_features(config, assets: Assets, positions: np.ndarray) -> np.ndarray:
  """Returns features of the model as it is before any training.

  Args:
    config: The configuration.
    assets: The data and the model.
    positions: int [examples], of the training part; 1 or more.

  Returns:
    float32 [examples, dim].
  """
  if assets.parts is not None:
    return take_replicated(assets.parts["train"].features, positions)
  embed = make_embed(config, assets)
  variables, train = assets.backbone.variables, assets.dataset.train
  return np.concatenate([*embed(variables, "labeled", train, positions)])


def _cached_parts(config, assets: Assets) -> dict[str, learner.Part]:
  """Returns the features of all data, from the cache if they are there."""
  embed = make_embed(config, assets)
  backbone = assets.backbone
  options = str(make_transform(config).keywords)
  parts = {}
  for name, split in splits_of(assets.dataset).items():
    rows = feature_store.open_store(
      config.system.cache_dir,
      (assets.dataset.fingerprint, name, backbone.fingerprint, options),
      num_rows=len(split.ids),
      compute=functools.partial(embed, backbone.variables, name, split),
    )
    on_host = name == "train" and _stays_on_host(config, rows, assets.mesh)
    parts[name] = learner.place(rows, split, assets.mesh, on_host=on_host)
  return parts


def _stays_on_host(config, rows: feature_store.FeatureStore, mesh) -> bool:
  """Says whether the features of the pool are read block by block.

  Raises:
    ValueError: If the strategy needs all of them on the devices.
  """
  choice = config.system.pool_on_host
  if choice is None:
    choice = is_too_large(rows.shape, mesh)
  name = config.selection.strategy
  if choice and not STRATEGIES[name].reads_blocks:
    known = sorted(n for n, s in STRATEGIES.items() if s.reads_blocks)
    raise ValueError(
      f"Expected a strategy that reads features on the host block by block, one"
      f" of {known}, got {name!r} with {rows.shape[0]} x {rows.shape[1]}"
      " features; `system.pool_on_host=False` puts them on the devices."
    )
  return choice


def _digest(dataset: Dataset, backbone: models.Backbone) -> dict[str, Any]:
  """Returns what identifies the examples and the model of a run."""

  def of_split(split: Split) -> str:
    # The name of a file, and so an id, may be no valid text.
    names = os.fsencode("\n".join(split.ids))
    labels = np.asarray(split.labels, np.int32).tobytes()
    digest = hashlib.sha256(names + labels).hexdigest()
    return f"{len(split.ids)} examples {digest}"

  return {
    "class_names": list(dataset.class_names),
    **{name: of_split(split) for name, split in splits_of(dataset).items()},
    "model": backbone.fingerprint,
    **({"is_multi_label": True} if dataset.train.labels.ndim > 1 else {}),
  }
