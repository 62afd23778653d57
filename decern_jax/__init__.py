"""Deep active learning for images in JAX."""

from typing import TYPE_CHECKING, Any

from decern_jax.ops.anchors import Anchors, class_anchors
from decern_jax.ops.discrepancy import discrepancy_confusion
from decern_jax.ops.head import LinearHead
from decern_jax.ops.kmeans import Clusters, weighted_kmeans
from decern_jax.ops.saliency import saliency_mask
from decern_jax.strategies.api import list_strategies, score, select
from decern_jax.strategies.base import register
from decern_jax.strategies.decern import (
  calibrated_pick,
  select_decern,
  uncertainty_threshold,
)

if TYPE_CHECKING:
  from decern_jax.annotation.loop import Loop

__all__ = [
  "Anchors",
  "Clusters",
  "LinearHead",
  "Loop",
  "calibrated_pick",
  "class_anchors",
  "discrepancy_confusion",
  "list_strategies",
  "register",
  "saliency_mask",
  "score",
  "select",
  "select_decern",
  "uncertainty_threshold",
  "weighted_kmeans",
]


def __getattr__(name: str) -> Any:
  """Imports what costs time and is rarely needed."""
  if name == "Loop":
    from decern_jax.annotation.loop import Loop

    return Loop
  raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
