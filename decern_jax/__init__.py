"""Deep active learning for images in JAX."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from decern_jax.annotation.loop import Loop
  from decern_jax.ops.anchors import Anchors, class_anchors
  from decern_jax.ops.discrepancy import discrepancy_confusion
  from decern_jax.ops.head import LinearHead
  from decern_jax.ops.kmeans import Clusters, weighted_kmeans
  from decern_jax.ops.saliency import saliency_mask
  from decern_jax.strategies.api import (
    get_strategy,
    list_strategies,
    score,
    select,
  )
  from decern_jax.strategies.base import Pool, Selection, Strategy, register
  from decern_jax.strategies.decern import (
    calibrated_pick,
    select_decern,
    uncertainty_threshold,
  )
  from decern_jax.training.propagation import PoolGraph, make_graph, propagate

__all__ = [
  "Anchors",
  "Clusters",
  "LinearHead",
  "Loop",
  "Pool",
  "PoolGraph",
  "Selection",
  "Strategy",
  "calibrated_pick",
  "class_anchors",
  "discrepancy_confusion",
  "get_strategy",
  "list_strategies",
  "make_graph",
  "propagate",
  "register",
  "saliency_mask",
  "score",
  "select",
  "select_decern",
  "uncertainty_threshold",
  "weighted_kmeans",
]

# Imported on first use: the command line lists its verbs without JAX.
_HOMES = (
  "ops.anchors",
  "ops.discrepancy",
  "ops.head",
  "ops.kmeans",
  "ops.saliency",
  "strategies.api",
  "strategies.base",
  "strategies.decern",
  "annotation.loop",
  "training.propagation",
)


def __getattr__(name: str) -> Any:
  if name in __all__:
    for home in _HOMES:
      module = importlib.import_module(f"decern_jax.{home}")
      found = getattr(module, name, None)
      if getattr(found, "__module__", None) == module.__name__:
        # Later uses find it without this function.
        return globals().setdefault(name, found)
  raise AttributeError(f"module 'decern_jax' has no attribute {name!r}")


def __dir__() -> list[str]:
  return sorted([*globals(), *__all__])
