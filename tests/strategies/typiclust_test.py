"""Tests of decern_jax/strategies/typiclust.py."""

import jax
import jax.numpy as jnp
import numpy as np

from decern_jax.ops.kmeans import weighted_kmeans
from decern_jax.strategies import Pool, typiclust
from tests.strategies import pools
from tests.strategies.pools import BUDGET, CANDIDATES
from tests.table import each


def cluster(key, pool, budget) -> np.ndarray:
  """The assignments, -1 in rows that do not count."""
  members = pool.labeled | pool.candidates
  clusters = weighted_kmeans(
    key,
    pool.features,
    members.astype(np.float32),
    num_clusters=min(int(pool.labeled.sum()) + budget, 500),
    max_clusters=min(500, len(members)),
  )
  return np.where(members, clusters.assignments, -1)


def typicality(features, rows) -> np.ndarray:
  """The typicality of a cluster's candidates."""
  features = np.asarray(features, np.float64)
  num_neighbors = max(1, min(20, len(rows) // 2))
  values = []
  for i in rows:
    distances = sorted(
      np.linalg.norm(features[i] - features[j]) for j in rows if j != i
    )[:num_neighbors]
    values.append(1.0 / (np.mean(distances) + 1e-5) if distances else 0.0)
  return np.array(values)


def naive(key, pool, budget) -> list[int]:
  """Turns over the clusters, with what each has left."""
  assignments = cluster(key, pool, budget)
  labeled, candidates = np.asarray(pool.labeled), np.asarray(pool.candidates)
  clusters = []
  for c in np.unique(assignments[assignments >= 0]):
    rows = np.flatnonzero((assignments == c) & candidates)
    order = np.argsort(-typicality(pool.features, rows), kind="stable")
    num_labeled = (labeled & (assignments == c)).sum()
    size = (assignments == c).sum()
    clusters.append((size < 5, num_labeled, -size, c, list(rows[order])))
  taken = []
  for is_small in (False, True):
    chosen = sorted(c for c in clusters if c[0] == is_small)
    while any(c[-1] for c in chosen):
      taken += [c[-1].pop(0) for c in chosen if c[-1]]
  return taken[:budget]


def make_pool(features, labeled) -> Pool:
  return pools.make_pool(
    labeled=labeled,
    candidates=~labeled,
    features=np.asarray(features, np.float32),
    probs=np.zeros((len(features), 2), np.float32),
  )


class TestSelect:
  # With few candidates, clusters are exhausted and small ones have a turn.
  @each("num_candidates", [BUDGET + 2, int(CANDIDATES.sum())])
  def test_matches_naive_turns(self, key, num_candidates):
    few = np.flatnonzero(CANDIDATES)[-num_candidates:]
    candidates = np.isin(np.arange(pools.ROWS), few)
    pool = pools.make_pool(candidates=candidates)
    sizes = np.bincount(cluster(key, pool, BUDGET) + 1)[1:]
    assert sizes.min() < 5
    found = typiclust.select(key, pool, budget=BUDGET)
    np.testing.assert_array_equal(found.indices, naive(key, pool, BUDGET))

  def test_one_program_serves_any_number_of_labels(self, key):
    num_traces = []

    @jax.jit
    def select(key, pool):
      num_traces.append(1)
      return typiclust.select(key, pool, budget=BUDGET)

    for labeled in (pools.LABELED, pools.NO_ROWS):
      pool = pools.make_pool(labeled=labeled)
      found = select(key, pool)
      np.testing.assert_array_equal(found.indices, naive(key, pool, BUDGET))
    assert len(num_traces) == 1

  def test_scores_match_naive_neighbors_over_several_blocks(self, key):
    rows = np.arange(pools.ROWS)
    pool = make_pool(pools.FEATURES, rows < 0)
    found = typiclust.select(key, pool, budget=1)
    expected = typicality(pool.features, rows)
    np.testing.assert_allclose(np.asarray(found.scores), expected, rtol=1e-4)
    assert found.indices[0] == expected.argmax()

  def test_takes_the_middle_of_the_cluster_without_labels(self, key):
    near = np.array(
      [[0, 1], [1, 0], [-1, 0], [0, -1], [0, 0], [0, 2]], np.float32
    )
    features = np.concatenate([near, near + 100.0])
    pool = make_pool(features, np.arange(12) == 7)
    found = typiclust.select(key, pool, budget=1)
    np.testing.assert_array_equal(found.indices, [4])

  def test_passes_over_small_clusters(self, key):
    # The first four have no label, but are too few.
    features = np.random.default_rng(0).normal(size=(12, 2))
    features[:4] += 100.0
    pool = make_pool(features, np.arange(12) == 7)
    found = typiclust.select(key, pool, budget=1)
    assert found.indices[0] >= 4

  def test_holds_no_square_of_the_pool(self):
    pool = pools.wide_pool(rows=4096, dim=4, classes=2)

    def select(key, pool, *, budget):
      del key
      return typiclust._select(
        pool.features,
        jnp.zeros(4096, jnp.int32),
        pool.labeled,
        pool.candidates,
        budget=budget,
      )

    floats = pools.temporary_floats(select, pool, budget=9)
    assert floats < 4096**2 / 8
