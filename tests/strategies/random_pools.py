"""Larger pools for the tests of strategies, with rows that do not count."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from decern_jax.distributed.sharding import make_mesh, place_pool
from decern_jax.ops.head import LinearHead
from decern_jax.strategies import Pool
from tests import oracle

# No multiple of a number of shards.
ROWS = 203
CLASSES = 6
LABELED = np.arange(ROWS) % 9 == 4
# Neither labeled nor candidates: other rounds' leftovers.
OUTSIDE = np.arange(ROWS) % 7 == 5
LABELED &= ~OUTSIDE
CANDIDATES = ~LABELED & ~OUTSIDE
# Large, yet its square is a float32 still.
GARBAGE = np.float32(1e15)


def make_problem(seed: int = 0) -> oracle.Problem:
  """A problem whose features lie in groups."""
  problem = oracle.make_problem(seed, pool=ROWS, dim=12, classes=CLASSES)
  groups = np.random.default_rng(seed).integers(0, 15, ROWS)
  shifts = np.random.default_rng(seed + 1).normal(size=(15, 12))
  features = np.float32(0.6 * problem.features + 2.0 * shifts[groups])
  probs = oracle.predict(features, problem.kernel, problem.bias)
  return problem._replace(features=features, probs=np.float32(probs))


PROBLEM = make_problem()
# Probabilities of single labels: not one distribution over them.
LOGITS = np.float64(PROBLEM.features) @ PROBLEM.kernel + PROBLEM.bias
LABEL_PROBS = np.float32(1.0 / (1.0 + np.exp(-LOGITS)))


def make_pool(
  *,
  num_devices: int = 1,
  labeled: np.ndarray = LABELED,
  candidates: np.ndarray = CANDIDATES,
  features: np.ndarray = PROBLEM.features,
  probs: np.ndarray = PROBLEM.probs,
  is_multi_label: bool = False,
  garbage: float = 0.0,
) -> Pool:
  """A pool split over devices, with `garbage` in the rows that do not count."""
  mesh = make_mesh(num_devices)
  outside = ~(labeled | candidates)[:, None]
  labels = np.where(labeled, np.arange(len(labeled)) % (CLASSES - 1), -1)
  if is_multi_label:
    labels = np.repeat(np.where(labeled, labels % 2, -1)[:, None], CLASSES, 1)
    probs = LABEL_PROBS
  return Pool(
    candidates=place_pool(candidates, mesh),
    features=place_pool(np.where(outside, garbage, features), mesh),
    probs=place_pool(np.where(outside, garbage, probs), mesh),
    labels=place_padded_labels(labels.astype(np.int32), mesh),
    head=LinearHead(*map(jnp.asarray, PROBLEM.head)),
  )


def place_padded_labels(labels: np.ndarray, mesh) -> jax.Array:
  """Splits labels over devices; those of the padding are -1."""
  return place_pool(labels + 1, mesh) - 1


def assert_distinct_candidates(positions, *, candidates=CANDIDATES) -> None:
  positions = np.asarray(positions)
  assert positions.dtype == np.int32
  assert len(np.unique(positions)) == len(positions)
  assert candidates[positions].all()


def temporary_floats(select: Callable, pool: Pool, **options) -> float:
  """The floats that a selection holds at its height beside the pool."""
  jitted = jax.jit(lambda key, pool: select(key, pool, **options).positions)
  compiled = jitted.lower(jax.random.key(0), pool).compile()
  return compiled.memory_analysis().temp_size_in_bytes / 4


def wide_pool(*, rows: int, dim: int, classes: int) -> Pool:
  """A pool of zeros, to measure what a selection holds."""
  return Pool(
    candidates=jnp.ones(rows, bool),
    features=jnp.zeros((rows, dim)),
    probs=jnp.zeros((rows, classes)),
    labels=jnp.full(rows, -1, jnp.int32),
    head=LinearHead(jnp.zeros((dim, classes)), jnp.zeros(classes)),
  )


def highest(scores, count: int) -> np.ndarray:
  """The candidates with the highest scores, the lowest position first."""
  ranked = np.where(CANDIDATES, scores, -np.inf)
  return np.argsort(-ranked, kind="stable")[:count]
