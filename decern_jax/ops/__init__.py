"""Pure functions on arrays: no jit, no device, no configuration."""

from decern_jax.ops import (
  anchors,
  block,
  calibration,
  collective,
  decern,
  discrepancy,
  fusion,
  head,
  kmeans,
  saliency,
  seeding,
  similarity,
  statistics,
)

__all__ = [
  "anchors",
  "block",
  "calibration",
  "collective",
  "decern",
  "discrepancy",
  "fusion",
  "head",
  "kmeans",
  "saliency",
  "seeding",
  "similarity",
  "statistics",
]
