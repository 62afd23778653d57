"""Pure functions on arrays: no jit, no device, no configuration."""

from decern_jax.ops import (
  anchors,
  block,
  calibration,
  chance,
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
  uncertainty,
)

__all__ = [
  "anchors",
  "block",
  "calibration",
  "chance",
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
  "uncertainty",
]
