"""From a configuration of pre-training to what is trained, and on what."""

from collections.abc import Callable
import functools
from typing import Any

import numpy as np

from decern_jax import models
from decern_jax.data import transforms
from decern_jax.data.dataset import Dataset, Split
from decern_jax.distributed.sharding import make_mesh
from decern_jax.features import embedding
from decern_jax.ops import keys
from decern_jax.pretraining import probe
from decern_jax.pretraining.loop import Setup
from decern_jax.pretraining.methods import Network
from decern_jax.runs import experiment, pretraining_check


def build(config) -> tuple[Setup, dict[str, Any]]:
  """Opens data and model.

  Args:
    config: The configuration, checked.

  Returns:
    What is trained, and what identifies data and model, as JSON has it.

  Raises:
    ValueError: If data or weights are not what they should be, or the batch
      fits neither the images nor the devices.
  """
  num_workers = experiment.count_workers(config)
  mesh = make_mesh(config.system.num_devices)
  dataset = experiment.load_dataset(config, num_workers=num_workers)
  train = dataset.train
  per_epoch = pretraining_check.steps_per_epoch(
    config, num_examples=len(train.ids), num_devices=mesh.size
  )
  backbone = models.load_or_draw(
    config.model.name,
    weights=config.model.weights,
    seed=config.seed,
    image_size=config.dataset.image_size,
    num_bands=train.read(0).shape[-1],
    dtype=config.model.dtype,
  )
  setup = Setup(
    backbone=backbone,
    network=Network(backbone.train_apply, pretraining_check.projector(config)),
    options=pretraining_check.options(config),
    recipe=pretraining_check.recipe(config, steps_per_epoch=per_epoch),
    views=pretraining_check.make_views_options(config),
    train=train,
    batch_size=config.train.batch_size,
    seed=config.seed,
    probe=None,
    probe_epochs=max(1, config.probe.every_epochs),
    mesh=mesh,
    num_workers=num_workers,
    checkpoint_seconds=config.system.checkpoint_seconds,
  )
  if config.probe.every_epochs:
    setup = setup._replace(probe=_make_probe(config, dataset, setup))
  digest = {
    "data": dataset.fingerprint,
    "images": len(train.ids),
    "model": backbone.fingerprint,
  }
  return setup, digest


def _make_probe(
  config, dataset: Dataset, setup: Setup
) -> Callable[[Any], dict[str, float]]:
  """Returns a function that probes variables; it never sees a test image.

  The queries are the validation images or, without any, the training images
  themselves, each judged by the others.
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
    if held_out is None:
      return probe.score(rows, labels, **options)
    return probe.score(
      rows,
      labels,
      queries=embed(variables, dataset.val, held_out),
      query_labels=np.asarray(dataset.val.labels)[held_out],
      **options,
    )

  return run


def _sample(split: Split, config, purpose: str) -> np.ndarray:
  """Draws the examples of a part that are probed; always the same ones."""
  count = min(config.probe.num_examples, len(split.ids))
  rng = np.random.default_rng(keys.host_seed(config.seed, purpose, 0))
  return np.sort(rng.permutation(len(split.ids))[:count])


def _embed(
  config, setup: Setup, variables: Any, split: Split, positions: np.ndarray
) -> np.ndarray:
  """Computes the features of examples, float32 [examples, dim]."""
  transform = functools.partial(
    transforms.resize_and_center_crop,
    resize_size=config.dataset.resize_size,
    image_size=config.dataset.image_size,
    interpolation=config.dataset.interpolation,
  )
  batches = embedding.embed_split(
    setup.backbone.apply,
    variables,
    split,
    transform,
    name="probe",
    batch_size=config.system.embed_batch_size,
    num_workers=setup.num_workers,
    mesh=setup.mesh,
    positions=positions,
  )
  return np.concatenate([*batches])
