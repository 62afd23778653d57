"""The pool of the tests of strategies: one shape, on one device or eight.

Compiling takes most of the time, so tests vary values and masks, not shapes,
and select `BUDGET` examples wherever they can.
"""

from collections.abc import Callable
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from decern_jax.distributed.sharding import make_mesh, place_pool
from decern_jax.ops.head import LinearHead
from decern_jax.strategies import STRATEGIES, Pool, Selection
from tests import oracle

# No multiple of a number of shards.
ROWS = 203
DIM = 12
CLASSES = 6
# As many as classes, so that k-means has one program for both.
BUDGET = 6
# Neither labeled nor candidates: a strategy must not read their values.
OUTSIDE = np.arange(ROWS) % 7 == 5
LABELED = (np.arange(ROWS) % 9 == 4) & ~OUTSIDE
CANDIDATES = ~LABELED & ~OUTSIDE
NO_ROWS = np.zeros(ROWS, bool)
# Large, but its square is a float32.
GARBAGE = 1e15
# The last class has no label.
LABELS = np.where(LABELED, np.arange(ROWS) % (CLASSES - 1), -1)


def make_problem(seed: int = 0) -> oracle.Problem:
  """A problem whose features lie in groups."""
  problem = oracle.make_problem(seed, pool=ROWS, dim=DIM, classes=CLASSES)
  groups = np.random.default_rng(seed).integers(0, 15, ROWS)
  shifts = np.random.default_rng(seed + 1).normal(size=(15, DIM))
  features = 0.6 * problem.features + 2.0 * shifts[groups]
  features = features.astype(np.float32)
  probs = oracle.predict(features, problem.kernel, problem.bias)
  return problem._replace(features=features, probs=probs.astype(np.float32))


PROBLEM = make_problem()
FEATURES, PROBS = PROBLEM.features, PROBLEM.probs
KERNEL, BIAS = PROBLEM.kernel, PROBLEM.bias
# Probabilities of several labels per example: their sum is not 1.
LOGITS = FEATURES.astype(np.float64) @ KERNEL + BIAS
LABEL_PROBS = (1.0 / (1.0 + np.exp(-LOGITS))).astype(np.float32)
PREVIOUS_PROBS = np.random.default_rng(7).random((ROWS, CLASSES), np.float32)
AUXILIARY = np.random.default_rng(8).normal(size=ROWS).astype(np.float32)
MULTI_LABELS = np.where(
  LABELED[:, None],
  np.random.default_rng(4).integers(0, 2, LABEL_PROBS.shape),
  -1,
)


def make_pool(
  *,
  num_devices: int = 1,
  is_multi_label: bool = False,
  garbage: float | None = None,
  order: np.ndarray | None = None,
  **values: np.ndarray,
) -> Pool:
  """Makes a pool with all that a strategy may need.

  Args:
    num_devices: Devices that it is split over.
    is_multi_label: Whether an example has several labels.
    garbage: Value of rows that do not count, padding included; None: the
      padding is zero, and the other rows are as they are.
    order: Order of the rows; None: as they are.
    **values: Other fields, and `labeled`, a mask of the examples with labels.
  """
  labeled = values.pop("labeled", LABELED)
  labels = MULTI_LABELS if is_multi_label else LABELS
  is_labeled = labeled.reshape(-1, *[1] * (labels.ndim - 1))
  classes = np.arange(len(labeled)) % (CLASSES - 1)
  missing = np.repeat(classes[:, None] % 2, CLASSES, 1)
  missing = missing if is_multi_label else classes
  if len(labeled) == ROWS:
    missing = np.where(labels >= 0, labels, missing)
  fields = {
    "candidates": CANDIDATES,
    "features": FEATURES,
    "probs": LABEL_PROBS if is_multi_label else PROBS,
    "labels": np.where(is_labeled, missing, -1),
    "previous_probs": PREVIOUS_PROBS,
    "auxiliary": AUXILIARY,
    **values,
  }
  mesh = make_mesh(num_devices)
  outside = ~(fields["candidates"] | labeled)
  placed = {}
  for name, rows in fields.items():
    kind = {"candidates": bool, "labels": np.int32}.get(name, np.float32)
    rows = np.asarray(rows, kind)
    padding = -1 if name == "labels" else 0
    if garbage is not None and kind is np.float32:
      rows = rows.copy()
      rows[outside] = padding = garbage
    if order is not None:
      rows = rows[order]
    size = -len(rows) % num_devices
    rows = np.pad(
      rows,
      ((0, size), *[(0, 0)] * (rows.ndim - 1)),
      constant_values=padding,
    )
    # As users pass arrays: tests that do so have the same programs.
    placed[name] = (
      place_pool(rows, mesh) if num_devices > 1 else jnp.asarray(rows)
    )
  return Pool(**placed, head=LinearHead(jnp.asarray(KERNEL), jnp.asarray(BIAS)))


def select(
  name: str,
  pool: Pool,
  *,
  is_multi_label: bool = False,
  seed: int = 0,
  budget: int = BUDGET,
  **options,
) -> Selection:
  """Selects from a pool that has no more than the strategy declares."""
  strategy = STRATEGIES[name]
  kept: dict[str, Any] = {
    "candidates": pool.candidates,
    "pending": pool.pending,
  }
  kept |= {need: getattr(pool, need) for need in strategy.needs}
  form = strategy.form(is_multi_label=is_multi_label)
  assert form is not None
  return form(
    jax.random.key(seed),
    Pool(**kept),
    budget=budget,
    **strategy.choose_options(options),
  )


def change(pool: Pool, **fields) -> Pool:
  """Returns a pool with other fields."""
  return dataclasses.replace(pool, **fields)


def assert_distinct_candidates(
  indices, *, candidates=CANDIDATES, budget=None
) -> None:
  indices = np.asarray(indices)
  assert indices.dtype == np.int32
  assert indices.shape == (len(indices) if budget is None else budget,)
  assert len(np.unique(indices)) == len(indices)
  assert candidates[indices].all()


def highest(scores, count: int, *, candidates=CANDIDATES) -> np.ndarray:
  """The candidates with the highest scores, the lowest index first."""
  ranked = np.where(candidates, scores, -np.inf)
  return np.argsort(-ranked, kind="stable")[:count]


def temporary_floats(select: Callable, pool: Pool, **options) -> float:
  """The most floats that a selection holds beside the pool."""
  jitted = jax.jit(lambda key, pool: select(key, pool, **options).indices)
  compiled = jitted.lower(jax.random.key(0), pool).compile()
  analysis = compiled.memory_analysis()
  assert analysis is not None
  return analysis.temp_size_in_bytes / 4


def wide_pool(*, rows: int, dim: int, classes: int) -> Pool:
  """A pool of zeros, to measure what a selection holds."""
  return Pool(
    candidates=jnp.ones(rows, bool),
    features=jnp.zeros((rows, dim)),
    probs=jnp.zeros((rows, classes)),
    labels=jnp.full(rows, -1, jnp.int32),
    head=LinearHead(jnp.zeros((dim, classes)), jnp.zeros(classes)),
  )
