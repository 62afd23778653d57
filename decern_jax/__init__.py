"""Deep active learning for images in JAX."""

from decern_jax.ops.anchors import Anchors
from decern_jax.ops.head import LinearHead
from decern_jax.ops.kmeans import Clusters
from decern_jax.strategies.diversity import calibrated_pick, weighted_kmeans
from decern_jax.strategies.scoring import (
  class_anchors,
  discrepancy_confusion,
  saliency_mask,
  uncertainty_threshold,
)
from decern_jax.strategies.selection import select_decern

__all__ = [
  "Anchors",
  "Clusters",
  "LinearHead",
  "calibrated_pick",
  "class_anchors",
  "discrepancy_confusion",
  "saliency_mask",
  "select_decern",
  "uncertainty_threshold",
  "weighted_kmeans",
]
