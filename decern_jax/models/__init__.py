"""Backbones by name, and the strict loading of their weights."""

from decern_jax.models import backbones
from decern_jax.models.backbone import (
  DTYPES,
  Backbone,
  assemble,
  with_one_stage,
)
from decern_jax.models.loading import RANDOM, create
from decern_jax.models.registry import (
  MODELS,
  SCOPES,
  ModelSpec,
  register,
  trainable_mask,
)

__all__ = [
  "DTYPES",
  "MODELS",
  "RANDOM",
  "SCOPES",
  "Backbone",
  "ModelSpec",
  "assemble",
  "backbones",
  "create",
  "register",
  "trainable_mask",
  "with_one_stage",
]
