"""The programs that a run compiles, each at the shapes that it has there."""

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
from decern_jax.ops.anchors import Anchors
from decern_jax.ops.head import LinearHead
from decern_jax.ops.saliency import NUM_BINS, NUM_TOP_BINS
from decern_jax.strategies import diversity, scoring, selection
from decern_jax.training import evaluation, finetune
from decern_jax.training.head import fit_head
from decern_jax.training.learner import PlacedSplit

STRATEGIES = ("decern",)
"""The strategies whose selection `list_programs` lists."""

MORE_DEVICES = (
  "more devices, which hold less of the pool each, or"
  " `--config.system.pool_on_host`"
)
"""What helps against a pool that is too large."""


def list_programs(setting: Setting) -> list[Program]:
  """Lists the large programs of a run, in the order of a round.

  The module of learning loss, small beside a backbone, is left out of them.
  Nothing is allocated and no weights are read. Call it, and lower the programs,
  inside of `topology.targeting`.

  Args:
    setting: What the shapes follow from.

  Returns:
    The programs: of the features, the training, the evaluation and, for one of
    `STRATEGIES`, of the selection.
  """
  backbone = _outline(setting)
  mask = models.trainable_mask(
    setting.model_name, backbone.variables["params"], setting.scope
  )
  is_fixed = not any(jax.tree.leaves(mask))
  head = _head(setting, backbone.dim)
  train = _part(setting.mesh, setting.num_train, backbone.dim)
  if is_fixed and setting.pool_on_host:
    train = dataclasses.replace(
      train, features=_host_rows(setting, backbone.dim)
    )
  test = _part(setting.mesh, setting.num_test, backbone.dim)
  # The weights that every round starts from stay on a device, and features that
  # no training changes.
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
  if setting.strategy in STRATEGIES:
    listed += _select_programs(setting, head, train, kept)
  return listed


def _outline(setting: Setting) -> Backbone:
  """Returns a model with the forms of its variables, replicated."""
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


def _part(mesh: Mesh, rows: int, dim: int) -> PlacedSplit:
  return PlacedSplit(
    features=split(mesh, (rows, dim)),
    labels=split(mesh, (rows,), dtype=jnp.int32),
    valid=split(mesh, (rows,), dtype=jnp.bool_),
  )


def _host_rows(setting: Setting, dim: int) -> HostRows:
  numbers = split(setting.mesh, (setting.num_train,), dtype=jnp.int32)
  # Rows that take no memory.
  source = InMemory(np.broadcast_to(np.float32(0.0), (setting.num_train, dim)))
  return HostRows(numbers, source)


def _embed(setting: Setting, backbone: Backbone, kept: Any) -> Program:
  # Every process embeds images of its own.
  mesh = topology.mesh_of_first_process(setting.mesh)
  return program.make(
    "features of a batch",
    embedding._embed_batch,
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
  """Returns a step of fine-tuning, on the largest batch of a run."""
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
  # As in a run: a batch that does not divide is replicated.
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
  setting: Setting, head: LinearHead, train: PlacedSplit, kept: Any
) -> list[Program]:
  """Returns DECERN's programs on the whole pool."""
  mesh, classes = setting.mesh, setting.num_classes
  pool, dim = setting.num_train, head.kernel.shape[0]
  probs = split(mesh, (pool, classes))
  scores = split(mesh, (pool,))
  candidates = split(mesh, (pool,), dtype=jnp.bool_)
  anchors = Anchors(
    whole(mesh, (classes, dim)), whole(mesh, (classes, classes))
  )
  block_size, tile_size = scoring._block_sizes(classes, None)
  make = functools.partial(program.make, remedy=MORE_DEVICES)
  predict = make(
    "predictions",
    embedding.predict,
    head,
    train.features,
    kept=kept,
    is_multi_label=False,
  )
  kept = [*kept, probs, candidates]
  return [
    predict,
    make(
      "anchors",
      scoring._class_anchors,
      train.features,
      probs,
      train.labels,
      kept=kept,
      num_classes=classes,
    ),
    make(
      "scores",
      scoring._discrepancy_confusion,
      train.features,
      probs,
      anchors,
      head,
      candidates,
      kept=kept,
      num_bins=NUM_BINS,
      num_top_bins=NUM_TOP_BINS,
      block_size=block_size,
      tile_size=tile_size,
    ),
    make(
      "selection",
      selection._select_by_score,
      _key(mesh),
      train.features,
      scores,
      anchors,
      candidates,
      kept=kept,
      max_steps=diversity.MAX_STEPS,
      tolerance=diversity.TOLERANCE,
      block_size=diversity.block_rows(dim),
      budget=setting.budget,
      # Numbers, of any value, to the program.
      uncertainty_gamma=0.0,
      diversity_gamma=0.0,
    ),
  ]


def _key(mesh: Mesh) -> jax.ShapeDtypeStruct:
  key = jax.eval_shape(lambda: jax.random.key(0))
  return whole(mesh, key.shape, dtype=key.dtype)
