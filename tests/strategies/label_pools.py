"""Pools of several labels per example, with all that a strategy may need."""

import numpy as np

from decern_jax.distributed.sharding import make_mesh, place_pool
from decern_jax.strategies import Pool
from tests.strategies import random_pools

ROWS, CLASSES = random_pools.ROWS, random_pools.CLASSES
CANDIDATES = random_pools.CANDIDATES
PROBS = random_pools.LABEL_PROBS
FEATURES = random_pools.PROBLEM.features
PREVIOUS_PROBS = np.random.default_rng(7).random((ROWS, CLASSES), np.float32)
LOSSES = np.random.default_rng(8).normal(size=ROWS).astype(np.float32)


def make_pool(
  *,
  num_devices: int = 1,
  candidates: np.ndarray = CANDIDATES,
  features: np.ndarray = FEATURES,
  losses: np.ndarray = LOSSES,
  garbage: float = 0.0,
) -> Pool:
  """A pool split over devices, with `garbage` in rows that do not count."""
  mesh = make_mesh(num_devices)
  outside = ~(random_pools.LABELED | candidates)
  pool = random_pools.make_pool(
    num_devices=num_devices,
    candidates=candidates,
    features=features,
    is_multi_label=True,
    garbage=garbage,
  )
  previous = np.where(outside[:, None], garbage, PREVIOUS_PROBS)
  return pool._replace(
    previous_probs=place_pool(np.float32(previous), mesh),
    predicted_losses=place_pool(
      np.float32(np.where(outside, garbage, losses)), mesh
    ),
  )


def highest(scores, count: int, *, candidates=CANDIDATES) -> np.ndarray:
  """The candidates with the highest scores, the lowest position first."""
  ranked = np.where(candidates, scores, -np.inf)
  return np.argsort(-ranked, kind="stable")[:count]
