"""Networks that turn images into features, by name."""

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
  "SCOPES",
  "Backbone",
  "ModelSpec",
  "assemble",
  "create",
  "trainable_mask",
  "with_one_stage",
]
