"""Backbones by name, and the strict loading of their weights."""

from decern_jax.models.initialization import (
  RANDOM,
  create_random,
  load_or_draw,
)
from decern_jax.models.loading import (
  DTYPES,
  Backbone,
  assemble,
  create,
  with_one_stage,
)
from decern_jax.models.registry import MODELS, ModelSpec
from decern_jax.models.scope import SCOPES, trainable_mask

__all__ = [
  "DTYPES",
  "MODELS",
  "RANDOM",
  "SCOPES",
  "Backbone",
  "ModelSpec",
  "assemble",
  "create",
  "create_random",
  "load_or_draw",
  "trainable_mask",
  "with_one_stage",
]
