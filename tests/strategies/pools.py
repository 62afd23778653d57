"""A pool for the tests of strategies, on one device or more."""

import jax.numpy as jnp
import numpy as np

from decern_jax.distributed.sharding import make_mesh, place_pool
from decern_jax.ops.head import LinearHead
from decern_jax.strategies import Pool
from tests import oracle

# No multiple of a number of shards.
POOL = 43
PROBLEM = oracle.make_problem(pool=POOL)
LABELED = np.arange(POOL) % 5 == 3
NUM_CANDIDATES = int((~LABELED).sum())
LABELS = np.where(LABELED, np.arange(POOL) % 4, -1)


def make_pool(*, num_devices: int = 1) -> Pool:
  """Splits the pool over devices, as a run does."""
  mesh = make_mesh(num_devices)
  labeled = place_pool(LABELED, mesh)
  labels = place_pool(LABELS.astype(np.int32), mesh)
  valid = place_pool(np.ones(POOL, bool), mesh)
  return Pool(
    features=place_pool(PROBLEM.features, mesh),
    probs=place_pool(PROBLEM.probs, mesh),
    labels=jnp.where(labeled, labels, -1),
    candidates=valid & ~labeled,
    head=LinearHead(*map(jnp.asarray, PROBLEM.head)),
    previous_probs=place_pool(PROBLEM.probs[::-1], mesh),
    predicted_losses=place_pool(PROBLEM.probs[:, 0], mesh),
  )


def highest(scores, count: int) -> np.ndarray:
  """The candidates with the highest scores, the lowest position first."""
  ranked = np.where(LABELED, -np.inf, scores)
  return np.argsort(-ranked, kind="stable")[:count]
