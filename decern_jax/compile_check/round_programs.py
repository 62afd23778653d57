"""The large programs of a run, with the shapes that the run uses."""

from collections.abc import Callable
import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
import numpy as np

from decern_jax import models
from decern_jax.compile_check import program, topology
from decern_jax.compile_check.program import Program, split, whole, whole_tree
from decern_jax.compile_check.run_setting import Setting
from decern_jax.distributed.rows import HostRows, InMemory
from decern_jax.features import embedding
from decern_jax.models import Backbone
from decern_jax.ops.head import LinearHead
from decern_jax.strategies import Pool, Selection
from decern_jax.training import evaluation, finetune
from decern_jax.training.head import fit_head
from decern_jax.training.learner import PlacedSplit

STRATEGIES = ("decern",)
"""The strategies whose selection `list_programs` includes.

`record_calls` can follow their selection, because it passes arrays only from
one function of `shard_rows` to the next.
"""

MORE_DEVICES = (
  "more devices, which hold less of the pool each, or"
  " `--config.system.pool_on_host`"
)
"""The advice for a pool that is too large."""


def list_programs(setting: Setting) -> list[Program]:
  """Lists the large programs of a run, in the order of a round.

  These are the functions that a run calls. The programs of a selection are
  recorded by calling the strategy with shapes in place of arrays. The arguments
  of the others are declared here: the code that calls them decodes images and
  handles arrays on the host, which shapes cannot replace. The small auxiliary
  module of learning loss is left out. No array is allocated, and no weights are
  read.

  The programs depend on the platform: call this, and lower the programs, inside
  `jax.default_device` of a device of the mesh.

  Returns:
    The programs of training, features and evaluation. For one of `STRATEGIES`,
    also those of the selection.
  """
  backbone = _outline(setting)
  mask = models.trainable_mask(
    setting.model_name, backbone.variables["params"], setting.scope
  )
  is_fixed = not any(jax.tree.leaves(mask))
  head = _head(setting, backbone.dim)
  train = _placed_split(setting.mesh, setting.num_train, backbone.dim)
  if is_fixed and setting.pool_on_host:
    train = dataclasses.replace(
      train, features=_host_rows(setting, backbone.dim)
    )
  test = _placed_split(setting.mesh, setting.num_test, backbone.dim)
  # The initial weights, which every round starts from, stay on the devices. So
  # do features that training does not change.
  kept = [backbone.variables]
  while_training = [*kept, train, test] if is_fixed else kept
  if is_fixed and not setting.augment:
    fit = _fit_head(setting, head, while_training)
  else:
    fit = _train_step(setting, backbone, mask, head, while_training)
  kept = [*kept, train, test]
  embed = _embed(setting, backbone, kept)
  if not is_fixed:
    kept = [*kept, whole_tree(setting.mesh, backbone.variables)]
  listed = [fit, embed, _evaluate(head, test, kept)]
  if setting.select is not None and setting.strategy in STRATEGIES:
    listed += _select_programs(setting, setting.select, head, train, kept)
  return listed


def _outline(setting: Setting) -> Backbone:
  """Returns a model with the shapes of its variables, replicated."""
  spec = models.MODELS[setting.model_name]
  module = spec.module(dtype=models.DTYPES[setting.dtype])
  variables = jax.eval_shape(
    lambda: module.init(jax.random.key(0), jnp.zeros((1, *setting.image)))
  )
  return models.assemble(
    setting.model_name,
    module,
    whole_tree(setting.mesh, variables),
    num_bands=setting.image[-1],
    head=None,
    fingerprint="",
  )


def _head(setting: Setting, dim: int) -> LinearHead:
  return LinearHead(
    whole(setting.mesh, (dim, setting.num_classes)),
    whole(setting.mesh, (setting.num_classes,)),
  )


def _placed_split(mesh: Mesh, rows: int, dim: int) -> PlacedSplit:
  return PlacedSplit(
    features=split(mesh, (rows, dim)),
    labels=split(mesh, (rows,), dtype=jnp.int32),
    valid=split(mesh, (rows,), dtype=jnp.bool_),
  )


def _host_rows(setting: Setting, dim: int) -> HostRows:
  numbers = split(setting.mesh, (setting.num_train,), dtype=jnp.int32)
  # A broadcast array, which needs no memory of its own.
  source = InMemory(np.broadcast_to(np.float32(0.0), (setting.num_train, dim)))
  return HostRows(numbers, source)


def _embed(setting: Setting, backbone: Backbone, kept: Any) -> Program:
  # Every process embeds its own images.
  mesh = topology.mesh_of_first_process(setting.mesh)
  return program.make(
    "features of a batch",
    embedding.embed_batch,
    whole_tree(mesh, backbone.variables),
    split(mesh, (setting.embed_batch_size, *setting.image), dtype=jnp.uint8),
    kept=kept,
    remedy="a smaller `system.embed_batch_size`, or more devices",
    apply=backbone.apply,
    mesh=mesh,
  )


def _train_step(
  setting: Setting, backbone: Backbone, mask: Any, head: LinearHead, kept: Any
) -> Program:
  """Returns a step of fine-tuning on a full batch."""
  mesh, recipe = setting.mesh, setting.recipe
  trained, fixed = finetune.partition(backbone.variables["params"], mask)
  batch_stats = backbone.variables.get("batch_stats", {})
  state = jax.eval_shape(
    functools.partial(finetune.create, recipe=recipe),
    trained,
    head,
    batch_stats,
  )
  use_batch_statistics = bool(
    trained and batch_stats and not setting.freeze_batch_norm
  )
  size = setting.train_batch_size
  # As in a run, a batch is replicated if it cannot be split equally over the
  # devices.
  divides = size % mesh.size == 0
  place = split if divides else whole
  return program.make(
    "step of training",
    finetune.train_step,
    whole_tree(mesh, state),
    whole_tree(mesh, fixed),
    place(mesh, (size, *setting.image), dtype=jnp.uint8),
    place(mesh, (size,), dtype=jnp.int32),
    whole(mesh, ()),
    kept=kept,
    remedy=(
      "a smaller `train.batch_size`, `--config.model.dtype=bfloat16`, or more"
      " devices that divide the batch"
    ),
    note=""
    if divides
    else f"{size} images do not divide over {mesh.size} devices: each works on"
    " the whole batch.",
    apply=backbone.train_apply if use_batch_statistics else backbone.apply,
    use_batch_statistics=use_batch_statistics,
    in_chunks=mesh.size == 1,
    recipe=recipe,
    auxiliary=None,
  )


def _fit_head(setting: Setting, head: LinearHead, kept: Any) -> Program:
  mesh, dim = setting.mesh, head.kernel.shape[0]
  return program.make(
    "training of the head",
    fit_head,
    _key(mesh),
    head,
    whole(mesh, (setting.capacity, dim)),
    whole(mesh, (setting.capacity,), dtype=jnp.int32),
    whole(mesh, (), dtype=jnp.int32),
    kept=kept,
    remedy=MORE_DEVICES,
    recipe=setting.recipe,
  )


def _evaluate(head: LinearHead, test: PlacedSplit, kept: Any) -> Program:
  return program.make(
    "evaluation",
    evaluation.evaluate_head,
    head,
    *(test.features, test.labels, test.valid),
    kept=kept,
    remedy=MORE_DEVICES,
  )


def _select_programs(
  setting: Setting,
  select: Callable[..., Selection],
  head: LinearHead,
  train: PlacedSplit,
  kept: Any,
) -> list[Program]:
  """Returns the programs that predict the pool and select from it."""
  mesh = setting.mesh
  candidates = split(mesh, (setting.num_train,), dtype=jnp.bool_)
  probs, predict = program.record(
    embedding.predict,
    head,
    train.features,
    kept=kept,
    remedy=MORE_DEVICES,
    is_multi_label=False,
  )
  features: Any = train.features
  pool = Pool(
    candidates=candidates,
    features=features,
    probs=probs,
    labels=train.labels,
    head=head,
  )
  _, selection = program.record(
    select,
    _key(mesh),
    pool,
    kept=[kept, pool],
    remedy=MORE_DEVICES,
    budget=setting.budget,
  )
  return predict + selection


def _key(mesh: Mesh) -> Any:
  key = jax.eval_shape(lambda: jax.random.key(0))
  return whole(mesh, key.shape, dtype=key.dtype)
