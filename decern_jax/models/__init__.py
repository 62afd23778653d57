"""Networks that turn images into features, by name."""

from decern_jax.models.registry import MODELS, Backbone, ModelSpec, create

__all__ = ["MODELS", "Backbone", "ModelSpec", "create"]
